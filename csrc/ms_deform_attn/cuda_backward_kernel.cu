// The backward kernel for given locations and weights.
#include "cuda_kernels.h"
#include "cuda_launch.h"

namespace isda {
namespace msda {

int launch_backward(const BackwardArgs& args, const LevelTable& table, void* stream) {
  return launch_backward_kernel(args.forward, args, table, given_points(args), stream);
}

}  // namespace msda
}  // namespace isda
