// Kernels and their launch; for .cu files, which instantiate them for a source of points.
#pragma once

#include <cuda_runtime.h>

#include "cuda_dispatch.h"

namespace isda {
namespace msda {

constexpr int kMaxThreads = 256;
// Blocks of so many threads that a multiprocessor shall hold, which bounds the registers; as many
// as go without spilling.
template <class T>
constexpr int kForwardBlocks = sizeof(T) == sizeof(double) ? 2 : 3;
template <class T, class Sums>
constexpr int kBackwardBlocks = std::is_same_v<T, float> && !Sums::kExact ? 3 : 2;

template <class T, int kWidth, class Stride, class Source>
__global__ void __launch_bounds__(kMaxThreads, kForwardBlocks<T>)
    forward_kernel(const __grid_constant__ ValueArgs args, const __grid_constant__ LevelTable table,
                   const __grid_constant__ Source source,
                   const __grid_constant__ BlockLayout layout) {
  DeviceBlock block;
  forward_body<T, kWidth, Stride>(args, table, source, layout, block);
}

template <class T, int kWidth, class Stride, class Sums, class Source>
__global__ void __launch_bounds__(kMaxThreads, kBackwardBlocks<T, Sums>)
    backward_kernel(const __grid_constant__ ValueArgs args,
                    const __grid_constant__ ValueGradientArgs gradients,
                    const __grid_constant__ LevelTable table, const __grid_constant__ Source source,
                    const __grid_constant__ BlockLayout layout) {
  DeviceBlock block;
  backward_body<T, kWidth, Stride, Sums>(args, gradients, table, source, layout, block);
}

// Beyond this the grid-stride loop takes over; grids use x only.
constexpr int64_t kMaxBlocks = 1 << 20;

inline unsigned blocks_for(const Sizes& sizes, const BlockLayout& layout) {
  const int64_t blocks = divide_up(items_of(sizes), layout.groups);
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

template <class Source>
int launch_forward_kernel(const ValueArgs& args, const LevelTable& table, const Source& source,
                          void* stream) {
  for_instance(args, args.output, /*few=*/false, [&](auto t, auto width, auto stride) {
    using T = decltype(t);
    constexpr int kWidth = decltype(width)::value;
    const Sizes& s = args.sizes;
    const BlockLimits limits = limits_for(items_of(s), s.channels / kWidth, kForwardBytes);
    const auto layout = forward_layout<typename Number<T>::Arithmetic, Source>(s, kWidth, limits);
    forward_kernel<T, kWidth, decltype(stride), Source>
        <<<blocks_for(s, layout), layout.threads, layout.shared_bytes, cudaStream_t(stream)>>>(
            args, table, source, layout);
  });
  return int(cudaGetLastError());
}

template <class Source>
int launch_backward_kernel(const ValueArgs& args, const ValueGradientArgs& gradients,
                           const LevelTable& table, const Source& source, void* stream) {
  for_sums(args, gradients, [&](auto t, auto width, auto stride, auto sums) {
    using T = decltype(t);
    using Stride = decltype(stride);
    using Sums = decltype(sums);
    constexpr int kWidth = decltype(width)::value;
    const Sizes& s = args.sizes;
    const BlockLimits limits = limits_for(items_of(s), s.channels / kWidth, kBackwardBytes);
    const auto layout = backward_layout<typename Number<T>::Arithmetic, Source>(s, kWidth, limits);
    backward_kernel<T, kWidth, Stride, Sums, Source>
        <<<blocks_for(s, layout), layout.threads, layout.shared_bytes, cudaStream_t(stream)>>>(
            args, gradients, table, source, layout);
  });
  return int(cudaGetLastError());
}

}  // namespace msda
}  // namespace isda
