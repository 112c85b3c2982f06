// The bodies of the CUDA kernels run serially on the host; for tests of all sources of points.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "../cuda_block_on_host.h"
#include "checks.h"
#include "cuda_dispatch.h"

namespace isda {
namespace msda {

// What a block and the grid may use: small, so that the ends of everything are met, or as asked
// for.
struct HostLimits {
  BlockLimits block = {64, 4096};
  int64_t blocks = 3;  // the grid goes round if there is more to do

  explicit HostLimits(at::IntArrayRef numbers) {
    TORCH_CHECK_VALUE(numbers.empty() || numbers.size() == 3,
                      "limits: expected threads, bytes of shared memory and blocks, got ",
                      numbers.size(), " numbers");
    if (numbers.empty()) return;
    block = {static_cast<int32_t>(numbers[0]), static_cast<int32_t>(numbers[1])};
    blocks = numbers[2];
  }
};

// Tables, read where they lie, as on the device.
struct HostLevels {
  at::Tensor shapes, starts;
  LevelTable table = {};

  HostLevels(const at::Tensor& value, const at::Tensor& spatial_shapes,
             const at::Tensor& level_start_index) {
    check_index_tensors(value, spatial_shapes, level_start_index);
    read_levels(value, spatial_shapes, level_start_index);
    shapes = spatial_shapes.to(at::kLong).contiguous();
    starts = level_start_index.to(at::kLong).contiguous();
    table.shapes = shapes.const_data_ptr<int64_t>();
    table.starts = starts.const_data_ptr<int64_t>();
  }
};

template <class Body>
void run_blocks(const Sizes& sizes, const BlockLayout& layout, int64_t at_most, const Body& body) {
  const int64_t blocks = std::min(divide_up(items_of(sizes), layout.groups), at_most);
  for (int64_t i = 0; i < blocks; ++i) {
    HostBlock block(i, blocks, layout.threads, layout.shared_bytes);
    body(block);
  }
}

template <class Source>
void run_forward_on_host(const ValueArgs& args, const LevelTable& table, const Source& source,
                         const HostLimits& limits) {
  for_instance(args, args.output, /*few=*/false, [&](auto t, auto width, auto stride) {
    using T = decltype(t);
    constexpr int kWidth = decltype(width)::value;
    const auto layout =
        forward_layout<typename Number<T>::Arithmetic, Source>(args.sizes, kWidth, limits.block);
    run_blocks(args.sizes, layout, limits.blocks, [&](HostBlock& block) {
      forward_body<T, kWidth, decltype(stride)>(args, table, source, layout, block);
    });
  });
}

template <class Source>
void run_backward_on_host(const ValueArgs& args, const ValueGradientArgs& gradients,
                          const LevelTable& table, const Source& source, const HostLimits& limits) {
  for_sums(args, gradients, [&](auto t, auto width, auto stride, auto sums) {
    using T = decltype(t);
    constexpr int kWidth = decltype(width)::value;
    const auto layout =
        backward_layout<typename Number<T>::Arithmetic, Source>(args.sizes, kWidth, limits.block);
    run_blocks(args.sizes, layout, limits.blocks, [&](HostBlock& block) {
      backward_body<T, kWidth, decltype(stride), decltype(sums)>(args, gradients, table, source,
                                                                 layout, block);
    });
  });
}

}  // namespace msda
}  // namespace isda
