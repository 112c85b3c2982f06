// A small matrix product: out[i][j] += sum over d of a[i][d] * b[d][j], where b lies in panels.
//
// A panel is two vectors wide (the last one may be one) and dense, so the inner loop reads it in
// sequence; a block of kRows rows times one panel stays in registers.
#pragma once

#include "../simd.h"

namespace isda {
namespace dcn {
namespace {

#if ISDA_CPU_VARIANT == 2
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif
constexpr int64_t kDepth = 256;  // so much of a panel stays in the first-level cache

template <class A>
struct Vector;
template <>
struct Vector<float> {
  using type = VecF;
};
template <>
struct Vector<double> {
  using type = VecD;
};

template <class A>
constexpr int64_t lanes_of() {
  return kBytes / int64_t(sizeof(A));
}

ISDA_INLINE int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
// Numbers a[i][d] stand at data[i * row + d * step].
template <class A>
struct Left {
  const A* data;
  int64_t row, step;
};

template <int kVecs, class A>
inline void multiply_block(Left<A> a, const A* b, int64_t b_step, int64_t depth, A* out,
                           int64_t out_row) {
  using Vec = typename Vector<A>::type;
  constexpr int64_t lanes = lanes_of<A>();
  Vec sums[kRows][kVecs];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) sums[i][j] = load(out + i * out_row + j * lanes);
  }
  const A* at = a.data;
  for (int64_t d = 0; d < depth; ++d, at += a.step, b += b_step) {
    Vec right[kVecs];
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) right[j] = load(b + j * lanes);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const Vec left = broadcast(at[i * a.row]);
#pragma GCC unroll 2
      for (int j = 0; j < kVecs; ++j) sums[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) store(out + i * out_row + j * lanes, sums[i][j]);
  }
}

// The right matrix. Dense rows of `width` numbers (panel_step = panel width, step = width), or
// panels one after the other.
template <class A>
struct Right {
  const A* data;
  int64_t width;  // whole vectors
  int64_t step;   // from one d to the next; 0 if the data lie in panels
  int64_t depth;  // of the panels
};

// Rows are rounded up to kRows: `a` and `out` must have them.
template <class A>
void multiply(int64_t rows, int64_t first, int64_t depth, Left<A> a, Right<A> b, A* out,
              int64_t out_row) {
  constexpr int64_t lanes = lanes_of<A>();
  for (int64_t d = 0; d < depth; d += kDepth) {
    const int64_t n = least(kDepth, depth - d);
    for (int64_t column = 0; column < b.width; column += 2 * lanes) {
      const bool two = column + 2 * lanes <= b.width;
      const int64_t step = b.step ? b.step : (two ? 2 : 1) * lanes;
      const A* panel = b.data + (b.step ? column : column * b.depth) + (first + d) * step;
      for (int64_t i = 0; i < rows; i += kRows) {
        const Left<A> part = {a.data + i * a.row + d * a.step, a.row, a.step};
        A* to = out + i * out_row + column;
        if (two) {
          multiply_block<2>(part, panel, step, n, to, out_row);
        } else {
          multiply_block<1>(part, panel, step, n, to, out_row);
        }
      }
    }
  }
}

// Where b[d][j] stands in panels of `width` columns and `depth` rows.
template <class A>
ISDA_INLINE int64_t panel_place(int64_t d, int64_t j, int64_t width, int64_t depth) {
  constexpr int64_t pair = 2 * lanes_of<A>();
  const int64_t column = j / pair * pair;
  const int64_t wide = least(pair, width - column);
  return column * depth + d * wide + (j - column);
}

}  // namespace
}  // namespace dcn
}  // namespace isda
