// The gradients on the CPU; compiled once for every instruction set.
//
// Work is cut into units of one (image, head, level): every element of grad_value belongs to
// exactly one, and within a unit queries and points go in their order. So there are no atomics
// and no private copies, and the result does not depend on how units are spread over threads.
#pragma once

#include "cpu_body.h"

namespace isda {
namespace msda {
namespace {

// One register block of channels: dot products (if kDots) and additions to grad_value (if any).
template <int kVecs, bool kDots, class T, class A>
ISDA_INLINE void spread(const T* base, int64_t stride, A* grad, int64_t grad_stride,
                        const Points<A>& p, Listed run, const A* upstream, Dots<A>& dots) {
  using Vec = typename Arithmetic<T>::Vec;
  constexpr int lanes = kBytes / sizeof(A);
  Vec g[kVecs];
#pragma GCC unroll 4
  for (int j = 0; j < kVecs; ++j) g[j] = load(upstream + j * lanes);
  for (int k = run.begin; k < run.end; ++k) {
    const int i = p.order[k];
    if (kDots) {
      const Rows<const T> rows = rows_of(base, stride, p, i);
      Vec d00 = {}, d01 = {}, d10 = {}, d11 = {};
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) {
        d00 += g[j] * load(rows.r00 + j * lanes);
        d01 += g[j] * load(rows.r01 + j * lanes);
        d10 += g[j] * load(rows.r10 + j * lanes);
        d11 += g[j] * load(rows.r11 + j * lanes);
      }
      add_sums(d00, d01, d10, d11, dots.at + 4 * i);
    }
    if (grad == nullptr) continue;
    const Rows<A> to = rows_of(grad, grad_stride, p, i);
    const auto add = [&](A* row, A c, bool inside) ISDA_LAMBDA_INLINE {
      if (!inside) return;
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j)
        store(row + j * lanes, load(row + j * lanes) + broadcast(c) * g[j]);
    };
    const int32_t corners = p.corners[i];
    if (corners == (k00 | k01 | k10 | k11)) {  // most points; one branch, not four
      add(to.r00, p.c00[i], true);
      add(to.r01, p.c01[i], true);
      add(to.r10, p.c10[i], true);
      add(to.r11, p.c11[i], true);
      continue;
    }
    add(to.r00, p.c00[i], corners & k00);
    add(to.r01, p.c01[i], corners & k01);
    add(to.r10, p.c10[i], corners & k10);
    add(to.r11, p.c11[i], corners & k11);
  }
}

// The same for channels that do not fill a register.
template <class T, class A>
ISDA_INLINE void spread_rest(const T* base, int64_t stride, A* grad, int64_t grad_stride,
                             const Points<A>& p, Listed run, int n, const A* upstream,
                             Dots<A>& dots) {
  for (int k = run.begin; k < run.end; ++k) {
    const int i = p.order[k];
    const Rows<const T> rows = rows_of(base, stride, p, i);
    for (int c = 0; c < n; ++c) {
      dots.at[4 * i] += upstream[c] * to_arithmetic(rows.r00[c]);
      dots.at[4 * i + 1] += upstream[c] * to_arithmetic(rows.r01[c]);
      dots.at[4 * i + 2] += upstream[c] * to_arithmetic(rows.r10[c]);
      dots.at[4 * i + 3] += upstream[c] * to_arithmetic(rows.r11[c]);
    }
    if (grad == nullptr) continue;
    const Rows<A> to = rows_of(grad, grad_stride, p, i);
    const auto add = [&](A* row, A weight, bool inside) ISDA_LAMBDA_INLINE {
      for (int c = 0; inside && c < n; ++c) row[c] += weight * upstream[c];
    };
    add(to.r00, p.c00[i], p.corners[i] & k00);
    add(to.r01, p.c01[i], p.corners[i] & k01);
    add(to.r10, p.c10[i], p.corners[i] & k10);
    add(to.r11, p.c11[i], p.corners[i] & k11);
  }
}

template <bool kDots, class T, class A>
ISDA_INLINE void spread_all(const T* base, int64_t stride, A* grad, int64_t grad_stride,
                            const Points<A>& p, Listed run, int64_t channels, const A* upstream,
                            Dots<A>& dots) {
  constexpr int64_t lanes = kBytes / sizeof(A);
  int64_t c = 0;
  const auto part = [&](int64_t at) { return grad ? grad + at : nullptr; };
  for (; c + 4 * lanes <= channels; c += 4 * lanes)
    spread<4, kDots>(base + c, stride, part(c), grad_stride, p, run, upstream + c, dots);
  switch ((channels - c) / lanes) {
    case 3:
      spread<3, kDots>(base + c, stride, part(c), grad_stride, p, run, upstream + c, dots);
      break;
    case 2:
      spread<2, kDots>(base + c, stride, part(c), grad_stride, p, run, upstream + c, dots);
      break;
    case 1:
      spread<1, kDots>(base + c, stride, part(c), grad_stride, p, run, upstream + c, dots);
      break;
  }
  c += (channels - c) / lanes * lanes;
  if (c < channels)
    spread_rest(base + c, stride, part(c), grad_stride, p, run, int(channels - c), upstream + c,
                dots);
}

// The points as the caller gives them, and where their gradients go.
template <class A>
class GivenPointGradients : public GivenPoints<A> {
 public:
  GivenPointGradients(const BackwardArgs& args, const PointTable<A>& table)
      : GivenPoints<A>(args.forward, table),
        locations_(args.grad_locations),
        weights_(args.grad_weights) {}

  // Whether any gradient but that of value is wanted.
  ISDA_INLINE bool wanted() const { return locations_.data || weights_.data; }

