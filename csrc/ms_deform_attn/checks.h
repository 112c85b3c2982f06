// Checks and allocation that the bindings of all devices share.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>
#include <vector>

#include "shapes.h"

namespace isda {
namespace msda {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// The operands as the kernels take them; the tensors keep the memory alive.
struct Operands {
  at::Tensor value, locations, weights;
  ForwardArgs args;

  // Whether a kernel has anything to do: neither the output nor the set of points is empty.
  bool has_work() const;
};

struct GradientOperands {
  at::Tensor grad_output, grad_value, grad_locations, grad_weights;
  at::Tensor fixed_grad_value, exponent;  // only if deterministic
  BackwardArgs args;

  // grad_value summed up and rounded to the dtype of value, the others as they are.
  Gradients results(const at::Tensor& value) const;
};

// Sizes of the tables only, not their content.
void check_index_tensors(const at::Tensor& value, const at::Tensor& spatial_shapes,
                         const at::Tensor& level_start_index);

// Read tables on the CPU and check that every level lies inside value.
std::vector<Level> read_levels(const at::Tensor& value, const at::Tensor& spatial_shapes,
                               const at::Tensor& level_start_index);
// Levels that follow one another and together are all rows of value.
std::vector<Level> read_levels(const at::Tensor& value, at::IntArrayRef spatial_shapes);

// Check the operands and make them dense where the kernels need it. Fills args but for the table.
Operands prepare(const at::Tensor& value, int64_t levels, const at::Tensor& locations,
                 const at::Tensor& weights);
// The output, filled with zeros where no kernel will write it.
at::Tensor allocate_output(Operands& operands);
// The gradients asked for; grad_value is zero, the others too where no kernel will write them.
// `deterministic` makes place for sums of grad_value in integers.
GradientOperands allocate_gradients(const Operands& operands, const at::Tensor& grad_output,
                                    std::array<bool, 3> output_mask, bool deterministic = false);

}  // namespace msda
}  // namespace isda
