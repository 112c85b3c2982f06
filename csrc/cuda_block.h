// A block of threads, so that the body of a kernel is one text for the GPU and for the host, where
// tests run it serially (cuda_block_on_host.h).
//
// A block has
//   int64_t index(), count()       its place in the grid, and the size of that
//   int threads()                  whole warps
//   void each(f)                   f(thread) for every thread; no barrier
//   void barrier()                 what was written to shared memory may be read by others now
//   Shared<T> shared<T>(offset)    numbers in shared memory, from that byte on
//   PerThread<S> x(block)          x[thread]: what a thread keeps from one `each` to the next
//   void shuffle_xor(x, offset)    every thread gets x of the thread `offset` further in its warp
//   void add(A* at, A x)           atomically, to global memory; A is float, double or int64_t
//   void add_pack(A* at, pack)     neighbouring numbers at once; `at` is aligned like the pack
// All threads of a block must come to each barrier and shuffle, so loops around these run equally
// often for all of them.
#pragma once

#include <stdint.h>

// ISDA_BODY is the body of a kernel: on the GPU, or on the host where no CUDA compiler is at work.
// ISDA_BOTH is what launchers need besides.
#if defined(__CUDACC__)
#define ISDA_BODY __device__ __forceinline__
#define ISDA_BOTH __host__ __device__ __forceinline__
#define ISDA_UNROLL _Pragma("unroll")
#else
#define ISDA_BODY inline
#define ISDA_BOTH inline
#define ISDA_UNROLL
#endif

namespace isda {

constexpr int kWarp = 32;

#if defined(__CUDACC__)

extern __shared__ __align__(16) unsigned char isda_shared_memory[];

class DeviceBlock {
 public:
  template <class State>
  struct PerThread {
    __device__ explicit PerThread(const DeviceBlock&) {}
    __device__ State& operator[](int) { return state; }
    State state;
  };

  template <class T>
  struct Shared {
    T* at;
    __device__ T read(int, int i) const {
      // 16 bytes go at once, whatever they consist of.
      if constexpr (sizeof(T) == sizeof(uint4)) {
        const uint4 bits = reinterpret_cast<const uint4*>(at)[i];
        T x;
        memcpy(&x, &bits, sizeof(T));
        return x;
      } else {
        return at[i];
      }
    }
    __device__ void write(int, int i, const T& x) const { at[i] = x; }
  };

  __device__ int64_t index() const { return blockIdx.x; }
  __device__ int64_t count() const { return gridDim.x; }
  __device__ int threads() const { return int(blockDim.x); }
  template <class Body>
  __device__ void each(const Body& body) const {
    body(int(threadIdx.x));
  }
  __device__ void barrier() const { __syncthreads(); }
  template <class T>
  __device__ Shared<T> shared(int offset) const {
    return {reinterpret_cast<T*>(isda_shared_memory + offset)};
  }
  template <class A>
  __device__ void shuffle_xor(PerThread<A>& x, int offset) const {
    x.state = __shfl_xor_sync(~0u, x.state, offset);
  }

  template <class A>
  __device__ void add(A* at, A x) const {
    atomicAdd(at, x);
  }
  __device__ void add(int64_t* at, int64_t x) const {
    // Two's complement: the unsigned sum has the same bits.
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(x));
  }

  // One reduction for four or two numbers where the GPU has it.
  template <class Pack>
  __device__ void add_pack(float* at, const Pack& x) const {
    constexpr int width = sizeof(x.at) / sizeof(float);
#if __CUDA_ARCH__ >= 900
    if constexpr (width % 4 == 0) {
      for (int i = 0; i < width; i += 4)
        asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(
                         __cvta_generic_to_global(at + i)),
                     "f"(x.at[i]), "f"(x.at[i + 1]), "f"(x.at[i + 2]), "f"(x.at[i + 3])
                     : "memory");
    } else if constexpr (width == 2) {
      asm volatile(
          "red.relaxed.gpu.global.add.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(at)),
          "f"(x.at[0]), "f"(x.at[1])
          : "memory");
    } else {
      for (int i = 0; i < width; ++i) atomicAdd(at + i, x.at[i]);
    }
#else
    for (int i = 0; i < width; ++i) atomicAdd(at + i, x.at[i]);
#endif
  }
  template <class Pack>
  __device__ void add_pack(double* at, const Pack& x) const {
    for (int i = 0; i < int(sizeof(x.at) / sizeof(double)); ++i) atomicAdd(at + i, x.at[i]);
  }
};

#endif

}  // namespace isda
