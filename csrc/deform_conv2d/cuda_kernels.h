// Launchers of the CUDA kernels; no torch header, so that nvcc is done in seconds.
#pragma once

#include "column_shapes.h"

namespace isda {
namespace dcn {

// `stream` is a cudaStream_t. Returns a cudaError_t: 0 for success.
int launch_columns(const ColumnArgs& args, void* stream);
int launch_gradients(const ColumnGradientArgs& args, void* stream);
int launch_fused(const FusedArgs& args, void* stream);
const char* cuda_error_text(int error);

}  // namespace dcn
}  // namespace isda
