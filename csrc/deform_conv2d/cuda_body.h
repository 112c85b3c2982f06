// The bodies of the CUDA kernels between the products of matrices: columns, and the gradients.
// What policies are is said in cuda_points.h.
#pragma once

#include <math.h>

#include "cuda_points.h"

namespace isda {
namespace dcn {

constexpr int kColumnPairs = 16;   // of tap and deform group in a unit of columns, at most
constexpr int kGradientPairs = 4;  // in a unit of gradients, at most

template <class A>
struct ColumnScratch {
  Points<A, kColumnPairs> unit;
};

template <class A>
struct GradientScratch {
  Points<A, kGradientPairs> unit;
  Slope<A> slopes[kGradientPairs * kPixels];
  Pack<A, kCornerCount> dots[kGradientPairs * kPixels * kMaxLanes];  // of each lane
};

// Whether channels can be loaded 16 bytes at a time, without a pack across groups.
template <class T>
bool can_pack(const ColumnArgs& args) {
  constexpr int64_t width = 16 / sizeof(T);
  const int64_t all = args.sizes.group_in | args.sizes.deform_in;
  return all % width == 0 && reinterpret_cast<uintptr_t>(args.input) % 16 == 0;
}

// Write columns, 16 bytes at a time where there are as many; only the second-level cache keeps
// them, for the product that reads them next.
template <class T, int kWidth>
ISDA_BOTH void write_columns(T* to, const Pack<T, kWidth>& pack) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(pack) % 16 == 0) {
    uint4 parts[sizeof(pack) / 16];
    memcpy(parts, &pack, sizeof(pack));
    for (size_t i = 0; i < sizeof(pack) / 16; ++i)
      __stcg(reinterpret_cast<uint4*>(to) + i, parts[i]);
  } else
#endif
    store_pack(to, pack);
}

template <class A>
ISDA_BOTH void write_number(const Result& result, int64_t at, A x) {
  switch (result.dtype) {
    case DType::kFloat:
      static_cast<float*>(result.data)[at] = float(x);
      return;
    case DType::kDouble:
      static_cast<double*>(result.data)[at] = double(x);
      return;
    case DType::kHalf:
      static_cast<Half*>(result.data)[at] = from_number<Half>(float(x));
      return;
    default:
      static_cast<BFloat16*>(result.data)[at] = from_number<BFloat16>(float(x));
  }
}

// Where a channel of a point stands among the columns of the slice.
ISDA_BOTH int64_t column_place(const ColumnArgs& args, int64_t pixel, int64_t tap, int64_t c) {
  const Sizes& s = args.sizes;
  if (s.groups == 1) return (pixel * s.taps + tap) * s.channels + c;
  const int64_t group = uint32_t(c) / uint32_t(s.group_in);
  return ((group * args.count + pixel) * s.taps + tap) * s.group_in + (c - group * s.group_in);
}

// Channels of the four corners of a point, kWidth at a time.
template <class T, int kWidth>
struct Corners {
  Pack<T, kWidth> at[kCornerCount];

  template <class A>
  ISDA_BOTH A sample(const Point<A>& point, int i) const {
    const A upper =
        point.shares[0] * to_number(at[0].at[i]) + point.shares[1] * to_number(at[1].at[i]);
    const A lower =
        point.shares[2] * to_number(at[2].at[i]) + point.shares[3] * to_number(at[3].at[i]);
    return upper + lower;
  }
};

template <int kWidth, class T, class A>
ISDA_BOTH Corners<T, kWidth> load_corners(const T* image, const Point<A>& point, int64_t channels) {
  Corners<T, kWidth> corners;
  for (int i = 0; i < kCornerCount; ++i)
    corners.at[i] = load_pack<kWidth>(image + point.rows[i] * channels);
  return corners;
}

