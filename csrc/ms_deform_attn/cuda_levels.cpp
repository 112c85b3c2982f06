#include "cuda_levels.h"

#include <ATen/ops/tensor.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdlib>

#include "checks.h"
#include "cuda_kernels.h"

namespace isda {
namespace msda {
namespace {

void use_tensors(DeviceLevels& levels, const at::Tensor& shapes, const at::Tensor& starts) {
  levels.shapes = shapes;
  levels.starts = starts;
  levels.table.shapes = shapes.const_data_ptr<int64_t>();
  levels.table.starts = starts.const_data_ptr<int64_t>();
}

}  // namespace

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

void check_launch(const char* name, int error) {
  TORCH_CHECK(error == 0, name, ": launching the CUDA kernel failed: ", cuda_error_text(error));
}

void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

}  // namespace msda
}  // namespace isda
