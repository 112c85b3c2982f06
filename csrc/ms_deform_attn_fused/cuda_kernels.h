// Launchers of the CUDA kernels; no torch header, so that nvcc is done in seconds.
#pragma once

#include "../ms_deform_attn/cuda_points.h"
#include "shapes.h"

namespace isda {
namespace msda_fused {

// `stream` is a cudaStream_t. Returns a cudaError_t: 0 for success.
int launch_forward(const ForwardArgs& args, const msda::LevelTable& table, void* stream);
// weight_gradients: (B, Q, M, L, P) in the arithmetic type, or null if grad_logits is not wanted.
int launch_backward(const BackwardArgs& args, const msda::LevelTable& table, void* weight_gradients,
                    void* stream);

}  // namespace msda_fused
}  // namespace isda