// Columns of a slice, in the type of the input.
template <class T, int kWidth, class Policy>
ISDA_BOTH void columns_body(const ColumnArgs& args, const Cut& cut,
                            ColumnScratch<typename Number<T>::Arithmetic>& scratch,
                            const Policy& policy) {
  using A = typename Number<T>::Arithmetic;
  const Sizes& s = args.sizes;
  const int lanes = 1 << cut.lanes_log2;
  const auto& unit = scratch.unit;
  for (int64_t index = policy.first_unit(); index < cut.units; index += policy.unit_step()) {
    const Extent extent =
        start_unit(args, cut, index, scratch.unit, static_cast<Slope<A>*>(nullptr), policy);
    const int slots = extent.pairs * kPixels << cut.lanes_log2;
    for (int slot = policy.thread(); slot < slots; slot += policy.threads()) {
      const int i = slot >> cut.lanes_log2, pixel = i % kPixels, pair = i / kPixels;
      if (pixel >= extent.pixels) continue;
      const Point<A> point = unit.points[i];
      const int64_t channel = unit.group[pair] * s.deform_in;
      const T* image =
          static_cast<const T*>(args.input) + unit.image[pixel] * s.pixels * s.channels;
      for (int64_t c = (slot & (lanes - 1)) * kWidth; c < s.deform_in; c += lanes * kWidth) {
        T* to = static_cast<T*>(args.columns) +
                column_place(args, extent.first + pixel, unit.tap[pair], channel + c);
        if (point.rows[0] < 0) {
          write_columns(to, Pack<T, kWidth>());
          continue;
        }
        const auto corners = load_corners<kWidth>(image + channel + c, point, s.channels);
        Pack<T, kWidth> column;
        for (int w = 0; w < kWidth; ++w) column.at[w] = from_number<T>(corners.sample(point, w));
        write_columns(to, column);
      }
    }
  }
}

// Add shares of the columns' gradient to the pixels a point lies between. Integers are added
// exactly, so their sum does not depend on the order; neither does that of numbers not finite.
template <int kWidth, class A, class Policy>
ISDA_BOTH void scatter(const ColumnGradientArgs& args, const Point<A>& point, int found,
                       int64_t origin, const Pack<A, kWidth>& gradient, const Policy& policy) {
  for (int i = 0; i < kCornerCount; ++i) {
    if (!(found >> i & 1)) continue;
    const int64_t at = origin + point.rows[i] * args.slice.sizes.channels;
    A* floating = static_cast<A*>(args.grad_input) + at;
    A values[kWidth];
    for (int w = 0; w < kWidth; ++w) values[w] = point.shares[i] * gradient.at[w];
    if (!args.fixed_grad_input) {
      policy.template add<kWidth>(floating, values);
      continue;
    }
    for (int w = 0; w < kWidth; ++w) {
      const A x = values[w];
      if (x - x == 0)
        policy.add(args.fixed_grad_input + at + w,
                   int64_t(rint(scalbn(double(x), *args.exponent))));
      else
        policy.template add<1>(floating + w, &x);
    }
  }
}

// One lane's share of a point: its columns, its part of the gradient of the input, and the
// products of the columns' gradient with the four corners.
template <class T, int kWidth, class A, class Policy>
ISDA_BOTH Pack<A, kCornerCount> share_of_lane(const ColumnGradientArgs& args,
                                              const GradientScratch<A>& scratch, int i,
                                              int64_t slice_pixel, int lane, int lanes,
                                              const Policy& policy) {
  const ColumnArgs& slice = args.slice;
  const Sizes& s = slice.sizes;
  const auto& unit = scratch.unit;
  const int pixel = i % kPixels, pair = i / kPixels;
  const Point<A> point = unit.points[i];
  const int64_t channel = unit.group[pair] * s.deform_in;
  const int64_t image = unit.image[pixel] * s.pixels * s.channels;
  Pack<A, kCornerCount> dots = {};
  for (int64_t c = channel + lane * kWidth; c < channel + s.deform_in; c += lanes * kWidth) {
    A* at = static_cast<A*>(slice.columns) + column_place(slice, slice_pixel, unit.tap[pair], c);
    Pack<A, kWidth> column = {};
    if (point.rows[0] >= 0) {
      const auto corners =
          load_corners<kWidth>(static_cast<const T*>(slice.input) + image + c, point, s.channels);
      if (args.has_gradients) {
        const auto gradient = load_pack<kWidth>(at);
        for (int k = 0; k < kCornerCount; ++k) {
          for (int w = 0; w < kWidth; ++w)
            dots.at[k] += gradient.at[w] * A(to_number(corners.at[k].at[w]));
        }
        if (args.grad_input)
          scatter(args, point, scratch.slopes[i].found, image + c, gradient, policy);
      }
      for (int w = 0; w < kWidth; ++w) column.at[w] = corners.sample(point, w);
    }
    if (args.wants_columns) write_columns(at, column);
  }
  return dots;
}

