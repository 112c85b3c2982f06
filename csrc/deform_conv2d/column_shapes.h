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

constexpr int64_t kMostFusedOut = 64;

// The whole forward pass in one kernel: not float64, one weight group, whole 16 bytes of channels
// in every deform group, few output channels. Operands are of the type of the input.
struct FusedArgs {
  ColumnArgs all;      // all pixels as one slice; without columns
  const void* weight;  // (K * C, padded_out), padded with zeros
  int64_t padded_out;  // 32 or 64
  const void* bias;    // may be null
  void* output;        // (B, O, Ho, Wo)
  bool channels_last;  // the output
};

// The kernels of a device.
struct ColumnKernels {
  void (*columns)(const ColumnArgs& args);
  void (*gradients)(const ColumnGradientArgs& args);
  void (*fused)(const FusedArgs& args);
};

}  // namespace dcn
}  // namespace isda
