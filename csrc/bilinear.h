// Points between pixels and their four neighbours, for the CPU kernels of all operators.
//
// Points are prepared by vectors of points into buffers on the stack and then sampled by vectors
// of channels. Points outside are dropped between the two, so no memory is read for them.
#pragma once

#include "simd.h"

namespace isda {
namespace {

constexpr int kChunk = 256;  // points prepared at a time
constexpr int kLanes = 16;   // the buffers are filled in whole groups of this size

enum Corner : int32_t { k00 = 1, k01 = 2, k10 = 4, k11 = 8 };

// A chunk of points. The corner of larger x or y is step_x or step_y rows further; a corner
// outside the level stands on its neighbour inside and has weight 0.
template <class A>
struct Points {
  alignas(64) A u[kChunk], v[kChunk], weight[kChunk];
  alignas(64) A fx[kChunk], fy[kChunk];
  alignas(64) A c00[kChunk], c01[kChunk], c10[kChunk], c11[kChunk];  // bilinear times weight
  alignas(64) int32_t row[kChunk], step_x[kChunk], step_y[kChunk];
  alignas(64) int32_t corners[kChunk];         // which corners lie inside; 0 for a point outside
  alignas(64) int32_t order[kChunk + kLanes];  // the points inside
};

// Find the corners of point i at pixel coordinates (x, y) of a map of columns * lines pixels that
// begins at row `start`; width and height are the same numbers. p.weight[i] is there already.
template <class A>
ISDA_INLINE void place_point(A x, A y, A width, A height, int32_t columns, int32_t lines,
                             int32_t start, int64_t i, Points<A>& p) {
  const bool inside = (x > -1) & (x < width) & (y > -1) & (y < height);
  x = inside ? x : A(0);
  y = inside ? y : A(0);
  // Truncation and one step back is the floor in the arithmetic type, and vectorises everywhere.
  int32_t xi = int32_t(x), yi = int32_t(y);
  xi -= A(xi) > x;
  yi -= A(yi) > y;
  const A fx = x - A(xi), fy = y - A(yi);
  const int32_t left = xi >= 0, right = xi + 1 < columns;
  const int32_t upper = yi >= 0, lower = yi + 1 < lines;
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
  p.row[i] = start + (upper ? yi : 0) * columns + (left ? xi : 0);
  p.step_x[i] = left & right;
  p.step_y[i] = (upper & lower) ? columns : 0;
  const int32_t found =
      (upper & left) * k00 + (upper & right) * k01 + (lower & left) * k10 + (lower & right) * k11;
  p.corners[i] = inside ? found : 0;
}

// The points p.order[begin], ..., p.order[end - 1].
struct Listed {
  int begin, end;
};

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

template <class A>
struct Dots {  // of the incoming gradient with the corners 00, 01, 10, 11 of every point
  alignas(64) A at[4 * kChunk];
};

// The gradient by the pixel coordinates and the weight of a point; zero for one outside.
template <class A>
struct PointGradient {
  A x, y, weight;
};

template <class A>
ISDA_INLINE PointGradient<A> point_gradient(const Points<A>& p, const Dots<A>& dots, int64_t i) {
  const int32_t found = p.corners[i];
  // Read first and chosen afterwards, or loops over this have branches instead of vectors.
  const A e00 = dots.at[4 * i], e01 = dots.at[4 * i + 1];
  const A e10 = dots.at[4 * i + 2], e11 = dots.at[4 * i + 3];
  const A d00 = found & k00 ? e00 : A(0), d01 = found & k01 ? e01 : A(0);
  const A d10 = found & k10 ? e10 : A(0), d11 = found & k11 ? e11 : A(0);
  const A fx = p.fx[i], fy = p.fy[i];
  const A x = p.weight[i] * ((1 - fy) * (d01 - d00) + fy * (d11 - d10));
  const A y = p.weight[i] * ((1 - fx) * (d10 - d00) + fx * (d11 - d01));
  const A weight = (1 - fy) * ((1 - fx) * d00 + fx * d01) + fy * ((1 - fx) * d10 + fx * d11);
  return {found ? x : A(0), found ? y : A(0), found ? weight : A(0)};
}

}  // namespace
}  // namespace isda
