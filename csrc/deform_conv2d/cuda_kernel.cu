// The CUDA kernels: bodies from cuda_body.h, a policy, and launchers.
#include <cuda_runtime.h>

#include <type_traits>

#include "cuda_body.h"
#include "cuda_fused_body.h"
#include "cuda_kernels.h"

namespace isda {
namespace dcn {
namespace {

constexpr int kThreads = 256;
// Beyond this the grid-stride loop takes over; grids use x only.
constexpr int64_t kMaxBlocks = 1 << 20;

struct DevicePolicy {
  // One X of every thread of a block, in registers.
  template <class X>
  class OfThreads {
   public:
    template <class Body>
    __device__ void each(const Body& body) {
      body(mine_, int(threadIdx.x));
    }

   private:
    X mine_;
  };

  __device__ int64_t first_unit() const { return blockIdx.x; }
  __device__ int64_t unit_step() const { return gridDim.x; }
  __device__ int thread() const { return threadIdx.x; }
  __device__ int threads() const { return kThreads; }
  __device__ void wait() const { __syncthreads(); }

  template <int kWidth, class A>
  __device__ void add(A* at, const A* x) const {
#if __CUDA_ARCH__ >= 900
    // One reduction of 16 bytes; packs are aligned to them.
    if constexpr (std::is_same<A, float>::value && kWidth % 4 == 0) {
      for (int i = 0; i < kWidth; i += 4)
        asm volatile(
            "red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(at + i)),
            "f"(x[i]), "f"(x[i + 1]), "f"(x[i + 2]), "f"(x[i + 3])
            : "memory");
    } else
#endif
      for (int i = 0; i < kWidth; ++i) atomicAdd(at + i, x[i]);
  }
  __device__ void add(int64_t* at, int64_t x) const {
    // Two's complement: the unsigned sum has the same bits.
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(x));
  }
};

// Blocks of a multiprocessor, below, are as many as fit without spilling registers.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) columns_kernel(const ColumnArgs args, const Cut cut) {
  __shared__ ColumnScratch<typename Number<T>::Arithmetic> scratch;
  columns_body<T, kWidth>(args, cut, scratch, DevicePolicy());
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 2)
    gradients_kernel(const ColumnGradientArgs args, const Cut cut) {
  __shared__ GradientScratch<typename Number<T>::Arithmetic> scratch;
  gradients_body<T, kWidth>(args, cut, scratch, DevicePolicy());
}

template <int kOut>
__global__ void __launch_bounds__(kThreads, 3) fused_kernel(const FusedArgs args, const Cut cut) {
  static_assert(kThreads == kTileThreads, "a block computes one tile");
  __shared__ FusedScratch<kOut> scratch;
  fused_body<kOut>(args, cut, scratch, DevicePolicy());
}

int blocks_for(int64_t units) { return int(units < kMaxBlocks ? units : kMaxBlocks); }

}  // namespace

int launch_columns(const ColumnArgs& args, void* stream) {
  for_types(args, [&](auto t, auto width) {
    const Cut cut = cut_work(args, kColumnPairs, width);
    columns_kernel<decltype(t), decltype(width)::value>
        <<<blocks_for(cut.units), kThreads, 0, cudaStream_t(stream)>>>(args, cut);
  });
  return int(cudaGetLastError());
}

int launch_gradients(const ColumnGradientArgs& args, void* stream) {
  for_types(args.slice, [&](auto t, auto width) {
    const Cut cut = cut_work(args.slice, kGradientPairs, width);
    gradients_kernel<decltype(t), decltype(width)::value>
        <<<blocks_for(cut.units), kThreads, 0, cudaStream_t(stream)>>>(args, cut);
  });
  return int(cudaGetLastError());
}

int launch_fused(const FusedArgs& args, void* stream) {
  const Cut cut = cut_fused(args);
  for_fused(args, [&](auto out) {
    fused_kernel<decltype(out)::value>
        <<<blocks_for(cut.units / cut.chunks), kThreads, 0, cudaStream_t(stream)>>>(args, cut);
  });
  return int(cudaGetLastError());
}

const char* cuda_error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace dcn
}  // namespace isda
