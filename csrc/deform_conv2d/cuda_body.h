// The bodies of the CUDA kernels, as templates over an execution policy, so that tests compile
// them for the host too and run them serially (cuda_body_on_host.cpp).
//
// A unit of work is a run of output pixels and some pairs of tap and deform group. A block first
// finds its points, each once, and keeps them in shared memory; then a few lanes share the
// channels of each point. A policy says which block this is and what its threads do together:
//   int64_t first_unit(), unit_step()     the units this block stands for
//   int thread(), threads()               place in the block, and its size
//   void wait()                           for all threads of the block
//   void add<kWidth>(A* at, const A* x)   atomically, every number by itself
//   void add(int64_t* at, int64_t x)      atomically
#pragma once

#include <math.h>

#include "../ms_deform_attn/cuda_numbers.h"
#include "column_shapes.h"

namespace isda {
namespace dcn {

using msda::from_number;
using msda::load_pack;
using msda::Number;
using msda::Pack;
using msda::store_pack;
using msda::to_number;

constexpr int kPixels = 32;        // of a unit of the kernels here
constexpr int kColumnPairs = 16;   // of a unit of columns, at most
constexpr int kGradientPairs = 4;  // of a unit of gradients, at most
constexpr int kMaxLanes = 8;       // eight of 16 bytes are a cache line
constexpr int kCornerCount = 4;    // 00, 01, 10, 11 as yx

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

ISDA_BOTH int64_t divide_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit; }

// How the work of a slice is cut; made by the host.
struct Cut {
  int64_t chunks;  // of the pairs
  int64_t units;
  int pairs;  // of a chunk
  int lanes_log2;
};

inline Cut cut_work(const ColumnArgs& args, int most_pairs, int width, int pixels = kPixels) {
  const int64_t pairs = args.sizes.taps * args.sizes.deform_groups;
  Cut cut;
  cut.chunks = divide_up(pairs, most_pairs);
  cut.pairs = int(divide_up(pairs, cut.chunks));
  cut.units = divide_up(args.count, pixels) * cut.chunks;
  // The number of lanes that leaves the fewest of them idle; of equal ones the largest.
  const int64_t packs = args.sizes.deform_in / width;
  cut.lanes_log2 = 0;
  for (int i = 1; 1 << i <= kMaxLanes; ++i) {
    const int64_t most = int64_t(1) << i, best = int64_t(1) << cut.lanes_log2;
    if (divide_up(packs, most) * most <= divide_up(packs, best) * best) cut.lanes_log2 = i;
  }
  return cut;
}

// Whether channels can be loaded 16 bytes at a time, without a pack across groups.
template <class T>
bool can_pack(const ColumnArgs& args) {
  constexpr int64_t width = 16 / sizeof(T);
  const int64_t all = args.sizes.group_in | args.sizes.deform_in;
  return all % width == 0 && reinterpret_cast<uintptr_t>(args.input) % 16 == 0;
}

template <class A>
ISDA_BOTH A read_number(const Operand& operand, int64_t at) {
  switch (operand.dtype) {
    case DType::kFloat:
      return A(static_cast<const float*>(operand.data)[at]);
    case DType::kDouble:
      return A(static_cast<const double*>(operand.data)[at]);
    case DType::kHalf:
      return A(to_number(static_cast<const Half*>(operand.data)[at]));
    default:
      return A(to_number(static_cast<const BFloat16*>(operand.data)[at]));
  }
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

// What sampling needs of a point. A corner outside the input stands on a neighbour inside and has
// share 0.
template <class A>
struct alignas(16) Point {
  int32_t rows[kCornerCount];  // pixels of the image; rows[0] is -1 for a point outside
  A shares[kCornerCount];      // bilinear weight times mask
};

// What its gradient needs besides.
template <class A>
struct Slope {
  A fx, fy, mask;
  int found;  // bit i: corner i lies inside
};

// The points of a unit, in shared memory: point i is that of pair i / kRun, pixel i % kRun.
template <class A, int kPairs, int kRun = kPixels>
struct Points {
  Point<A> points[kPairs * kRun];
  int64_t image[kRun], place[kRun];  // of the pixel: its image, its index there
  int64_t top[kRun], left[kRun];     // where its kernel lies
  int64_t group[kPairs], tap[kPairs], down[kPairs], right[kPairs];
};

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

// The unit at hand.
struct Extent {
  int64_t first;  // pixel in the slice
  int pixels, pairs;
};

template <class A>
ISDA_BOTH void place_point(A y, A x, A mask, const Sizes& s, Point<A>& point, Slope<A>* slope) {
  const bool inside = x > -1 && x < A(s.width) && y > -1 && y < A(s.height);
  if (slope) *slope = {A(0), A(0), mask, 0};
  point.rows[0] = -1;
  if (!inside) return;
  // Truncation and a step back is the floor in the arithmetic type.
  int32_t xi = int32_t(x), yi = int32_t(y);
  xi -= A(xi) > x;
  yi -= A(yi) > y;
  const int32_t width = int32_t(s.width), height = int32_t(s.height);
  const A fx = x - A(xi), fy = y - A(yi);
  const bool left = xi >= 0, right = xi + 1 < width, upper = yi >= 0, lower = yi + 1 < height;
  const int32_t x0 = left ? xi : 0, x1 = right ? xi + 1 : x0;
  const int32_t y0 = upper ? yi : 0, y1 = lower ? yi + 1 : y0;
  const A wx0 = left ? 1 - fx : A(0), wx1 = right ? fx : A(0);
  const A wy0 = upper ? 1 - fy : A(0), wy1 = lower ? fy : A(0);
  const A shares[kCornerCount] = {wy0 * wx0, wy0 * wx1, wy1 * wx0, wy1 * wx1};
  point.rows[0] = y0 * width + x0;
  point.rows[1] = y0 * width + x1;
  point.rows[2] = y1 * width + x0;
  point.rows[3] = y1 * width + x1;
  // An infinite mask must not make NaN of a corner outside.
  for (int i = 0; i < kCornerCount; ++i) point.shares[i] = shares[i] == 0 ? A(0) : shares[i] * mask;
  if (slope)
    *slope = {fx, fy, mask,
              int(upper & left) | int(upper & right) << 1 | int(lower & left) << 2 |
                  int(lower & right) << 3};
}

// Index of (image, deform group, tap, place) in the mask.
template <class A, int kPairs, int kRun>
ISDA_BOTH int64_t plane_of(const Sizes& s, const Points<A, kPairs, kRun>& unit, int pixel,
                           int pair) {
  return (unit.image[pixel] * s.deform_groups + unit.group[pair]) * s.taps + unit.tap[pair];
}

// Find the points of a unit; all threads of the block see them afterwards.
template <class A, int kPairs, int kRun, class Policy>
ISDA_BOTH Extent start_unit(const ColumnArgs& args, const Cut& cut, int64_t index,
                            Points<A, kPairs, kRun>& unit, Slope<A>* slopes, const Policy& policy) {
  const Sizes& s = args.sizes;
  const int64_t first = index / cut.chunks * kRun, pair = index % cut.chunks * cut.pairs;
  const int64_t pixels = args.count - first, pairs = s.taps * s.deform_groups - pair;
  const Extent extent = {first, int(pixels < kRun ? pixels : kRun),
                         int(pairs < cut.pairs ? pairs : cut.pairs)};
  policy.wait();  // until nobody reads the points of the last unit any more
  for (int i = policy.thread(); i < kRun + kPairs; i += policy.threads()) {
    if (i < extent.pixels) {
      const int64_t pixel = args.first + first + i, place = pixel % s.out_pixels;
      unit.image[i] = pixel / s.out_pixels;
      unit.place[i] = place;
      unit.top[i] = place / s.out_width * s.stride_h - s.padding_h;
      unit.left[i] = place % s.out_width * s.stride_w - s.padding_w;
    } else if (i >= kRun && i < kRun + extent.pairs) {
      // Columns have all channels of a tap together, so the group is the faster index.
      const int64_t tap = (pair + i - kRun) / s.deform_groups;
      unit.tap[i - kRun] = tap;
      unit.group[i - kRun] = (pair + i - kRun) % s.deform_groups;
      unit.down[i - kRun] = tap / s.taps_w * s.dilation_h;
      unit.right[i - kRun] = tap % s.taps_w * s.dilation_w;
    }
  }
  policy.wait();
  for (int i = policy.thread(); i < extent.pairs * kRun; i += policy.threads()) {
    const int p = i % kRun, q = i / kRun;
    if (p >= extent.pixels) continue;
    const int64_t plane = plane_of(s, unit, p, q);
    const int64_t at = 2 * plane * s.out_pixels + unit.place[p];
    const A y = A(unit.top[p] + unit.down[q]) + read_number<A>(args.offset, at);
    const A x = A(unit.left[p] + unit.right[q]) + read_number<A>(args.offset, at + s.out_pixels);
    const A mask =
        args.mask.data ? read_number<A>(args.mask, plane * s.out_pixels + unit.place[p]) : A(1);
    place_point(y, x, mask, s, unit.points[i], slopes ? slopes + i : nullptr);
  }
  policy.wait();
  return extent;
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
  switch (args.dtype) {
    case DType::kFloat:
      return with_width(float());
    case DType::kDouble:
      return with_width(double());
    case DType::kHalf:
      return with_width(Half());
    case DType::kBFloat16:
      return with_width(BFloat16());
  }
}

}  // namespace dcn
}  // namespace isda
