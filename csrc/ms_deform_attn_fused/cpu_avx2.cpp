// The CPU kernels for AVX2, FMA and F16C.
#if defined(__x86_64__)

#define ISDA_CPU_VARIANT 1
#include "../cpu_target_begin.h"
#include "cpu_variant.h"

namespace isda {
namespace msda_fused {

const CpuKernels& cpu_kernels_avx2() { return kVariant; }

}  // namespace msda_fused
}  // namespace isda

#include "../cpu_target_end.h"

#endif  // __x86_64__
