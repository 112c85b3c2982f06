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

// The gradient of the output, and that of value while it is summed up.
struct ValueGradient {
  at::Tensor grad_output, grad_value;
  at::Tensor fixed_grad_value, exponent;  // only if deterministic

  // Summed up and rounded to the dtype of value.
  at::Tensor result(const at::Tensor& value) const;
};

struct GradientOperands : ValueGradient {
  at::Tensor grad_locations, grad_weights;
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

// The parts that operators with other operands beside the value share.
bool has_work(const Sizes& sizes);
void check_value(const at::Tensor& value, int64_t levels);
void check_point_count(const char* name, int64_t points);
// The value with dense channels. Fills args but for the table and the output.
at::Tensor prepare_value(const at::Tensor& value, int64_t queries, int64_t levels, int64_t points,
                         ValueArgs& args);
at::Tensor allocate_output(const at::Tensor& value, ValueArgs& args);
// `weight_magnitude` is that of the attention weights (fixed_point.h); it is given if sums are to
// be in integers.
ValueGradient allocate_value_gradient(const ValueArgs& forward, const at::Tensor& value,
                                      const at::Tensor& grad_output, bool wanted,
                                      const at::Tensor& weight_magnitude, ValueGradientArgs& args);
// A gradient as large as its operand, empty if it is not asked for.
at::Tensor allocate_gradient(const at::Tensor& value, const Sizes& sizes, const at::Tensor& operand,
                             bool wanted);
Result result_of(const at::Tensor& gradient);

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
