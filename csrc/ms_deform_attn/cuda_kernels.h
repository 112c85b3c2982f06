// Launchers of the CUDA kernels; no torch header, so that nvcc is done in seconds.
#pragma once

#include "cuda_points.h"

namespace isda {
namespace msda {

// `stream` is a cudaStream_t. Returns a cudaError_t: 0 for success.
int launch_forward(const ForwardArgs& args, const LevelTable& table, void* stream);
int launch_backward(const BackwardArgs& args, const LevelTable& table, void* stream);
const char* cuda_error_text(int error);

}  // namespace msda
}  // namespace isda
