// The CUDA kernels: bodies from cuda_body.h, a policy, and launchers.
#include <cuda_runtime.h>

#include "cuda_kernels.h"

namespace isda {
namespace msda {
namespace {

constexpr int kThreads = 256;
// Beyond this the grid-stride loop takes over; grids use x only.
constexpr int64_t kMaxBlocks = 1 << 20;

// kLanes neighbouring threads are a group.
template <int kLanes>
struct DevicePolicy {
  __device__ int64_t first_group() const {
    return (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / kLanes;
  }
  __device__ int64_t group_step() const { return int64_t(gridDim.x) * blockDim.x / kLanes; }
  __device__ int lane() const { return threadIdx.x % kLanes; }
  __device__ int lanes() const { return kLanes; }
  template <class A>
  __device__ A sum(A x) const {
    // Groups of one warp go their own ways, so only the lanes of this one take part.
    const unsigned group = threadIdx.x % 32 / kLanes;
    const unsigned mask = (kLanes == 32 ? ~0u : (1u << kLanes) - 1) << (group * kLanes % 32);
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
      x += __shfl_xor_sync(mask, x, offset, kLanes);
    return x;
  }
  template <class A>
  __device__ void add(A* at, A x) const {
    atomicAdd(at, x);
  }
  __device__ void add(int64_t* at, int64_t x) const {
    // Two's complement: the unsigned sum has the same bits.
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(x));
  }
};

template <class T, class TL, class TW, int kWidth, int kLanes>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const ForwardArgs args, const LevelTable table) {
  forward_body<T, TL, TW, kWidth>(args, table, DevicePolicy<kLanes>());
}

template <class T, class TL, class TW, int kLanes>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const BackwardArgs args, const LevelTable table) {
  backward_body<T, TL, TW>(args, table, DevicePolicy<kLanes>());
}

int blocks_for(const Sizes& s, int lanes) {
  const int64_t groups = s.images * s.queries * s.heads;
  const int64_t per_block = kThreads / lanes;
  const int64_t blocks = (groups + per_block - 1) / per_block;
  return int(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

// Call body with the number of lanes, the smallest power of two that covers the channels, 4..32.
template <class Body>
void for_lanes(int64_t parts, const Body& body) {
  if (parts <= 4) return body(std::integral_constant<int, 4>());
  if (parts <= 8) return body(std::integral_constant<int, 8>());
  if (parts <= 16 || parts == 48) return body(std::integral_constant<int, 16>());
  return body(std::integral_constant<int, 32>());
}

}  // namespace

int launch_forward(const ForwardArgs& args, const LevelTable& table, void* stream) {
  const auto launch = [&](auto t, auto tl, auto tw, auto width) {
    using T = decltype(t);
    constexpr int kWidth = decltype(width)::value;
    for_lanes(args.sizes.channels / kWidth, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      forward_kernel<T, decltype(tl), decltype(tw), kWidth, kLanes>
          <<<blocks_for(args.sizes, kLanes), kThreads, 0, cudaStream_t(stream)>>>(args, table);
    });
  };
  for_types(args, [&](auto t, auto tl, auto tw) {
    using T = decltype(t);
    if (can_pack<T>(args))
      launch(t, tl, tw, std::integral_constant<int, 16 / sizeof(T)>());
    else
      launch(t, tl, tw, std::integral_constant<int, 1>());
  });
  return int(cudaGetLastError());
}

int launch_backward(const BackwardArgs& args, const LevelTable& table, void* stream) {
  const Sizes& s = args.forward.sizes;
  for_types(args.forward, [&](auto t, auto tl, auto tw) {
    for_lanes(s.channels, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      backward_kernel<decltype(t), decltype(tl), decltype(tw), kLanes>
          <<<blocks_for(s, kLanes), kThreads, 0, cudaStream_t(stream)>>>(args, table);
    });
  });
  return int(cudaGetLastError());
}

const char* cuda_error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace msda
}  // namespace isda
