// The bodies of the CUDA kernels, as templates over an execution policy, so that tests compile
// them for the host too and run them serially (cuda_body_on_host.cpp).
//
// A policy says which group of lanes this is and what lanes do together:
//   int64_t first_group(), group_step()   the groups this one stands for
//   int lane(), lanes()                   place in the group, and its size
//   A sum(A x)                            over the lanes of the group
//   void add(A* at, A x)                  atomically; A is float, double or int64_t
// A group handles one (image, query, head); its lanes share the channels.
#pragma once

#include <math.h>
#include <stdint.h>

#include "cuda_numbers.h"
#include "shapes.h"

namespace isda {
namespace msda {

constexpr int kInlineLevels = 64;

// Sizes and starts: inline, or on the device where the caller's tables lie.
struct LevelTable {
  const int64_t* shapes;  // (L, 2); null: use `levels`
  const int64_t* starts;
  int32_t levels[3 * kInlineLevels];  // height, width, start

  ISDA_BOTH Level operator[](int64_t i) const {
    if (shapes) return {shapes[2 * i], shapes[2 * i + 1], starts[i]};
    return {levels[3 * i], levels[3 * i + 1], levels[3 * i + 2]};
  }
};

// Where a point lies: rows of its four corners (as yx), -1 for one outside.
template <class A>
struct Place {
  bool inside;
  int64_t rows[4];
  A fx, fy;

  ISDA_BOTH A weight(int corner) const {
    return (corner & 2 ? fy : 1 - fy) * (corner & 1 ? fx : 1 - fx);
  }
};

template <class A>
ISDA_BOTH Place<A> place_point(A u, A v, const Level& level) {
  const A x = u * A(level.width) - A(0.5), y = v * A(level.height) - A(0.5);
  Place<A> place = {};
  place.inside = x > -1 && x < A(level.width) && y > -1 && y < A(level.height);
  if (!place.inside) return place;
  int64_t xi = int64_t(x), yi = int64_t(y);
  xi -= A(xi) > x;  // truncation and a step back: the floor in the arithmetic type
  yi -= A(yi) > y;
  place.fx = x - A(xi);
  place.fy = y - A(yi);
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t cx = xi + (corner & 1), cy = yi + (corner >> 1);
    const bool found = cx >= 0 && cx < level.width && cy >= 0 && cy < level.height;
    place.rows[corner] = found ? level.start + cy * level.width + cx : -1;
  }
  return place;
}

// Output of every group's (image, query, head); a lane computes kWidth channels at a time.
template <class T, class TL, class TW, int kWidth, class Policy>
ISDA_BOTH void forward_body(const ForwardArgs& args, const LevelTable& table, Policy policy) {
  using A = typename Number<T>::Arithmetic;
  const Sizes& s = args.sizes;
  const int64_t items = s.images * s.queries * s.heads, all_points = s.levels * s.points;
  const TL* locations = static_cast<const TL*>(args.locations.data);
  const TW* weights = static_cast<const TW*>(args.weights.data);
  for (int64_t item = policy.first_group(); item < items; item += policy.group_step()) {
    const int64_t image = item / s.heads / s.queries, head = item % s.heads;
    const T* base =
        static_cast<const T*>(args.value) + image * args.image_stride + head * args.head_stride;
    T* output = static_cast<T*>(args.output) + item * s.channels;
    for (int64_t c = policy.lane() * kWidth; c < s.channels; c += policy.lanes() * kWidth) {
      A sums[kWidth] = {};
      int64_t at = item * all_points;
      for (int64_t l = 0; l < s.levels; ++l) {
        const Level level = table[l];
        for (int64_t p = 0; p < s.points; ++p, ++at) {
          const Place<A> place = place_point(A(to_number(locations[2 * at])),
                                             A(to_number(locations[2 * at + 1])), level);
          if (!place.inside) continue;
          const A weight = A(to_number(weights[at]));
          for (int corner = 0; corner < 4; ++corner) {
            if (place.rows[corner] < 0) continue;
            const auto found = load_pack<kWidth>(base + place.rows[corner] * args.row_stride + c);
            const A share = place.weight(corner) * weight;
            for (int i = 0; i < kWidth; ++i) sums[i] += share * to_number(found.at[i]);
          }
        }
      }
      Pack<T, kWidth> rounded;
      for (int i = 0; i < kWidth; ++i) rounded.at[i] = from_number<T>(sums[i]);
      store_pack(output + c, rounded);
    }
  }
}

// Sums of grad_value, at the first channel of one image and head. Integers are added exactly, so
// their sum does not depend on the order; neither does that of numbers that are not finite.
template <class A>
struct GradSums {
  A* floating;  // null if not wanted
  int64_t* fixed;
  int exponent;