// Gradients of a point's offset and mask from the products; exactly zero for a point outside.
template <class A, int kPairs>
ISDA_BOTH void finish_point(const ColumnGradientArgs& args, const Points<A, kPairs>& unit, int i,
                            const Slope<A>& slope, const Pack<A, kCornerCount>& dots) {
  const Sizes& s = args.slice.sizes;
  A d[kCornerCount];
  for (int k = 0; k < kCornerCount; ++k) d[k] = slope.found >> k & 1 ? dots.at[k] : A(0);
  const A fx = slope.fx, fy = slope.fy;
  const A along_y = slope.mask * ((1 - fx) * (d[2] - d[0]) + fx * (d[3] - d[1]));
  const A along_x = slope.mask * ((1 - fy) * (d[1] - d[0]) + fy * (d[3] - d[2]));
  const A value = (1 - fy) * ((1 - fx) * d[0] + fx * d[1]) + fy * ((1 - fx) * d[2] + fx * d[3]);
  const int pixel = i % kPixels;
  const int64_t plane = plane_of(s, unit, pixel, i / kPixels);
  const int64_t at = 2 * plane * s.out_pixels + unit.place[pixel];
  if (args.grad_offset.data) {
    write_number(args.grad_offset, at, slope.found ? along_y : A(0));
    write_number(args.grad_offset, at + s.out_pixels, slope.found ? along_x : A(0));
  }
  if (args.grad_mask.data)
    write_number(args.grad_mask, plane * s.out_pixels + unit.place[pixel],
                 slope.found ? value : A(0));
}

// All a slice contributes to the gradients but for the products of matrices.
template <class T, int kWidth, class Policy>
ISDA_BOTH void gradients_body(const ColumnGradientArgs& args, const Cut& cut,
                              GradientScratch<typename Number<T>::Arithmetic>& scratch,
                              const Policy& policy) {
  using A = typename Number<T>::Arithmetic;
  const int lanes = 1 << cut.lanes_log2;
  const bool wants_points = args.grad_offset.data || args.grad_mask.data;
  for (int64_t index = policy.first_unit(); index < cut.units; index += policy.unit_step()) {
    const Extent extent = start_unit(args.slice, cut, index, scratch.unit, scratch.slopes, policy);
    const int points = extent.pairs * kPixels;
    for (int slot = policy.thread(); slot < points << cut.lanes_log2; slot += policy.threads()) {
      const int i = slot >> cut.lanes_log2, pixel = i % kPixels;
      if (pixel >= extent.pixels) continue;
      scratch.dots[slot] = share_of_lane<T, kWidth>(args, scratch, i, extent.first + pixel,
                                                    slot & (lanes - 1), lanes, policy);
    }
    if (!wants_points) continue;
    policy.wait();
    for (int i = policy.thread(); i < points; i += policy.threads()) {
      if (i % kPixels >= extent.pixels) continue;
      Pack<A, kCornerCount> sums = {};
      for (int lane = 0; lane < lanes; ++lane) {
        for (int k = 0; k < kCornerCount; ++k)
          sums.at[k] += scratch.dots[(i << cut.lanes_log2) + lane].at[k];
      }
      finish_point(args, scratch.unit, i, scratch.slopes[i], sums);
    }
  }
}

// Call body(T(), width) with the type of the input and how many channels are loaded at once.
template <class Body>
void for_types(const ColumnArgs& args, const Body& body) {
  const auto with_width = [&](auto t) {
    constexpr int kWidth = 16 / sizeof(t);
    if (can_pack<decltype(t)>(args)) return body(t, std::integral_constant<int, kWidth>());
    return body(t, std::integral_constant<int, 1>());
  };
  with_type(args.dtype, with_width);
}

}  // namespace dcn
}  // namespace isda
