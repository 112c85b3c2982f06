// The operators on CUDA tensors: current stream, no synchronisation.
#include <ATen/Context.h>
#include <ATen/ops/tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstdlib>
#include <vector>

#include "checks.h"
#include "cuda_kernels.h"

namespace isda {
namespace msda {
namespace {

// The levels for the kernels, and the tensors the pointers in them belong to.
struct DeviceLevels {
  LevelTable table = {};
  int64_t count = 0;
  at::Tensor shapes, starts;
};

void use_tensors(DeviceLevels& levels, const at::Tensor& shapes, const at::Tensor& starts) {
  levels.shapes = shapes;
  levels.starts = starts;
  levels.table.shapes = shapes.const_data_ptr<int64_t>();
  levels.table.starts = starts.const_data_ptr<int64_t>();
}

// Levels known on the host travel as arguments of the kernel if they are few.
DeviceLevels send_levels(const at::Tensor& value, const std::vector<Level>& host) {
  DeviceLevels levels;
  levels.count = static_cast<int64_t>(host.size());
  if (host.size() <= kInlineLevels) {
    for (size_t i = 0; i < host.size(); ++i) {
      levels.table.levels[3 * i] = static_cast<int32_t>(host[i].height);
      levels.table.levels[3 * i + 1] = static_cast<int32_t>(host[i].width);
      levels.table.levels[3 * i + 2] = static_cast<int32_t>(host[i].start);
    }
    return levels;
  }
  std::vector<int64_t> shapes, starts;
  for (const Level& level : host) {
    shapes.insert(shapes.end(), {level.height, level.width});
    starts.push_back(level.start);
  }
  const auto send = [&](const std::vector<int64_t>& numbers) {
    return at::tensor(numbers, at::kLong).to(value.device(), /*non_blocking=*/true);
  };
  use_tensors(levels, send(shapes), send(starts));
  return levels;
}

DeviceLevels send_levels(const at::Tensor& value, const at::Tensor& spatial_shapes,
                         const at::Tensor& level_start_index) {
  check_index_tensors(value, spatial_shapes, level_start_index);
  const bool on_host = spatial_shapes.is_cpu() && level_start_index.is_cpu();
  const char* validate = std::getenv("ISDA_OPS_VALIDATE");
  if (on_host) return send_levels(value, read_levels(value, spatial_shapes, level_start_index));
  if (validate != nullptr && validate[0] == '1')
    read_levels(value, spatial_shapes.cpu(), level_start_index.cpu());
  DeviceLevels levels;
  levels.count = spatial_shapes.size(0);
  const auto send = [&](const at::Tensor& table) {
    return table.to(value.device(), at::kLong, /*non_blocking=*/true).contiguous();
  };
  use_tensors(levels, send(spatial_shapes), send(level_start_index));
  return levels;
}

void check_launch(int error) {
  TORCH_CHECK(error == 0,
              "ms_deform_attn: launching the CUDA kernel failed: ", cuda_error_text(error));
}

void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

at::Tensor forward(const at::Tensor& value, const DeviceLevels& levels, const at::Tensor& locations,
                   const at::Tensor& weights) {
  Operands operands = prepare(value, levels.count, locations, weights);
  at::Tensor output = allocate_output(operands);
  if (operands.has_work())
    check_launch(launch_forward(operands.args, levels.table, current_stream()));
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
    check_launch(launch_backward(gradients.args, levels.table, current_stream()));
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
