// The variants of the CPU kernels, one for every instruction set. Every function handles the
// units [begin, end) of its kind.
#pragma once

#include "shapes.h"

namespace isda {
namespace dcn {

constexpr int64_t kStrip = 256;  // pixels of one unit where layouts are converted

struct CpuKernels {
  int64_t vector_bytes;
  int64_t rows;  // of the matrix product's register block: tiles are multiples of it
  // Units: images times strips of the input.
  void (*pack_input)(const ForwardArgs& args, int64_t begin, int64_t end);
  // Units: weight groups times taps.
  void (*pack_weight)(const ForwardArgs& args, int64_t begin, int64_t end);
  // Units: images times tiles.
  void (*forward)(const ForwardArgs& args, void* workspace, int64_t begin, int64_t end);
  // Units: segments.
  void (*pack_weight_backward)(const BackwardArgs& args, int64_t begin, int64_t end);
  // Units: runs of images times blocks of channels.
  void (*backward)(const BackwardArgs& args, void* workspace, int64_t begin, int64_t end);
  // Units: images times deform groups times taps.
  void (*finish_points)(const BackwardArgs& args, int64_t begin, int64_t end);
  // Units: segments.
  void (*finish_weight)(const BackwardArgs& args, int64_t begin, int64_t end);
  // Units: output channels.
  void (*finish_bias)(const BackwardArgs& args, int64_t begin, int64_t end);
  // Units: images times strips of the input.
  void (*finish_input)(const BackwardArgs& args, int64_t begin, int64_t end);
};

const CpuKernels& cpu_kernels_generic();
const CpuKernels& cpu_kernels_avx2();
const CpuKernels& cpu_kernels_avx512();

}  // namespace dcn
}  // namespace isda
