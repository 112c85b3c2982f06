// The bodies of the CUDA kernels run serially on the CPU, for tests on machines without a GPU.
#include <torch/library.h>

#include "checks.h"
#include "cuda_body.h"

namespace isda {
namespace msda {
namespace {

// One group of one lane does everything.
struct HostPolicy {
  int64_t first_group() const { return 0; }
  int64_t group_step() const { return 1; }
  int lane() const { return 0; }
  int lanes() const { return 1; }
  template <class A>
  A sum(A x) const {
    return x;
  }
  template <class A>
  void add(A* at, A x) const {
    *at += x;
  }
};

// The tables are read where they lie, as on the device.
LevelTable table_of(const at::Tensor& shapes, const at::Tensor& starts) {
  LevelTable table = {};
  table.shapes = shapes.const_data_ptr<int64_t>();
  table.starts = starts.const_data_ptr<int64_t>();
  return table;
}

at::Tensor forward_on_host(const at::Tensor& value, const at::Tensor& spatial_shapes,
                           const at::Tensor& level_start_index, const at::Tensor& locations,
                           const at::Tensor& weights) {
  check_index_tensors(value, spatial_shapes, level_start_index);
  read_levels(value, spatial_shapes, level_start_index);
  Operands operands = prepare(value, spatial_shapes.size(0), locations, weights);
  at::Tensor output = allocate_output(operands);
  if (!operands.has_work()) return output;
  const auto shapes = spatial_shapes.to(at::kLong).contiguous();
  const auto starts = level_start_index.to(at::kLong).contiguous();
  const LevelTable table = table_of(shapes, starts);
  for_types(operands.args, [&](auto t, auto tl, auto tw) {
    using T = decltype(t);
    if (can_pack<T>(operands.args))
      forward_body<T, decltype(tl), decltype(tw), 16 / sizeof(T)>(operands.args, table,
                                                                  HostPolicy());
    else
      forward_body<T, decltype(tl), decltype(tw), 1>(operands.args, table, HostPolicy());
  });
  return output;
}

Gradients backward_on_host(const at::Tensor& grad_output, const at::Tensor& value,
                           const at::Tensor& spatial_shapes, const at::Tensor& level_start_index,
                           const at::Tensor& locations, const at::Tensor& weights,
                           std::array<bool, 3> output_mask, bool deterministic) {
  check_index_tensors(value, spatial_shapes, level_start_index);
  read_levels(value, spatial_shapes, level_start_index);
  const Operands operands = prepare(value, spatial_shapes.size(0), locations, weights);
  const GradientOperands gradients =
      allocate_gradients(operands, grad_output, output_mask, deterministic);
  if (!operands.has_work()) return gradients.results(value);
  const auto shapes = spatial_shapes.to(at::kLong).contiguous();
  const auto starts = level_start_index.to(at::kLong).contiguous();
  const LevelTable table = table_of(shapes, starts);
  for_types(operands.args, [&](auto t, auto tl, auto tw) {
    backward_body<decltype(t), decltype(tl), decltype(tw)>(gradients.args, table, HostPolicy());
  });
  return gradients.results(value);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("_ms_deform_attn_cuda_body_on_host", &forward_on_host);
  m.impl("_ms_deform_attn_backward_cuda_body_on_host", &backward_on_host);
}

}  // namespace msda
}  // namespace isda
