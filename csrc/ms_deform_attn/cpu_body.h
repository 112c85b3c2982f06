// Multi-scale deformable attention on the CPU; compiled once for every instruction set.
//
// The points of one (image, query, head) are prepared together, vectorised across points, into
// buffers on the stack; then every point is sampled, vectorised across channels. Points outside
// their level are dropped between the two steps, so no memory is read for them.
#pragma once

#include "point_table.h"
#include "simd.h"

namespace isda {
namespace msda {
namespace {

constexpr int kChunk = 256;  // points prepared at a time
constexpr int kLanes = 16;   // the buffers are filled in whole groups of this size
constexpr int kMaxChannels = 1024;

enum Corner : int32_t { k00 = 1, k01 = 2, k10 = 4, k11 = 8 };

// A chunk of points. The corner of larger x or y is step_x or step_y rows further; a corner
// outside the level stands on its neighbour inside and has weight 0.
template <class A>
struct Points {
  alignas(64) A u[kChunk], v[kChunk], weight[kChunk];
  alignas(64) A fx[kChunk], fy[kChunk];
  alignas(64) A c00[kChunk], c01[kChunk], c10[kChunk], c11[kChunk];  // bilinear times weight
  alignas(64) int32_t row[kChunk], step_x[kChunk], step_y[kChunk];
  alignas(64) int32_t corners[kChunk];  // which corners lie inside; 0 for a point outside
  alignas(64) int32_t order[kChunk];    // the points inside
  int count = 0;                        // how many
};

template <class A, class T>
ISDA_INLINE void copy_converted(const void* from, int64_t begin, int64_t n, A* out) {
  const T* p = static_cast<const T*>(from) + begin;
  for (int64_t i = 0; i < n; ++i) out[i] = A(to_arithmetic(p[i]));
}

// Elements [begin, begin + n) of an operand in the arithmetic type.
template <class A>
ISDA_INLINE void copy_converted(const Operand& from, int64_t begin, int64_t n, A* out) {
  switch (from.dtype) {
    case DType::kFloat:
      return copy_converted<A, float>(from.data, begin, n, out);
    case DType::kDouble:
      return copy_converted<A, double>(from.data, begin, n, out);
    case DType::kHalf:
      return copy_converted<A, Half>(from.data, begin, n, out);
    case DType::kBFloat16:
      return copy_converted<A, BFloat16>(from.data, begin, n, out);
  }
}

template <class A>
ISDA_INLINE void store_converted(const A* x, int64_t n, const Result& to, int64_t begin) {
  switch (to.dtype) {
    case DType::kFloat:
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(to.data)[begin + i] = float(x[i]);
      return;
    case DType::kDouble:
      for (int64_t i = 0; i < n; ++i) static_cast<double*>(to.data)[begin + i] = double(x[i]);
      return;
    case DType::kHalf:
      for (int64_t i = 0; i < n; ++i)
        from_arithmetic(float(x[i]), static_cast<Half*>(to.data)[begin + i]);
      return;
    case DType::kBFloat16:
      for (int64_t i = 0; i < n; ++i)
        from_arithmetic(float(x[i]), static_cast<BFloat16*>(to.data)[begin + i]);
      return;
  }
}

// Read n points: `at` is the first one's place in the operands.
template <class A>
ISDA_INLINE void read_points(const ForwardArgs& args, int64_t at, int n, Points<A>& points) {
  alignas(64) A xy[2 * kChunk];
  copy_converted(args.locations, 2 * at, 2 * n, xy);
  copy_converted(args.weights, at, n, points.weight);
  for (int i = 0; i < n; ++i) {
    points.u[i] = xy[2 * i];
    points.v[i] = xy[2 * i + 1];
  }
  for (int i = n; i % kLanes; ++i) {  // NaN is outside every level
    points.u[i] = points.v[i] = A(__builtin_nan(""));
    points.weight[i] = 0;
  }
}

// Find the corners of n points, the first of which is point `first` of the table.
template <class A>
ISDA_INLINE void place_points(const PointTable<A>& table, int64_t first, int n, Points<A>& p) {
  const A* widths = table.width + first;
  const A* heights = table.height + first;
  const int32_t* columns = table.columns + first;
  const int32_t* lines = table.lines + first;
  const int32_t* starts = table.start + first;
  const int padded = (n + kLanes - 1) / kLanes * kLanes;
  for (int i = 0; i < padded; ++i) {
    A x = p.u[i] * widths[i] - A(0.5), y = p.v[i] * heights[i] - A(0.5);
    const bool inside = (x > -1) & (x < widths[i]) & (y > -1) & (y < heights[i]);
    x = inside ? x : A(0);
    y = inside ? y : A(0);
    // Truncation and one step back is the floor in the arithmetic type, and vectorises everywhere.
    int32_t xi = int32_t(x), yi = int32_t(y);
    xi -= A(xi) > x;
    yi -= A(yi) > y;
    const A fx = x - A(xi), fy = y - A(yi);
    const int32_t left = xi >= 0, right = xi + 1 < columns[i];
    const int32_t upper = yi >= 0, lower = yi + 1 < lines[i];
    const A wx0 = left ? 1 - fx : A(0), wx1 = right ? fx : A(0);
    const A wy0 = upper ? 1 - fy : A(0), wy1 = lower ? fy : A(0);
    const A b00 = wy0 * wx0, b01 = wy0 * wx1, b10 = wy1 * wx0, b11 = wy1 * wx1;
    const A weight = p.weight[i];
    // An infinite weight must not make NaN of a corner outside.
    p.c00[i] = b00 == 0 ? A(0) : b00 * weight;
    p.c01[i] = b01 == 0 ? A(0) : b01 * weight;
    p.c10[i] = b10 == 0 ? A(0) : b10 * weight;
    p.c11[i] = b11 == 0 ? A(0) : b11 * weight;
    p.fx[i] = fx;
    p.fy[i] = fy;
    p.row[i] = starts[i] + (upper ? yi : 0) * columns[i] + (left ? xi : 0);
    p.step_x[i] = left & right;
    p.step_y[i] = (upper & lower) ? columns[i] : 0;
    const int32_t found =
        (upper & left) * k00 + (upper & right) * k01 + (lower & left) * k10 + (lower & right) * k11;
    p.corners[i] = inside ? found : 0;
  }
  p.count = 0;
  for (int i = 0; i < n; ++i) {
    p.order[p.count] = i;
    p.count += p.corners[i] != 0;
  }
}

// The four rows of one point.
template <class T>
struct Rows {
  T *r00, *r01, *r10, *r11;
};

template <class T, class A>
ISDA_INLINE Rows<T> rows_of(T* base, int64_t stride, const Points<A>& p, int i) {
  T* r00 = base + p.row[i] * stride;
  T* r10 = r00 + p.step_y[i] * stride;
  const int64_t right = p.step_x[i] * stride;
  return {r00, r00 + right, r10, r10 + right};
}

// sums[0 .. kVecs * lanes) += the samples of all points; rows begin at the same channel.
template <int kVecs, class T, class A>
ISDA_INLINE void sample(const T* base, int64_t stride, const Points<A>& p, A* sums) {
  using Vec = typename Arithmetic<T>::Vec;
  constexpr int lanes = kBytes / sizeof(A);
  // Independent chains of additions hide their latency, as far as the registers go.
  constexpr int chains = 4 * kVecs <= kRegisters / 2 ? 4 : 2;
  Vec total[chains][kVecs] = {};
  for (int k = 0; k < p.count; ++k) {
    const int i = p.order[k];
    const Rows<const T> rows = rows_of(base, stride, p, i);
    const Vec c00 = broadcast(p.c00[i]), c01 = broadcast(p.c01[i]);
    const Vec c10 = broadcast(p.c10[i]), c11 = broadcast(p.c11[i]);
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) {
      total[0][j] += c00 * load(rows.r00 + j * lanes);
      total[1][j] += c01 * load(rows.r01 + j * lanes);
      total[2 % chains][j] += c10 * load(rows.r10 + j * lanes);
      total[3 % chains][j] += c11 * load(rows.r11 + j * lanes);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kVecs; ++j) {
    Vec all = total[0][j] + total[1][j];
    if (chains == 4) all += total[2 % chains][j] + total[3 % chains][j];
    store(sums + j * lanes, load(sums + j * lanes) + all);
  }
}

// The same for channels that do not fill a register.
template <class T, class A>
ISDA_INLINE void sample_rest(const T* base, int64_t stride, const Points<A>& p, int n, A* sums) {
  for (int k = 0; k < p.count; ++k) {
    const int i = p.order[k];
    const Rows<const T> rows = rows_of(base, stride, p, i);
    const A c00 = p.c00[i], c01 = p.c01[i], c10 = p.c10[i], c11 = p.c11[i];
    for (int c = 0; c < n; ++c) {
      sums[c] += (c00 * to_arithmetic(rows.r00[c]) + c01 * to_arithmetic(rows.r01[c])) +
                 (c10 * to_arithmetic(rows.r10[c]) + c11 * to_arithmetic(rows.r11[c]));
    }
  }
}

template <class T, class A>
ISDA_INLINE void sample_all(const T* base, int64_t stride, const Points<A>& p, int64_t channels,
                            A* sums) {
  constexpr int64_t lanes = kBytes / sizeof(A);
  int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) sample<4>(base + c, stride, p, sums + c);
  switch ((channels - c) / lanes) {
    case 3:
      sample<3>(base + c, stride, p, sums + c);
      break;
    case 2:
      sample<2>(base + c, stride, p, sums + c);
      break;
    case 1:
      sample<1>(base + c, stride, p, sums + c);
      break;
  }
  c += (channels - c) / lanes * lanes;
  if (c < channels) sample_rest(base + c, stride, p, int(channels - c), sums + c);
}

// Outputs of the (image, query) pairs [begin, end).
template <class T>
void forward(const ForwardArgs& args, const PointTable<typename Arithmetic<T>::type>& table,
             int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.sizes;
  const int64_t all_points = s.levels * s.points;
  Points<A> points;
  alignas(64) A sums[kMaxChannels];
  for (int64_t pair = begin; pair < end; ++pair) {
    const T* image = static_cast<const T*>(args.value) + pair / s.queries * args.image_stride;
    for (int64_t m = 0; m < s.heads; ++m) {
      const int64_t item = pair * s.heads + m;
      for (int64_t c = 0; c < s.channels; ++c) sums[c] = 0;
      for (int64_t first = 0; first < all_points; first += kChunk) {
        const int n = int(all_points - first < kChunk ? all_points - first : kChunk);
        read_points(args, item * all_points + first, n, points);
        place_points(table, first, n, points);
        sample_all(image + m * args.head_stride, args.row_stride, points, s.channels, sums);
      }
      store_rounded(sums, s.channels, static_cast<T*>(args.output) + item * s.channels);
    }
  }
}

}  // namespace
}  // namespace msda
}  // namespace isda
