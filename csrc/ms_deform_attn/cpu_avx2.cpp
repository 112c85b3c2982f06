// The CPU kernels for AVX2, FMA and F16C.
#if defined(__x86_64__)

// Standard headers first: nothing of theirs may be compiled for this instruction set.
#include <immintrin.h>
#include <stdint.h>

#include <string>

// In the file and not on the command line, so that every builder of these sources gets it.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define ISDA_CPU_VARIANT 1
#include "cpu_variant.h"

namespace isda {
namespace msda {

const CpuKernels& cpu_kernels_avx2() {
  static const CpuKernels kernels = {"avx2", &forward_any, &backward_any};
  return kernels;
}

}  // namespace msda
}  // namespace isda

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