  template <class Policy>
  ISDA_BOTH void add(int64_t offset, A x, const Policy& policy) const {
    if (!fixed || !(x - x == 0)) return policy.add(floating + offset, x);
    policy.add(fixed + offset, int64_t(rint(scalbn(double(x), exponent))));
  }
};

template <class A>
ISDA_BOTH GradSums<A> sums_of(const BackwardArgs& args, int64_t begin) {
  A* floating = static_cast<A*>(args.grad_value);
  if (!floating || !args.fixed_grad_value) return {floating ? floating + begin : nullptr};
  return {floating + begin, args.fixed_grad_value + begin, *args.exponent};
}

// Gradients of every group's points; grad_value by atomic additions.
template <class T, class TL, class TW, class Policy>
ISDA_BOTH void backward_body(const BackwardArgs& args, const LevelTable& table, Policy policy) {
  using A = typename Number<T>::Arithmetic;
  const ForwardArgs& fwd = args.forward;
  const Sizes& s = fwd.sizes;
  const int64_t items = s.images * s.queries * s.heads, all_points = s.levels * s.points;
  const TL* locations = static_cast<const TL*>(fwd.locations.data);
  const TW* weights = static_cast<const TW*>(fwd.weights.data);
  TL* grad_locations = static_cast<TL*>(args.grad_locations.data);
  TW* grad_weights = static_cast<TW*>(args.grad_weights.data);
  for (int64_t item = policy.first_group(); item < items; item += policy.group_step()) {
    const int64_t image = item / s.heads / s.queries, head = item % s.heads;
    const T* base =
        static_cast<const T*>(fwd.value) + image * fwd.image_stride + head * fwd.head_stride;
    const T* upstream = static_cast<const T*>(args.grad_output) + item * s.channels;
    const GradSums<A> grad = sums_of<A>(args, (image * s.rows * s.heads + head) * s.channels);
    int64_t at = item * all_points;
    for (int64_t l = 0; l < s.levels; ++l) {
      const Level level = table[l];
      for (int64_t p = 0; p < s.points; ++p, ++at) {
        const Place<A> place = place_point(A(to_number(locations[2 * at])),
                                           A(to_number(locations[2 * at + 1])), level);
        const A weight = A(to_number(weights[at]));
        A d[4] = {};
        for (int corner = 0; place.inside && corner < 4; ++corner) {
          const int64_t row = place.rows[corner];
          if (row < 0) continue;
          const A share = place.weight(corner) * weight;
          for (int64_t c = policy.lane(); c < s.channels; c += policy.lanes()) {
            const A g = A(to_number(upstream[c]));
            d[corner] += g * A(to_number(base[row * fwd.row_stride + c]));
            if (grad.floating) grad.add(row * s.heads * s.channels + c, share * g, policy);
          }
          d[corner] = policy.sum(d[corner]);
        }
        if (policy.lane() != 0) continue;
        const A fx = place.fx, fy = place.fy;
        if (grad_weights)
          grad_weights[at] = from_number<TW>((1 - fy) * ((1 - fx) * d[0] + fx * d[1]) +
                                             fy * ((1 - fx) * d[2] + fx * d[3]));
        if (!grad_locations) continue;
        // An outside point has exactly zero, also if its weight is not finite.
        const A along_x = weight * A(level.width) * ((1 - fy) * (d[1] - d[0]) + fy * (d[3] - d[2]));
        const A along_y =
            weight * A(level.height) * ((1 - fx) * (d[2] - d[0]) + fx * (d[3] - d[1]));
        grad_locations[2 * at] = from_number<TL>(place.inside ? along_x : A(0));
        grad_locations[2 * at + 1] = from_number<TL>(place.inside ? along_y : A(0));
      }
    }
  }
}

// Call body(T(), TL(), TW()) with the types of value, locations and weights.
template <class Body>
void for_types(const ForwardArgs& args, const Body& body) {
  const bool wide_locations = args.locations.dtype == DType::kFloat;
  const bool wide_weights = args.weights.dtype == DType::kFloat;
  const auto for_16_bits = [&](auto t) {
    if (wide_locations) return wide_weights ? body(t, float(), float()) : body(t, float(), t);
    return wide_weights ? body(t, t, float()) : body(t, t, t);
  };
  switch (args.dtype) {
    case DType::kFloat:
      return body(float(), float(), float());
    case DType::kDouble:
      return body(double(), double(), double());
    case DType::kHalf:
      return for_16_bits(Half());
    case DType::kBFloat16:
      return for_16_bits(BFloat16());
  }
}

}  // namespace msda
}  // namespace isda
