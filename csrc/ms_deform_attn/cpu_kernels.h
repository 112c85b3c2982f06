// The variants of the CPU kernels, one for every instruction set.
#pragma once

#include "shapes.h"

namespace isda {
namespace msda {

// One compilation of cpu_body.h. The table is a PointTable; `head` has room for a copy of one
// head's rows in the arithmetic type, backward for its gradient too, or is null: see cpu_head.h.
struct CpuKernels {
  // Outputs of a range of (image, head, query) triples.
  void (*forward)(const ForwardArgs& args, const void* table, void* head, int64_t begin,
                  int64_t end);
  // All gradients of a range of (image, head, level) triples.
  void (*backward)(const BackwardArgs& args, const void* table, void* head, int64_t begin,
                   int64_t end);
};

const CpuKernels& cpu_kernels_generic();
const CpuKernels& cpu_kernels_avx2();
const CpuKernels& cpu_kernels_avx512();

}  // namespace msda
}  // namespace isda