  // The gradients of points [first, first + n) of this head, which stand from run.begin on.
  ISDA_INLINE void store(int64_t first, int n, Listed run, const Points<A>& points,
                         const Dots<A>& dots) const {
    alignas(64) A xy[2 * kChunk], weights[kChunk];
    const int64_t padded = in_whole_lanes(n), from = run.begin;
#pragma GCC ivdep  // or vectors are used only after a comparison of addresses
    for (int64_t i = 0; i < padded; ++i) {
      const PointGradient<A> g = point_gradient(points, dots, from + i);
      xy[2 * i] = g.x * this->table_.width[first + i];
      xy[2 * i + 1] = g.y * this->table_.height[first + i];
      weights[i] = g.weight;
    }
    const int64_t to = this->begin_ + first;
    if (locations_.data) store_converted(xy, 2 * n, locations_, 2 * to);
    if (weights_.data) store_converted(weights, n, weights_, to);
  }

  // After all points of this head.
  ISDA_INLINE void finish_head() const {}

 private:
  const Result locations_, weights_;
};

// Buffers of one thread.
template <class A>
struct Buffers {
  Points<A> points;
  Dots<A> dots;
  Listed listed[kChunk / kLanes];
  alignas(64) A upstream[kMaxChannels];
};

// The points [first, first + n) of one head for the queries [begin, end), which fit the buffers.
template <class V, class A, class Args, class Source>
ISDA_INLINE void backward_run(const Args& args, Source& source, Head<const V> head, Head<A> grad,
                              int64_t pair, int64_t m, int queries, int64_t first, int n,
                              Buffers<A>& buffers) {
  const Sizes& s = args.forward.sizes;
  const int padded = in_whole_lanes(n);
  const bool wants_dots = source.wanted();
  if (wants_dots) __builtin_memset(buffers.dots.at, 0, sizeof(A) * 4 * padded * queries);
  const Operand upstream = {args.grad_output, args.forward.dtype};
  for (int j = 0; j < queries; ++j) {
    const int64_t at = ((pair + j) * s.heads + m) * s.channels;
    prefetch(upstream, at + kQueriesAhead * s.heads * s.channels, s.channels);
    copy_converted(upstream, at, s.channels, buffers.upstream);
    if (wants_dots) {
      spread_all<true>(head.rows, head.stride, grad.rows, grad.stride, buffers.points,
                       buffers.listed[j], s.channels, buffers.upstream, buffers.dots);
    } else {
      spread_all<false>(head.rows, head.stride, grad.rows, grad.stride, buffers.points,
                        buffers.listed[j], s.channels, buffers.upstream, buffers.dots);
    }
  }
  if (!wants_dots) return;
  for (int j = 0; j < queries; ++j) {
    if (Source::kReadsAhead) source.start_head((pair + j) * s.heads + m);
    source.store(first, n, buffers.listed[j], buffers.points, buffers.dots);
  }
}

// The levels [low, high) of one head.
template <class V, class A, class Args, class Source>
void backward_head(const Args& args, const PointTable<A>& table, Source& source, Head<const V> head,
                   Head<A> grad, int64_t image, int64_t m, int64_t low, int64_t high,
                   Buffers<A>& buffers) {
  const Sizes& s = args.forward.sizes;
  const int64_t begin = low * s.points, end = high * s.points;
  // Runs begin at the same points whatever levels this thread has: the order of sums depends on it.
  const Visit<Source> visit(s.levels * s.points);
  for (int64_t block = 0; block < s.queries; block += visit.kBlock) {
    const int64_t block_end = least(s.queries, block + visit.kBlock);
    for (int64_t first = begin, next; first < end; first = next) {
      next = least(end, (first / visit.run + 1) * visit.run);
      const int n = int(next - first);
      for (int64_t query = block; query < block_end; query += visit.together) {
        const int64_t pair = image * s.queries + query;
        const int queries = int(least(block_end - query, visit.together));
        place_queries(source, table, s, pair, m, queries, first, n, first == begin, buffers.points,
                      buffers.listed);
        backward_run(args, source, head, grad, pair, m, queries, first, n, buffers);
      }
    }
    if (source.wanted()) source.finish_head();
  }
}

// The units [begin, end) of (image, head, level).
template <class T, class Args, class Source>
void backward(const Args& args, const PointTable<typename Arithmetic<T>::type>& table,
              Source source, void* memory, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.forward.sizes;
  Buffers<A> buffers;
  A* packed = static_cast<A*>(memory);
  A* packed_grad = args.grad_value && memory ? packed + s.rows * s.channels : nullptr;
  while (begin < end) {
    const int64_t image = begin / s.levels / s.heads, m = begin / s.levels % s.heads;
    const int64_t low = begin % s.levels;
    const int64_t high = least(low + end - begin, s.levels);
    Head<const T> head = head_of_value<T>(args.forward, image, m);
    Head<A> grad = {static_cast<A*>(args.grad_value), s.heads * s.channels};
    if (grad.rows) grad.rows += (image * s.rows * s.heads + m) * s.channels;
    if (packed_grad) clear_levels(args.forward, low, high, packed_grad);
    const Head<A> to = memory ? Head<A>{packed_grad, s.channels} : grad;
    if (packed) {
      pack_levels(args.forward, head, low, high, packed);
      backward_head(args, table, source, Head<const A>{packed, s.channels}, to, image, m, low, high,
                    buffers);
    } else {
      backward_head(args, table, source, head, to, image, m, low, high, buffers);
    }
    if (packed_grad) unpack_levels(args.forward, packed_grad, low, high, grad);
    begin += high - low;
  }
}

}  // namespace
}  // namespace msda
}  // namespace isda
