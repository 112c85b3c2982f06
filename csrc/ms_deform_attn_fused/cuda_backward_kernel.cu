// The backward kernels for reference points, offsets and logits.
#include "../ms_deform_attn/cuda_launch.h"
#include "cuda_kernels.h"
#include "cuda_raw_points.h"

namespace isda {
namespace msda_fused {
namespace {

template <class A>
__global__ void __launch_bounds__(msda::kMaxThreads)
    add_heads_kernel(const __grid_constant__ BackwardArgs args) {
  DeviceBlock block;
  add_heads<A>(args, block);
}

}  // namespace

int launch_backward(const BackwardArgs& args, const LevelTable& table, void* weight_gradients,
                    void* stream) {
  const int error = msda::launch_backward_kernel(args.forward, args, table,
                                                 raw_points(args, weight_gradients), stream);
  if (error != 0 || !args.reference_sums) return error;
  const msda::Sizes& s = args.forward.sizes;
  const int64_t numbers =
      s.images * s.queries * args.forward.reference_levels * args.forward.reference_coordinates;
  const int64_t blocks = msda::divide_up(numbers, msda::kMaxThreads);
  const auto grid = static_cast<unsigned>(blocks < msda::kMaxBlocks ? blocks : msda::kMaxBlocks);
  if (args.forward.dtype == DType::kDouble)
    add_heads_kernel<double><<<grid, msda::kMaxThreads, 0, cudaStream_t(stream)>>>(args);
  else
    add_heads_kernel<float><<<grid, msda::kMaxThreads, 0, cudaStream_t(stream)>>>(args);
  return int(cudaGetLastError());
}

}  // namespace msda_fused
}  // namespace isda
