// The CUDA kernels for given locations and weights, run serially on the CPU, for tests.
#include <torch/library.h>

#include "cuda_run_on_host.h"

namespace isda {
namespace msda {
namespace {

at::Tensor forward_on_host(const at::Tensor& value, const at::Tensor& spatial_shapes,
                           const at::Tensor& level_start_index, const at::Tensor& locations,
                           const at::Tensor& weights, at::IntArrayRef limits) {
  const HostLevels levels(value, spatial_shapes, level_start_index);
  Operands operands = prepare(value, spatial_shapes.size(0), locations, weights);
  at::Tensor output = allocate_output(operands);
  if (operands.has_work())
    run_forward_on_host(operands.args, levels.table, given_points(operands.args),
                        HostLimits(limits));
  return output;
}

Gradients backward_on_host(const at::Tensor& grad_output, const at::Tensor& value,
                           const at::Tensor& spatial_shapes, const at::Tensor& level_start_index,
                           const at::Tensor& locations, const at::Tensor& weights,
                           std::array<bool, 3> output_mask, bool deterministic,
                           at::IntArrayRef limits) {
  const HostLevels levels(value, spatial_shapes, level_start_index);
  const Operands operands = prepare(value, spatial_shapes.size(0), locations, weights);
  const GradientOperands gradients =
      allocate_gradients(operands, grad_output, output_mask, deterministic);
  if (operands.has_work())
    run_backward_on_host(operands.args, gradients.args, levels.table, given_points(gradients.args),
                         HostLimits(limits));
  return gradients.results(value);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("_ms_deform_attn_cuda_body_on_host", &forward_on_host);
  m.impl("_ms_deform_attn_backward_cuda_body_on_host", &backward_on_host);
}

}  // namespace msda
}  // namespace isda
