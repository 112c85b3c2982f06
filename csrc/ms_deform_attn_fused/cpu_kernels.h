// The variants of the CPU kernels, one for every instruction set.
#pragma once

#include "shapes.h"

namespace isda {
namespace msda_fused {

// One compilation of cpu_body.h. The table is a msda::PointTable; the workspace holds
// kWorkspaceRows * (L * P rounded up to kWorkspaceUnit) numbers in the arithmetic type, `head` what
// msda::CpuKernels say of it.
struct CpuKernels {
  // Outputs of a range of (image, head, query) triples.
  void (*forward)(const ForwardArgs& args, const void* table, void* workspace, void* head,
                  int64_t begin, int64_t end);
  // All gradients but that of the reference points, of a range of (image, head) pairs.
  void (*backward)(const BackwardArgs& args, const void* table, void* workspace, void* head,
                   int64_t begin, int64_t end);
  // After that: gradients of the reference points of a range of (image, query) pairs.
  void (*finish_references)(const BackwardArgs& args, int64_t begin, int64_t end);
};

constexpr int64_t kWorkspaceRows = 6, kWorkspaceUnit = 16;

const CpuKernels& cpu_kernels_generic();
const CpuKernels& cpu_kernels_avx2();
const CpuKernels& cpu_kernels_avx512();

}  // namespace msda_fused
}  // namespace isda
