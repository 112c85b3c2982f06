// The operators on CUDA tensors: current stream, no synchronisation.
#include <ATen/Context.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "checks.h"
#include "cuda_kernels.h"
#include "cuda_levels.h"

namespace isda {
namespace msda {
namespace {

at::Tensor forward(const at::Tensor& value, const DeviceLevels& levels, const at::Tensor& locations,
                   const at::Tensor& weights) {
  Operands operands = prepare(value, levels.count, locations, weights);
  at::Tensor output = allocate_output(operands);
  if (operands.has_work())
    check_launch("ms_deform_attn", launch_forward(operands.args, levels.table, current_stream()));
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const DeviceLevels& levels, const at::Tensor& locations,
                   const at::Tensor& weights, std::array<bool, 3> output_mask) {
  const Operands operands = prepare(value, levels.count, locations, weights);
  // The order of atomic additions is not fixed, so floating-point sums are not either.
  const bool deterministic = at::globalContext().deterministicAlgorithms();
  const GradientOperands gradients =
      allocate_gradients(operands, grad_output, output_mask, deterministic);
  const bool wanted = output_mask[0] || output_mask[1] || output_mask[2];
  if (operands.has_work() && wanted)
    check_launch("ms_deform_attn_backward",
                 launch_backward(gradients.args, levels.table, current_stream()));
  return gradients.results(value);
}

at::Tensor ms_deform_attn_cuda(const at::Tensor& value, const at::Tensor& spatial_shapes,
                               const at::Tensor& level_start_index, const at::Tensor& locations,
                               const at::Tensor& weights) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, spatial_shapes, level_start_index);
  return forward(value, levels, locations, weights);
}

at::Tensor ms_deform_attn_list_cuda(const at::Tensor& value, at::IntArrayRef spatial_shapes,
                                    const at::Tensor& locations, const at::Tensor& weights) {
  const c10::cuda::CUDAGuard guard(value.device());
  return forward(value, send_levels(value, read_levels(value, spatial_shapes)), locations, weights);
}

Gradients ms_deform_attn_backward_cuda(const at::Tensor& grad_output, const at::Tensor& value,
                                       const at::Tensor& spatial_shapes,
                                       const at::Tensor& level_start_index,
                                       const at::Tensor& locations, const at::Tensor& weights,
                                       std::array<bool, 3> output_mask) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, spatial_shapes, level_start_index);
  return backward(grad_output, value, levels, locations, weights, output_mask);
}

Gradients ms_deform_attn_backward_list_cuda(const at::Tensor& grad_output, const at::Tensor& value,
                                            at::IntArrayRef spatial_shapes,
                                            const at::Tensor& locations, const at::Tensor& weights,
                                            std::array<bool, 3> output_mask) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, read_levels(value, spatial_shapes));
  return backward(grad_output, value, levels, locations, weights, output_mask);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CUDA, m) {
  m.impl("ms_deform_attn", &ms_deform_attn_cuda);
  m.impl("ms_deform_attn.list", &ms_deform_attn_list_cuda);
  m.impl("ms_deform_attn_backward", &ms_deform_attn_backward_cuda);
  m.impl("ms_deform_attn_backward.list", &ms_deform_attn_backward_list_cuda);
}

}  // namespace msda
}  // namespace isda
