// Arguments of the kernels that go over a slice of output pixels; no torch header.
//
// A slice is a run of output pixels, counted through all images. Its columns are the matrices
// (R, pixels of the slice, K, C / R) that the weight multiplies. Otherwise the letters of shapes.h.
#pragma once

#include "shapes.h"

namespace isda {
namespace dcn {

struct ColumnArgs {
  Sizes sizes;
  DType dtype;        // of the input
  const void* input;  // (B, H, W, C)
  Operand offset, mask;
  int64_t first, count;  // output pixels of the slice
  void* columns;
};

struct ColumnGradientArgs {
  // Its columns are of the arithmetic type. They hold their own gradient at first, if
  // `has_gradients`, and the columns at last, if `wants_columns`: one buffer serves for both.
  ColumnArgs slice;
  bool has_gradients, wants_columns;
  void* grad_input;           // (B, H, W, C) of the arithmetic type, added to; null if not wanted
  int64_t* fixed_grad_input;  // the same in units of 2^-exponent; null: floating-point sums
  const int32_t* exponent;
  Result grad_offset, grad_mask;
};

// The kernels of a device.
struct ColumnKernels {
  void (*columns)(const ColumnArgs& args);
  void (*gradients)(const ColumnGradientArgs& args);
};

}  // namespace dcn
}  // namespace isda
