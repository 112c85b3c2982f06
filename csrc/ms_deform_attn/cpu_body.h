// Multi-scale deformable attention on the CPU; compiled once for every instruction set.
//
// One head of an image after the other, from a copy of its own where that pays (cpu_head.h). The
// points of some queries are prepared together, vectorised across points, into buffers on the
// stack; then every point is sampled, vectorised across channels. Points outside their level are
// dropped between the two steps, so no memory is read for them.
#pragma once

#include "../bilinear.h"
#include "cpu_head.h"
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
  // Whether the points of several heads may be read before the first of them are used.
  static constexpr bool kReadsAhead = true;

  GivenPoints(const ForwardArgs& args, const PointTable<A>& table) : args_(args), table_(table) {}

  // The (image, query) and the (image, query, head) that the next points belong to.
  ISDA_INLINE void start_query(int64_t) {}
  ISDA_INLINE void start_head(int64_t item) {
    begin_ = item * args_.sizes.levels * args_.sizes.points;
  }

  // Ask for points [first, first + n) of a head that will be read soon.
  ISDA_INLINE void prefetch(int64_t item, int64_t first, int64_t n) const {
    const int64_t begin = item * args_.sizes.levels * args_.sizes.points + first;
    msda::prefetch(args_.locations, 2 * begin, 2 * n);
    msda::prefetch(args_.weights, begin, n);
  }

  // Points [first, first + n) of this head: u and v in pixels, and weights.
  ISDA_INLINE void read(int64_t first, int n, A* u, A* v, A* weight) {
    copy_pairs(args_.locations, begin_ + first, n, u, v);
    copy_converted(args_.weights, begin_ + first, n, weight);
#pragma GCC ivdep  // or vectors are used only after a comparison of addresses
    for (int64_t i = 0; i < n; ++i) {
      u[i] = u[i] * table_.width[first + i] - A(0.5);
      v[i] = v[i] * table_.height[first + i] - A(0.5);
    }
  }

 protected:
  const ForwardArgs& args_;
  const PointTable<A>& table_;
  int64_t begin_ = 0;
};

