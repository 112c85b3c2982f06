// The operator slice by slice: columns by a kernel of the device, matrix products by ATen. The
// same for CUDA and for the host, where tests run it.
#pragma once

#include "checks.h"
#include "column_shapes.h"

namespace isda {
namespace dcn {

constexpr int64_t kWorkspace = int64_t(64) << 20;  // bytes of the columns of a slice, at most

// Whether the forward pass can be one kernel that multiplies by itself, with sums of 32 bits.
bool can_fuse(const Operands& operands);
at::Tensor forward_fused(const ColumnKernels& kernels, const Operands& operands);
at::Tensor forward_in_slices(const ColumnKernels& kernels, const Operands& operands,
                             int64_t workspace);
// If `deterministic`, no bit depends on the order in which threads happen to run.
Gradients backward_in_slices(const ColumnKernels& kernels, const Operands& operands,
                             const at::Tensor& grad_output, std::array<bool, 5> output_mask,
                             bool deterministic, int64_t workspace);

}  // namespace dcn
}  // namespace isda
