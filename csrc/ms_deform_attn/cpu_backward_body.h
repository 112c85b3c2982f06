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
                        const Points<A>& p, const A* upstream, Dots<A>& dots) {
  using Vec = typename Arithmetic<T>::Vec;
  constexpr int lanes = kBytes / sizeof(A);
  Vec g[kVecs];
#pragma GCC unroll 4
  for (int j = 0; j < kVecs; ++j) g[j] = load(upstream + j * lanes);
  for (int k = 0; k < p.count; ++k) {
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
    add(to.r00, p.c00[i], p.corners[i] & k00);
    add(to.r01, p.c01[i], p.corners[i] & k01);
    add(to.r10, p.c10[i], p.corners[i] & k10);
    add(to.r11, p.c11[i], p.corners[i] & k11);
  }
}

// The same for channels that do not fill a register.
template <class T, class A>
ISDA_INLINE void spread_rest(const T* base, int64_t stride, A* grad, int64_t grad_stride,
                             const Points<A>& p, int n, const A* upstream, Dots<A>& dots) {
  for (int k = 0; k < p.count; ++k) {
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
                            const Points<A>& p, int64_t channels, const A* upstream,
                            Dots<A>& dots) {
  constexpr int64_t lanes = kBytes / sizeof(A);
  int64_t c = 0;
  const auto part = [&](int64_t at) { return grad ? grad + at : nullptr; };
  for (; c + 4 * lanes <= channels; c += 4 * lanes)
    spread<4, kDots>(base + c, stride, part(c), grad_stride, p, upstream + c, dots);
  switch ((channels - c) / lanes) {
    case 3:
      spread<3, kDots>(base + c, stride, part(c), grad_stride, p, upstream + c, dots);
      break;
    case 2:
      spread<2, kDots>(base + c, stride, part(c), grad_stride, p, upstream + c, dots);
      break;
    case 1:
      spread<1, kDots>(base + c, stride, part(c), grad_stride, p, upstream + c, dots);
      break;
  }
  c += (channels - c) / lanes * lanes;
  if (c < channels)
    spread_rest(base + c, stride, part(c), grad_stride, p, int(channels - c), upstream + c, dots);
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

  // The gradients of points [first, first + n) of this head.
  ISDA_INLINE void store(int64_t first, int n, const Points<A>& points, const Dots<A>& dots) const {
    alignas(64) A xy[2 * kChunk], weights[kChunk];
    const int padded = (n + kLanes - 1) / kLanes * kLanes;
    for (int i = 0; i < padded; ++i) {
      const PointGradient<A> g = point_gradient(points, dots, i);
      xy[2 * i] = g.x * this->table_.width[first + i];
      xy[2 * i + 1] = g.y * this->table_.height[first + i];
      weights[i] = g.weight;
    }
    const int64_t at = this->begin_ + first;
    if (locations_.data) store_converted(xy, 2 * n, locations_, 2 * at);
    if (weights_.data) store_converted(weights, n, weights_, at);
  }

  // After all points of this head.
  ISDA_INLINE void finish_head() const {}

 private:
  const Result locations_, weights_;
};

// The levels [level_begin, level_end) of one (image, query, head).
template <class T, class A, class Args, class Source>
ISDA_INLINE void backward_item(const Args& args, const PointTable<A>& table, Source& source,
                               int64_t image, int64_t query, int64_t m, int64_t level_begin,
                               int64_t level_end, const A* upstream) {
  const ValueArgs& fwd = args.forward;
  const Sizes& s = fwd.sizes;
  const T* base = static_cast<const T*>(fwd.value) + image * fwd.image_stride + m * fwd.head_stride;
  A* grad = static_cast<A*>(args.grad_value);
  if (grad) grad += (image * s.rows * s.heads + m) * s.channels;
  const int64_t grad_stride = s.heads * s.channels;
  Points<A> points;
  Dots<A> dots;
  source.start_head((image * s.queries + query) * s.heads + m);
  const int64_t last = level_end * s.points;
  for (int64_t first = level_begin * s.points; first < last; first += kChunk) {
    const int n = int(last - first < kChunk ? last - first : kChunk);
    place_points(source, table, first, n, points);
    for (int i = 0; i < 4 * n; ++i) dots.at[i] = 0;
    for (int i = 4 * n; i % (4 * kLanes); ++i) dots.at[i] = 0;
    if (!source.wanted()) {
      spread_all<false>(base, fwd.row_stride, grad, grad_stride, points, s.channels, upstream,
                        dots);
      continue;
    }
    spread_all<true>(base, fwd.row_stride, grad, grad_stride, points, s.channels, upstream, dots);
    source.store(first, n, points, dots);
  }
  if (source.wanted()) source.finish_head();
}

// The units [begin, end) of (image, head, level).
template <class T, class Args, class Source>
void backward(const Args& args, const PointTable<typename Arithmetic<T>::type>& table,
              Source source, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.forward.sizes;
  const int64_t per_image = s.heads * s.levels;
  alignas(64) A upstream[kMaxChannels];
  while (begin < end) {
    const int64_t image = begin / per_image;
    const int64_t from = begin - image * per_image;
    const int64_t to = end - image * per_image < per_image ? end - image * per_image : per_image;
    for (int64_t query = 0; query < s.queries; ++query) {
      source.start_query(image * s.queries + query);
      for (int64_t m = from / s.levels; m * s.levels < to; ++m) {
        const int64_t low = from - m * s.levels > 0 ? from - m * s.levels : 0;
        const int64_t high = to - m * s.levels < s.levels ? to - m * s.levels : s.levels;
        const int64_t at = ((image * s.queries + query) * s.heads + m) * s.channels;
        copy_converted<A, T>(args.grad_output, at, s.channels, upstream);
        backward_item<T>(args, table, source, image, query, m, low, high, upstream);
      }
    }
    begin = image * per_image + to;
  }
}

}  // namespace
}  // namespace msda
}  // namespace isda
