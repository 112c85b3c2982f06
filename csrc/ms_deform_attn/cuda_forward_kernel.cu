// The forward kernel for given locations and weights.
#include "cuda_kernels.h"
#include "cuda_launch.h"

namespace isda {
namespace msda {

int launch_forward(const ForwardArgs& args, const LevelTable& table, void* stream) {
  return launch_forward_kernel(args, table, given_points(args), stream);
}

const char* cuda_error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace msda
}  // namespace isda
