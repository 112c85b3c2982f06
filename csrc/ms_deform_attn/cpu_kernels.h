// The variants of the CPU kernels, one for every instruction set.
#pragma once

#include "shapes.h"

namespace isda {
namespace msda {

// One compilation of cpu_body.h.
struct CpuKernels {
  // Points of all levels in the form the kernels want; see PointTable in cpu_body.h.
  void (*forward)(const ForwardArgs& args, const void* table, int64_t begin, int64_t end);
  void (*backward)(const BackwardArgs& args, const void* table, int64_t begin, int64_t end);
};

const CpuKernels& cpu_kernels_generic();
const CpuKernels& cpu_kernels_avx2();
const CpuKernels& cpu_kernels_avx512();

}  // namespace msda
}  // namespace isda