ISDA_INLINE int in_whole_lanes(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Read n points into the places from `at` on and find their corners; the first of them is point
// `first` of the table. Returns how many lie inside; p.order[at ...] lists them.
template <class A, class Source>
ISDA_INLINE int place_points(Source& source, const PointTable<A>& table, int64_t first, int n,
                             int at, Points<A>& p) {
  const A* widths = table.width + first;
  const A* heights = table.height + first;
  const int32_t* columns = table.columns + first;
  const int32_t* lines = table.lines + first;
  const int32_t* starts = table.start + first;
  source.read(first, n, p.u + at, p.v + at, p.weight + at);
  for (int i = n; i % kLanes; ++i) {  // NaN is outside every level
    p.u[at + i] = p.v[at + i] = A(__builtin_nan(""));
    p.weight[at + i] = 0;
  }
  const int padded = in_whole_lanes(n);
  int inside = 0;
  for (int64_t k = 0; k < padded; k += kLanes) {
    const int64_t to = at + k;  // 64 bits: sums of `int` are no places in a row to the compiler
#pragma GCC ivdep               // or vectors are used only after a comparison of addresses
    for (int64_t j = 0; j < kLanes; ++j) {
      place_point(p.u[to + j], p.v[to + j], widths[k + j], heights[k + j], columns[k + j],
                  lines[k + j], starts[k + j], to + j, p);
    }
    inside += list_nonzero(p.corners + to, int(to), p.order + at + inside);
  }
  return inside;
}

// sums[0 .. kVecs * lanes) += the samples of all points; rows begin at the same channel.
template <int kVecs, class T, class A>
ISDA_INLINE void sample(const T* base, int64_t stride, const Points<A>& p, Listed run, A* sums) {
  using Vec = typename Arithmetic<T>::Vec;
  constexpr int lanes = kBytes / sizeof(A);
  // Independent chains of additions hide their latency, as far as the registers go.
  constexpr int chains = 4 * kVecs <= kRegisters / 2 ? 4 : 2;
  Vec total[chains][kVecs] = {};
  for (int k = run.begin; k < run.end; ++k) {
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
ISDA_INLINE void sample_rest(const T* base, int64_t stride, const Points<A>& p, Listed run, int n,
                             A* sums) {
  for (int k = run.begin; k < run.end; ++k) {
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
ISDA_INLINE void sample_all(const T* base, int64_t stride, const Points<A>& p, Listed run,
                            int64_t channels, A* sums) {
  constexpr int64_t lanes = kBytes / sizeof(A);
  int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) sample<4>(base + c, stride, p, run, sums + c);
  switch ((channels - c) / lanes) {
    case 3:
      sample<3>(base + c, stride, p, run, sums + c);
      break;
    case 2:
      sample<2>(base + c, stride, p, run, sums + c);
      break;
    case 1:
      sample<1>(base + c, stride, p, run, sums + c);
      break;
  }
  c += (channels - c) / lanes * lanes;
  if (c < channels) sample_rest(base + c, stride, p, run, int(channels - c), sums + c);
}

constexpr int64_t kSums = 1 << 14;  // of a block, at most

// How the points of one head are visited: a block of queries at a time, for them a run of points of
// every query before the next run, so that the maps these lie in stay in the cache; and within that
// the points of several queries prepared together.
template <class Source>
class Visit {
 public:
  explicit Visit(int64_t all_points)
      : run(Source::kReadsAhead && all_points > kLongRun ? kRun : int(least(all_points, kChunk))),
        together(Source::kReadsAhead ? kChunk / in_whole_lanes(run) : 1) {}

  static constexpr int64_t kBlock = Source::kReadsAhead ? 256 : 1;
  const int run;       // points
  const int together;  // queries

 private:
  static constexpr int kRun = 48, kLongRun = 64;
};

// Read and place the points [first, first + n) of head m of the queries from `pair` on.
template <class A, class Source>
ISDA_INLINE void place_queries(Source& source, const PointTable<A>& table, const Sizes& s,
                               int64_t pair, int64_t m, int queries, int64_t first, int n,
                               bool starts, Points<A>& points, Listed* listed) {
  for (int j = 0; j < queries; ++j) {
    source.prefetch((pair + j + kQueriesAhead) * s.heads + m, first, n);
    if (starts || Source::kReadsAhead) {
      source.start_query(pair + j);
      source.start_head((pair + j) * s.heads + m);
    }
    const int at = j * in_whole_lanes(n);
    listed[j] = {at, at + place_points(source, table, first, n, at, points)};
  }
}

// Outputs of one head for the queries [begin, end) of one image, at most a block of them.
template <class V, class Source, class A>
ISDA_INLINE void forward_block(const ValueArgs& args, const PointTable<A>& table, Source& source,
                               Head<const V> head, int64_t image, int64_t m, int64_t begin,
                               int64_t end, Points<A>& points, A* sums) {
  const Sizes& s = args.sizes;
  const int64_t all_points = s.levels * s.points, first_pair = image * s.queries;
  const Visit<Source> visit(all_points);
  Listed listed[kChunk / kLanes];
  for (int64_t i = 0; i < (end - begin) * s.channels; ++i) sums[i] = 0;
  for (int64_t first = 0; first < all_points; first += visit.run) {
    const int n = int(least(all_points - first, visit.run));
    for (int64_t query = begin; query < end; query += visit.together) {
      const int queries = int(least(end - query, visit.together));
      place_queries(source, table, s, first_pair + query, m, queries, first, n, first == 0, points,
                    listed);
      for (int j = 0; j < queries; ++j)
        sample_all(head.rows, head.stride, points, listed[j], s.channels,
                   sums + (query - begin + j) * s.channels);
    }
  }
  with_type(args.dtype, [&](auto t) ISDA_LAMBDA_INLINE {
    auto* output = static_cast<decltype(t)*>(args.output);
    for (int64_t query = begin; query < end; ++query, sums += s.channels)
      store_rounded(sums, s.channels, output + ((first_pair + query) * s.heads + m) * s.channels);
  });
}

template <class V, class Source, class A>
void forward_head(const ValueArgs& args, const PointTable<A>& table, Source& source,
                  Head<const V> head, int64_t image, int64_t m, int64_t begin, int64_t end) {
  Points<A> points;
  alignas(64) A sums[kSums];
  const int64_t channels = args.sizes.channels;
  const int64_t block = least(kSums / channels, Visit<Source>::kBlock);
  for (; begin < end; begin += block)
    forward_block(args, table, source, head, image, m, begin, least(end, begin + block), points,
                  sums);
}

// Outputs of the (image, head, query) triples [begin, end). The memory takes a copy of one
// head's rows; without it they are read where they are.
template <class T, class Source>
void forward(const ValueArgs& args, const PointTable<typename Arithmetic<T>::type>& table,
             Source source, void* memory, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.sizes;
  A* packed = static_cast<A*>(memory);
  while (begin < end) {
    const int64_t image = begin / s.queries / s.heads, m = begin / s.queries % s.heads;
    const int64_t query = begin % s.queries;
    const int64_t last = least(query + end - begin, s.queries);
    const Head<const T> head = head_of_value<T>(args, image, m);
    if (packed) {
      pack_levels(args, head, 0, s.levels, packed);
      forward_head(args, table, source, Head<const A>{packed, s.channels}, image, m, query, last);
    } else {
      forward_head(args, table, source, head, image, m, query, last);
    }
    begin += last - query;
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
