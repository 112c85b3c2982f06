// The operators on CPU tensors: one parallel region around the kernels of the chosen variant.
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../cpu_isa.h"
#include "checks.h"
#include "cpu_kernels.h"
#include "head_copies.h"
#include "owned_table.h"

namespace isda {
namespace msda {
namespace {

// Whether a row of value may belong to two levels.
bool overlapping(std::vector<Level> levels) {
  std::sort(levels.begin(), levels.end(),
            [](const Level& a, const Level& b) { return a.start < b.start; });
  int64_t end = 0;
  for (const Level& level : levels) {
    if (level.height * level.width == 0) continue;
    if (level.start < end) return true;
    end = level.start + level.height * level.width;
  }
  return false;
}

at::Tensor forward(const at::Tensor& value, const std::vector<Level>& levels,
                   const at::Tensor& locations, const at::Tensor& weights) {
  Operands operands = prepare(value, static_cast<int64_t>(levels.size()), locations, weights);
  at::Tensor output = allocate_output(operands);
  if (!operands.has_work()) return output;
  ForwardArgs& args = operands.args;
  args.table = levels.data();
  const CpuKernels& kernels = ISDA_OF_CHOSEN_ISA(cpu_kernels);
  const Sizes& s = args.sizes;
  const int64_t threads = threads_for(pass_time(s));
  const HeadCopies heads(value, s, 1, threads);
  with_table(levels, args, [&](const void* table) {
    run_team(threads, [&](const Member& member) {
      member.share(s.images * s.heads * s.queries, [&](auto... triples) {
        kernels.forward(args, table, heads.of(member), triples...);
      });
    });
  });
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const std::vector<Level>& levels, const at::Tensor& locations,
                   const at::Tensor& weights, std::array<bool, 3> output_mask) {
  const Operands operands = prepare(value, static_cast<int64_t>(levels.size()), locations, weights);
  GradientOperands gradients = allocate_gradients(operands, grad_output, output_mask);
  BackwardArgs& args = gradients.args;
  args.forward.table = levels.data();
  const bool wanted = output_mask[0] || output_mask[1] || output_mask[2];
  if (!operands.has_work() || !wanted) return gradients.results(value);
  const Sizes& s = args.forward.sizes;
  const CpuKernels& kernels = ISDA_OF_CHOSEN_ISA(cpu_kernels);
  // Where levels share rows of value they must stay in one thread.
  const int64_t width = overlapping(levels) ? s.levels : 1;
  const int64_t units = s.images * s.heads * s.levels / width;
  const int64_t threads = threads_for(3 * pass_time(s));
  const HeadCopies heads(value, s, 2, threads);
  with_table(levels, args.forward, [&](const void* table) {
    run_team(threads, [&](const Member& member) {
      member.share(units, [&](int64_t begin, int64_t end) {
        kernels.backward(args, table, heads.of(member), begin * width, end * width);
      });
    });
  });
  return gradients.results(value);
}

at::Tensor ms_deform_attn_cpu(const at::Tensor& value, const at::Tensor& spatial_shapes,
                              const at::Tensor& level_start_index, const at::Tensor& locations,
                              const at::Tensor& weights) {
  check_index_tensors(value, spatial_shapes, level_start_index);
  return forward(value, read_levels(value, spatial_shapes, level_start_index), locations, weights);
}

at::Tensor ms_deform_attn_list_cpu(const at::Tensor& value, at::IntArrayRef spatial_shapes,
                                   const at::Tensor& locations, const at::Tensor& weights) {
  return forward(value, read_levels(value, spatial_shapes), locations, weights);
}

Gradients ms_deform_attn_backward_cpu(const at::Tensor& grad_output, const at::Tensor& value,
                                      const at::Tensor& spatial_shapes,
                                      const at::Tensor& level_start_index,
                                      const at::Tensor& locations, const at::Tensor& weights,
                                      std::array<bool, 3> output_mask) {
  check_index_tensors(value, spatial_shapes, level_start_index);
  const auto levels = read_levels(value, spatial_shapes, level_start_index);
  return backward(grad_output, value, levels, locations, weights, output_mask);
}

Gradients ms_deform_attn_backward_list_cpu(const at::Tensor& grad_output, const at::Tensor& value,
                                           at::IntArrayRef spatial_shapes,
                                           const at::Tensor& locations, const at::Tensor& weights,
                                           std::array<bool, 3> output_mask) {
  const auto levels = read_levels(value, spatial_shapes);
  return backward(grad_output, value, levels, locations, weights, output_mask);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("ms_deform_attn", &ms_deform_attn_cpu);
  m.impl("ms_deform_attn.list", &ms_deform_attn_list_cpu);
  m.impl("ms_deform_attn_backward", &ms_deform_attn_backward_cpu);
  m.impl("ms_deform_attn_backward.list", &ms_deform_attn_backward_list_cpu);
}

}  // namespace msda
}  // namespace isda
