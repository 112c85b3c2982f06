// The points of deformable convolution on CUDA: how the work is cut, and finding the points of a
// unit. Bodies here and in cuda_body.h are templates over an execution policy, so that tests
// compile them for the host too and run them serially (cuda_body_on_host.cpp).
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

constexpr int kPixels = 32;      // of a unit, where nothing else is said
constexpr int kMaxLanes = 8;     // eight of 16 bytes are a cache line
constexpr int kCornerCount = 4;  // 00, 01, 10, 11 as yx

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

}  // namespace dcn
}  // namespace isda
