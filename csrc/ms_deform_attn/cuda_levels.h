// What the CUDA bindings of all forms of the operator share: levels on the device, launches.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "cuda_points.h"

namespace isda {
namespace msda {

// The levels for the kernels, and the tensors the pointers in them belong to.
struct DeviceLevels {
  LevelTable table = {};
  int64_t count = 0;
  at::Tensor shapes, starts;
};

// Levels known on the host travel as arguments of the kernel if they are few.
DeviceLevels send_levels(const at::Tensor& value, const std::vector<Level>& host);
// Tables on either side. Those on the device are read there, and not checked unless
// ISDA_OPS_VALIDATE=1, which synchronises.
DeviceLevels send_levels(const at::Tensor& value, const at::Tensor& spatial_shapes,
                         const at::Tensor& level_start_index);

// Raise if a launcher of this operator returned an error.
void check_launch(const char* name, int error);
void* current_stream();

}  // namespace msda
}  // namespace isda
