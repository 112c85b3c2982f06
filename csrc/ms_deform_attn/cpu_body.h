// Multi-scale deformable attention on the CPU; compiled once for every instruction set.
//
// The points of one (image, query, head) are prepared together, vectorised across points, into
// buffers on the stack; then every point is sampled, vectorised across channels. Points outside
// their level are dropped between the two steps, so no memory is read for them.
#pragma once

#include "../bilinear.h"
#include "point_table.h"
#include "shapes.h"

namespace isda {
namespace msda {
namespace {

constexpr int kMaxChannels = 1024;

// Where the points lie and what they weigh, as the caller gives them. Other operators have another
// source with the same members, which are called in this order.
template <class A>
class GivenPoints {
 public:
  GivenPoints(const ForwardArgs& args, const PointTable<A>& table) : args_(args), table_(table) {}

  // The (image, query) and the (image, query, head) that the next points belong to.
  ISDA_INLINE void start_query(int64_t) {}
  ISDA_INLINE void start_head(int64_t item) {
    begin_ = item * args_.sizes.levels * args_.sizes.points;
  }

  // Points [first, first + n) of this head: u and v in pixels, and weights.
  ISDA_INLINE void read(int64_t first, int n, Points<A>& points) const {
    alignas(64) A xy[2 * kChunk];
    copy_converted(args_.locations, 2 * (begin_ + first), 2 * n, xy);
    copy_converted(args_.weights, begin_ + first, n, points.weight);
    for (int i = 0; i < n; ++i) {
      points.u[i] = xy[2 * i] * table_.width[first + i] - A(0.5);
      points.v[i] = xy[2 * i + 1] * table_.height[first + i] - A(0.5);
    }
  }

 protected:
  const ForwardArgs& args_;
  const PointTable<A>& table_;
  int64_t begin_ = 0;
};

// Read n points and find their corners; the first of them is point `first` of the table.
template <class A, class Source>
ISDA_INLINE void place_points(Source& source, const PointTable<A>& table, int64_t first, int n,
                              Points<A>& p) {
  const A* widths = table.width + first;
  const A* heights = table.height + first;
  const int32_t* columns = table.columns + first;
  const int32_t* lines = table.lines + first;
  const int32_t* starts = table.start + first;
  source.read(first, n, p);
  for (int i = n; i % kLanes; ++i) {  // NaN is outside every level
    p.u[i] = p.v[i] = A(__builtin_nan(""));
    p.weight[i] = 0;
  }
  const int padded = (n + kLanes - 1) / kLanes * kLanes;
  for (int i = 0; i < padded; ++i) {
    place_point(p.u[i], p.v[i], widths[i], heights[i], columns[i], lines[i], starts[i], i, p);
  }
  list_points(n, p);
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
template <class T, class Source>
void forward(const ValueArgs& args, const PointTable<typename Arithmetic<T>::type>& table,
             Source source, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.sizes;
  const int64_t all_points = s.levels * s.points;
  Points<A> points;
  alignas(64) A sums[kMaxChannels];
  for (int64_t pair = begin; pair < end; ++pair) {
    const T* image = static_cast<const T*>(args.value) + pair / s.queries * args.image_stride;
    source.start_query(pair);
    for (int64_t m = 0; m < s.heads; ++m) {
      const int64_t item = pair * s.heads + m;
      source.start_head(item);
      for (int64_t c = 0; c < s.channels; ++c) sums[c] = 0;
      for (int64_t first = 0; first < all_points; first += kChunk) {
        const int n = int(all_points - first < kChunk ? all_points - first : kChunk);
        place_points(source, table, first, n, points);
        sample_all(image + m * args.head_stride, args.row_stride, points, s.channels, sums);
      }
      store_rounded(sums, s.channels, static_cast<T*>(args.output) + item * s.channels);
    }
  }
}

// Call body(T(), table) with the stored type and the table in its arithmetic type.
template <class Body>
ISDA_INLINE void with_table(DType dtype, const void* table, const Body& body) {
  with_type(dtype, [&](auto t) {
    using A = typename Arithmetic<decltype(t)>::type;
    body(t, *static_cast<const PointTable<A>*>(table));
  });
}

}  // namespace
}  // namespace msda
}  // namespace isda
