// Compiles what follows in this file for one instruction set: ISDA_CPU_VARIANT 1 is AVX2, FMA and
// F16C, 2 is AVX-512 (F, BW, DQ, VL). In the file and not on the command line, so that every
// builder of these sources gets it. Ends with cpu_target_end.h.

// Standard headers first: nothing of theirs may be compiled for this instruction set.
#include <immintrin.h>
#include <stdint.h>

#if defined(__clang__) && ISDA_CPU_VARIANT == 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#elif ISDA_CPU_VARIANT == 1
#pragma GCC target("avx2,fma,f16c")
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif
