// Operands of the kernels: plain pointers, sizes and strides; no torch header.
#pragma once

#include <stdint.h>

#include "../dtypes.h"

namespace isda {
namespace msda {

struct Level {
  int64_t height, width, start;  // start: its first row of value
};

// B images, S rows of value, M heads, C channels of a head, Q queries, L levels, P points.
struct Sizes {
  int64_t images, rows, heads, channels, queries, levels, points;
};

// The value, and what is made of it: shared with the operators that say in another way where it is
// sampled.
struct ValueArgs {
  Sizes sizes;
  const Level* table;  // L levels; on the host
  DType dtype;         // of value and output
  const void* value;   // (B, S, M, C); channels dense, other strides in elements:
  int64_t image_stride, row_stride, head_stride;
  void* output;  // (B, Q, M, C) dense
};

struct ForwardArgs : ValueArgs {
  Operand locations;  // (B, Q, M, L, P, 2) as (x, y)
  Operand weights;    // (B, Q, M, L, P)
};

struct ValueGradientArgs {
  const void* grad_output;  // (B, Q, M, C) dense, dtype of value
  // (B, S, M, C) dense, zero at the start, float64 for a float64 value, else float32; may be null.
  void* grad_value;
  // Deterministic sums, on CUDA only: grad_value in units of 2^-exponent, zero at the start, beside
  // grad_value, which then takes what is not finite; null for sums in floating point.
  int64_t* fixed_grad_value;
  const int32_t* exponent;
};

struct BackwardArgs : ValueGradientArgs {
  ForwardArgs forward;  // output unused
  Result grad_locations, grad_weights;
};

}  // namespace msda
}  // namespace isda
