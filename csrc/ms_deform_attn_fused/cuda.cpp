// The operators on CUDA tensors: current stream, no synchronisation.
#include <ATen/Context.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>

#include "../ms_deform_attn/cuda_levels.h"
#include "checks.h"
#include "cuda_kernels.h"

namespace isda {
namespace msda_fused {
namespace {

using msda::check_launch;
using msda::current_stream;
using msda::DeviceLevels;
using msda::read_levels;
using msda::send_levels;

at::Tensor forward(const at::Tensor& value, const DeviceLevels& levels,
                   const at::Tensor& reference_points, const at::Tensor& offsets,
                   const at::Tensor& logits) {
  Operands operands = prepare(value, levels.count, reference_points, offsets, logits);
  at::Tensor output = allocate_output(operands);
  if (operands.has_work())
    check_launch("ms_deform_attn_fused",
                 launch_forward(operands.args, levels.table, current_stream()));
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const DeviceLevels& levels, const at::Tensor& reference_points,
                   const at::Tensor& offsets, const at::Tensor& logits,
                   std::array<bool, 4> output_mask) {
  const Operands operands = prepare(value, levels.count, reference_points, offsets, logits);
  // The order of atomic additions is not fixed, so floating-point sums are not either.
  const bool deterministic = at::globalContext().deterministicAlgorithms();
  const GradientOperands gradients =
      allocate_gradients(operands, grad_output, output_mask, deterministic);
  const bool wanted = std::find(output_mask.begin(), output_mask.end(), true) != output_mask.end();
  if (!operands.has_work() || !wanted) return gradients.results(value);
  const at::Tensor scratch = allocate_weight_gradients(operands, gradients);
  check_launch(
      "ms_deform_attn_fused_backward",
      launch_backward(gradients.args, levels.table, scratch.mutable_data_ptr(), current_stream()));
  return gradients.results(value);
}

at::Tensor ms_deform_attn_fused_cuda(const at::Tensor& value, const at::Tensor& spatial_shapes,
                                     const at::Tensor& level_start_index,
                                     const at::Tensor& reference_points, const at::Tensor& offsets,
                                     const at::Tensor& logits) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, spatial_shapes, level_start_index);
  return forward(value, levels, reference_points, offsets, logits);
}

at::Tensor ms_deform_attn_fused_list_cuda(const at::Tensor& value, at::IntArrayRef spatial_shapes,
                                          const at::Tensor& reference_points,
                                          const at::Tensor& offsets, const at::Tensor& logits) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, read_levels(value, spatial_shapes));
  return forward(value, levels, reference_points, offsets, logits);
}

Gradients ms_deform_attn_fused_backward_cuda(const at::Tensor& grad_output, const at::Tensor& value,
                                             const at::Tensor& spatial_shapes,
                                             const at::Tensor& level_start_index,
                                             const at::Tensor& reference_points,
                                             const at::Tensor& offsets, const at::Tensor& logits,
                                             std::array<bool, 4> output_mask) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, spatial_shapes, level_start_index);
  return backward(grad_output, value, levels, reference_points, offsets, logits, output_mask);
}

Gradients ms_deform_attn_fused_backward_list_cuda(
    const at::Tensor& grad_output, const at::Tensor& value, at::IntArrayRef spatial_shapes,
    const at::Tensor& reference_points, const at::Tensor& offsets, const at::Tensor& logits,
    std::array<bool, 4> output_mask) {
  const c10::cuda::CUDAGuard guard(value.device());
  const auto levels = send_levels(value, read_levels(value, spatial_shapes));
  return backward(grad_output, value, levels, reference_points, offsets, logits, output_mask);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CUDA, m) {
  m.impl("ms_deform_attn_fused", &ms_deform_attn_fused_cuda);
  m.impl("ms_deform_attn_fused.list", &ms_deform_attn_fused_list_cuda);
  m.impl("ms_deform_attn_fused_backward", &ms_deform_attn_fused_backward_cuda);
  m.impl("ms_deform_attn_fused_backward.list", &ms_deform_attn_fused_backward_list_cuda);
}

}  // namespace msda_fused
}  // namespace isda
