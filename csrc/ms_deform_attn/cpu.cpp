// The operators on CPU tensors: one parallel region around the kernels of the chosen variant.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../cpu_isa.h"
#include "checks.h"
#include "cpu_kernels.h"
#include "owned_table.h"

namespace isda {
namespace msda {
namespace {

// How many of `units` equal parts of the work are worth a thread: about 200 microseconds, at
// about 6 ns for one point of 32 channels forward.
int64_t grain(const Sizes& s, int64_t units, int64_t passes) {
  const double points = static_cast<double>(s.images) * s.queries * s.heads * s.levels * s.points;
  const double nanoseconds = points * passes * (2.0 + s.channels / 8.0);
  return std::max<int64_t>(1, static_cast<int64_t>(units * 200e3 / std::max(nanoseconds, 1.0)));
}

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
  const ForwardArgs& args = operands.args;
  const CpuKernels& kernels = ISDA_OF_CHOSEN_ISA(cpu_kernels);
  const int64_t pairs = args.sizes.images * args.sizes.queries;
  with_table(levels, args, [&](const void* table) {
    at::parallel_for(0, pairs, grain(args.sizes, pairs, 1),
                     [&](int64_t begin, int64_t end) { kernels.forward(args, table, begin, end); });
  });
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const std::vector<Level>& levels, const at::Tensor& locations,
                   const at::Tensor& weights, std::array<bool, 3> output_mask) {
  const Operands operands = prepare(value, static_cast<int64_t>(levels.size()), locations, weights);
  const GradientOperands gradients = allocate_gradients(operands, grad_output, output_mask);
  const BackwardArgs& args = gradients.args;
  const bool wanted = output_mask[0] || output_mask[1] || output_mask[2];
  if (!operands.has_work() || !wanted) return gradients.results(value);
  const Sizes& s = args.forward.sizes;
  const CpuKernels& kernels = ISDA_OF_CHOSEN_ISA(cpu_kernels);
  // Where levels share rows of value they must stay in one thread.
  const int64_t width = overlapping(levels) ? s.levels : 1;
  const int64_t units = s.images * s.heads * s.levels / width;
  with_table(levels, args.forward, [&](const void* table) {
    at::parallel_for(0, units, grain(s, units, 3), [&](int64_t begin, int64_t end) {
      kernels.backward(args, table, begin * width, end * width);
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
