// Checks and allocation that the bindings of all devices share.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>

#include "../ms_deform_attn/checks.h"
#include "shapes.h"

namespace isda {
namespace msda_fused {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// The operands as the kernels take them; the tensors keep the memory alive.
struct Operands {
  at::Tensor value, reference_points, offsets, logits;
  ForwardArgs args;

  // Whether a kernel has anything to do: neither the output nor the set of points is empty.
  bool has_work() const { return msda::has_work(args.sizes); }
};

struct GradientOperands : msda::ValueGradient {
  at::Tensor grad_reference_points, grad_offsets, grad_logits;
  at::Tensor reference_sums;
  BackwardArgs args;

  // grad_value summed up and rounded to the dtype of value, the others as they are.
  Gradients results(const at::Tensor& value) const;
};

// Check the operands and make them dense where the kernels need it. Fills args but for the table.
Operands prepare(const at::Tensor& value, int64_t levels, const at::Tensor& reference_points,
                 const at::Tensor& offsets, const at::Tensor& logits);
// The output, filled with zeros where no kernel will write it.
at::Tensor allocate_output(Operands& operands);
// The gradients asked for; grad_value is zero, the others too where no kernel will write them.
// `deterministic` makes place for sums of grad_value in integers.
GradientOperands allocate_gradients(const Operands& operands, const at::Tensor& grad_output,
                                    std::array<bool, 4> output_mask, bool deterministic = false);
// Place for the gradient of the softmax in the arithmetic type, for kernels that meet the points in
// several runs: grad_logits itself if it has that type; empty if it is not wanted.
at::Tensor allocate_weight_gradients(const Operands& operands, const GradientOperands& gradients);

}  // namespace msda_fused
}  // namespace isda
