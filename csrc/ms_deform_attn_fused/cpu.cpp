// The operators on CPU tensors: one parallel region around the kernels of the chosen variant.
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../cpu_isa.h"
#include "../ms_deform_attn/head_copies.h"
#include "../ms_deform_attn/owned_table.h"
#include "checks.h"
#include "cpu_kernels.h"

namespace isda {
namespace msda_fused {
namespace {

using msda::Level;

// What a thread keeps of one query.
Workspaces make_workspaces(const at::Tensor& value, const msda::Sizes& s, int64_t threads) {
  const int64_t groups = (s.levels * s.points + kWorkspaceUnit - 1) / kWorkspaceUnit;
  const int64_t numbers = kWorkspaceRows * kWorkspaceUnit * groups;
  return {msda::arithmetic_options(value), threads, numbers};
}

at::Tensor forward(const at::Tensor& value, const std::vector<Level>& levels,
                   const at::Tensor& reference_points, const at::Tensor& offsets,
                   const at::Tensor& logits) {
  const int64_t level_count = static_cast<int64_t>(levels.size());
  Operands operands = prepare(value, level_count, reference_points, offsets, logits);
  at::Tensor output = allocate_output(operands);
  if (!operands.has_work()) return output;
  ForwardArgs& args = operands.args;
  args.table = levels.data();
  const CpuKernels& kernels = ISDA_OF_CHOSEN_ISA(cpu_kernels);
  const msda::Sizes& s = args.sizes;
  const int64_t threads = threads_for(msda::pass_time(s));
  const Workspaces workspaces = make_workspaces(value, s, threads);
  const msda::HeadCopies heads(value, s, 1, threads);
  msda::with_table(levels, args, [&](const void* table) {
    run_team(threads, [&](const Member& member) {
      member.share(s.images * s.heads * s.queries, [&](auto... triples) {
        kernels.forward(args, table, workspaces.of(member), heads.of(member), triples...);
      });
    });
  });
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const std::vector<Level>& levels, const at::Tensor& reference_points,
                   const at::Tensor& offsets, const at::Tensor& logits,
                   std::array<bool, 4> output_mask) {
  const int64_t level_count = static_cast<int64_t>(levels.size());
  const Operands operands = prepare(value, level_count, reference_points, offsets, logits);
  GradientOperands gradients = allocate_gradients(operands, grad_output, output_mask);
  const bool wanted = std::find(output_mask.begin(), output_mask.end(), true) != output_mask.end();
  if (!operands.has_work() || !wanted) return gradients.results(value);
  BackwardArgs& args = gradients.args;
  args.forward.table = levels.data();
  const msda::Sizes& s = args.forward.sizes;
  const CpuKernels& kernels = ISDA_OF_CHOSEN_ISA(cpu_kernels);
  const int64_t threads = threads_for(3 * msda::pass_time(s));
  const Workspaces workspaces = make_workspaces(value, s, threads);
  const msda::HeadCopies heads(value, s, 2, threads);
  msda::with_table(levels, args.forward, [&](const void* table) {
    run_team(threads, [&](const Member& member) {
      member.share(s.images * s.heads, [&](auto... pairs) {
        kernels.backward(args, table, workspaces.of(member), heads.of(member), pairs...);
      });
      if (args.reference_sums == nullptr) return;
      member.wait();
      member.share(s.images * s.queries,
                   [&](auto... pairs) { kernels.finish_references(args, pairs...); });
    });
  });
  return gradients.results(value);
}

at::Tensor ms_deform_attn_fused_cpu(const at::Tensor& value, const at::Tensor& spatial_shapes,
                                    const at::Tensor& level_start_index,
                                    const at::Tensor& reference_points, const at::Tensor& offsets,
                                    const at::Tensor& logits) {
  msda::check_index_tensors(value, spatial_shapes, level_start_index);
  const auto levels = msda::read_levels(value, spatial_shapes, level_start_index);
  return forward(value, levels, reference_points, offsets, logits);
}

at::Tensor ms_deform_attn_fused_list_cpu(const at::Tensor& value, at::IntArrayRef spatial_shapes,
                                         const at::Tensor& reference_points,
                                         const at::Tensor& offsets, const at::Tensor& logits) {
  const auto levels = msda::read_levels(value, spatial_shapes);
  return forward(value, levels, reference_points, offsets, logits);
}

Gradients ms_deform_attn_fused_backward_cpu(const at::Tensor& grad_output, const at::Tensor& value,
                                            const at::Tensor& spatial_shapes,
                                            const at::Tensor& level_start_index,
                                            const at::Tensor& reference_points,
                                            const at::Tensor& offsets, const at::Tensor& logits,
                                            std::array<bool, 4> output_mask) {
  msda::check_index_tensors(value, spatial_shapes, level_start_index);
  const auto levels = msda::read_levels(value, spatial_shapes, level_start_index);
  return backward(grad_output, value, levels, reference_points, offsets, logits, output_mask);
}

Gradients ms_deform_attn_fused_backward_list_cpu(
    const at::Tensor& grad_output, const at::Tensor& value, at::IntArrayRef spatial_shapes,
    const at::Tensor& reference_points, const at::Tensor& offsets, const at::Tensor& logits,
    std::array<bool, 4> output_mask) {
  const auto levels = msda::read_levels(value, spatial_shapes);
  return backward(grad_output, value, levels, reference_points, offsets, logits, output_mask);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("ms_deform_attn_fused", &ms_deform_attn_fused_cpu);
  m.impl("ms_deform_attn_fused.list", &ms_deform_attn_fused_list_cpu);
  m.impl("ms_deform_attn_fused_backward", &ms_deform_attn_fused_backward_cpu);
  m.impl("ms_deform_attn_fused_backward.list", &ms_deform_attn_fused_backward_list_cpu);
}

}  // namespace msda_fused
}  // namespace isda
