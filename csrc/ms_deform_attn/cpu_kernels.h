// The variants of the CPU kernels and the choice among them.
#pragma once

#include <string>

#include "shapes.h"

namespace isda {
namespace msda {

// One compilation of cpu_body.h.
struct CpuKernels {
  const char* name;
  // Points of all levels in the form the kernels want; see PointTable in cpu_body.h.
  void (*forward)(const ForwardArgs& args, const void* table, int64_t begin, int64_t end);
  void (*backward)(const BackwardArgs& args, const void* table, int64_t begin, int64_t end);
};

const CpuKernels& cpu_kernels_generic();
const CpuKernels& cpu_kernels_avx2();
const CpuKernels& cpu_kernels_avx512();

// The best variant this processor can run, or the one ISDA_OPS_CPU_ISA names.
const CpuKernels& chosen_cpu_kernels();
// Choose by name; empty for the best. Returns the name before; throws if it cannot run here.
std::string choose_cpu_kernels(const std::string& name);

}  // namespace msda
}  // namespace isda
