// Checks and allocation that the bindings of all devices share.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

#include "shapes.h"

namespace isda {
namespace dcn {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct Geometry {
  at::IntArrayRef stride, padding, dilation;
  int64_t groups, deform_groups;
};

// The operands as the kernels take them; the tensors keep the memory alive.
struct Operands {
  at::Tensor input, offset, mask, weight, bias;  // mask and bias may be undefined
  Sizes sizes;                                   // but for the tiles
  at::MemoryFormat format;                       // of the input and of all results like it

  // Whether a kernel has anything to do; else results are empty, zero or the bias alone.
  bool has_work() const;
};

// Check the operands and make them dense.
Operands prepare(const at::Tensor& input, const at::Tensor& offset,
                 const std::optional<at::Tensor>& mask, const at::Tensor& weight,
                 const std::optional<at::Tensor>& bias, const Geometry& geometry);
// An uninitialised output; the bias alone where no kernel will write it.
at::Tensor allocate_output(const Operands& operands);
void check_grad_output(const Operands& operands, const at::Tensor& grad_output);
// The gradients asked for, empty where not; final where no kernel will write them.
std::array<at::Tensor, 5> allocate_gradients(const Operands& operands,
                                             const at::Tensor& grad_output,
                                             std::array<bool, 5> output_mask);

}  // namespace dcn
}  // namespace isda
