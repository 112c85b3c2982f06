// The forward kernel for reference points, offsets and logits.
#include "../ms_deform_attn/cuda_launch.h"
#include "cuda_kernels.h"
#include "cuda_raw_points.h"

namespace isda {
namespace msda_fused {

int launch_forward(const ForwardArgs& args, const LevelTable& table, void* stream) {
  return msda::launch_forward_kernel(args, table, raw_points(args), stream);
}

}  // namespace msda_fused
}  // namespace isda
