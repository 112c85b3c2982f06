// The CPU kernels for AVX-512 (F, BW, DQ, VL).
#if defined(__x86_64__)

// Standard headers first: nothing of theirs may be compiled for this instruction set.
#include <immintrin.h>
#include <stdint.h>

#include <string>

// In the file and not on the command line, so that every builder of these sources gets it.
#if defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif

#define ISDA_CPU_VARIANT 2
#include "cpu_variant.h"

namespace isda {
namespace msda {

const CpuKernels& cpu_kernels_avx512() {
  static const CpuKernels kernels = {"avx512", &forward_any, &backward_any};
  return kernels;
}

}  // namespace msda
}  // namespace isda

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
