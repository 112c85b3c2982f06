// The CUDA kernels: bodies from cuda_body.h, a policy, and launchers.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <mma.h>

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

// What the tensor cores call the types of 16 bits.
template <class T>
struct TensorType;
template <>
struct TensorType<Half> {
  using Type = __half;
};
template <>
struct TensorType<BFloat16> {
  using Type = __nv_bfloat16;
};

// The sums of one warp: 16 pixels times half of the output channels, on tensor cores.
template <class T, int kOut>
class WarpSums {
 public:
  __device__ WarpSums() {
    for (auto& sums : sums_) nvcuda::wmma::fill_fragment(sums, 0.0f);
  }

  __device__ void add(const T* columns, const T* weight, int depth, int thread) {
    using namespace nvcuda::wmma;
    using Layout = Tile<T, kOut>;
    using Type = typename TensorType<T>::Type;
    for (int k = 0; k < depth; k += kSide) {
      fragment<matrix_a, kSide, kSide, kSide, Type, row_major> a;
      const T* left = columns + Layout::column(k, pixel_of(thread));
      load_matrix_sync(a, reinterpret_cast<const Type*>(left), Layout::kColumnRow);
      for (int i = 0; i < kCount; ++i) {
        fragment<matrix_b, kSide, kSide, kSide, Type, row_major> b;
        const T* right = weight + k * Layout::kWeightRow + out_of(thread) + i * kSide;
        load_matrix_sync(b, reinterpret_cast<const Type*>(right), Layout::kWeightRow);
        mma_sync(sums_[i], a, b, sums_[i]);
      }
    }
  }

  __device__ void store(float* sums, int thread) const {
    for (int i = 0; i < kCount; ++i) {
      float* to = sums + Tile<T, kOut>::sum(out_of(thread) + i * kSide, pixel_of(thread));
      nvcuda::wmma::store_matrix_sync(to, sums_[i], kTilePixels, nvcuda::wmma::mem_col_major);
    }
  }

 private:
  static constexpr int kSide = 16, kCount = kOut / 2 / kSide;
  static __device__ int pixel_of(int thread) { return thread / 32 % 4 * kSide; }
  static __device__ int out_of(int thread) { return thread / 32 / 4 * (kOut / 2); }
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, kSide, kSide, kSide, float> sums_[kCount];
};

struct DevicePolicy {
  template <class T, int kOut>
  using Sums =
      std::conditional_t<std::is_same<T, float>::value, ThreadSums<T, kOut>, WarpSums<T, kOut>>;

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

// Blocks of a multiprocessor, below, are as many as fit with hardly a register spilled.
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

template <class T, int kOut>
__global__ void __launch_bounds__(kThreads, 3) fused_kernel(const FusedArgs args, const Cut cut) {
  static_assert(kThreads == kTileThreads, "a block computes one tile");
  __shared__ FusedScratch<T, kOut> scratch;
  fused_body<T, kOut>(args, cut, scratch, DevicePolicy());
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
  for_fused(args, [&](auto t, auto out) {
    fused_kernel<decltype(t), decltype(out)::value>
        <<<blocks_for(cut.units / cut.chunks), kThreads, 0, cudaStream_t(stream)>>>(args, cut);
  });
  return int(cudaGetLastError());
}

const char* cuda_error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace dcn
}  // namespace isda
