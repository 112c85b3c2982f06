// Operands of the kernels: plain pointers, sizes and strides; no torch header.
#pragma once

#include "../ms_deform_attn/shapes.h"

namespace isda {
namespace msda_fused {

// Beside the axes of msda::Sizes: R is L, or 1 if all levels share a reference point.
struct ForwardArgs : msda::ValueArgs {
  int64_t reference_levels;       // R
  int64_t reference_coordinates;  // 2 for (x, y), 4 for (x, y, width, height)
  Operand reference_points;       // (B, Q, R, 2 or 4) in units of the level's size
  Operand offsets;                // (B, Q, M, L, P, 2) as (x, y): pixels, or beside a width and
                                  // height in units of 1 / (2 * P) of those
  Operand logits;                 // (B, Q, M, L, P), the softmax goes over L * P
};

struct BackwardArgs : msda::ValueGradientArgs {
  ForwardArgs forward;  // output unused
  Result grad_reference_points, grad_offsets, grad_logits;
  // (B, Q, M, R, 2 or 4) dense, float64 for a float64 value, else float32: what a head adds to
  // grad_reference_points, which is the sum over heads in their order. Null if not wanted.
  void* reference_sums;
};

}  // namespace msda_fused
}  // namespace isda
