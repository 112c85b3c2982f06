// The CUDA kernels for reference points, offsets and logits, run serially on the CPU, for tests.
#include <torch/library.h>

#include "../ms_deform_attn/cuda_run_on_host.h"
#include "checks.h"
#include "cuda_raw_points.h"

namespace isda {
namespace msda_fused {
namespace {

at::Tensor forward_on_host(const at::Tensor& value, const at::Tensor& spatial_shapes,
                           const at::Tensor& level_start_index, const at::Tensor& reference_points,
                           const at::Tensor& offsets, const at::Tensor& logits,
                           at::IntArrayRef limits) {
  const msda::HostLevels levels(value, spatial_shapes, level_start_index);
  Operands operands = prepare(value, spatial_shapes.size(0), reference_points, offsets, logits);
  at::Tensor output = allocate_output(operands);
  if (operands.has_work())
    msda::run_forward_on_host(operands.args, levels.table, raw_points(operands.args),
                              msda::HostLimits(limits));
  return output;
}

void add_heads_on_host(const BackwardArgs& args, int64_t blocks) {
  for (int64_t i = 0; i < blocks; ++i) {
    HostBlock block(i, blocks, kWarp, 0);
    if (args.forward.dtype == DType::kDouble)
      add_heads<double>(args, block);
    else
      add_heads<float>(args, block);
  }
}

Gradients backward_on_host(const at::Tensor& grad_output, const at::Tensor& value,
                           const at::Tensor& spatial_shapes, const at::Tensor& level_start_index,
                           const at::Tensor& reference_points, const at::Tensor& offsets,
                           const at::Tensor& logits, std::array<bool, 4> output_mask,
                           bool deterministic, at::IntArrayRef limits) {
  const msda::HostLevels levels(value, spatial_shapes, level_start_index);
  const Operands operands =
      prepare(value, spatial_shapes.size(0), reference_points, offsets, logits);
  const GradientOperands gradients =
      allocate_gradients(operands, grad_output, output_mask, deterministic);
  if (!operands.has_work()) return gradients.results(value);
  const at::Tensor scratch = allocate_weight_gradients(operands, gradients);
  const RawPoints source = raw_points(gradients.args, scratch.mutable_data_ptr());
  const msda::HostLimits host_limits(limits);
  msda::run_backward_on_host(operands.args, gradients.args, levels.table, source, host_limits);
  if (gradients.args.reference_sums) add_heads_on_host(gradients.args, host_limits.blocks);
  return gradients.results(value);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("_ms_deform_attn_fused_cuda_body_on_host", &forward_on_host);
  m.impl("_ms_deform_attn_fused_backward_cuda_body_on_host", &backward_on_host);
}

}  // namespace msda_fused
}  // namespace isda
