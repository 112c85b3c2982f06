// The CPU kernels for any processor.
#define ISDA_CPU_VARIANT 0
#include "cpu_variant.h"

namespace isda {
namespace msda_fused {

const CpuKernels& cpu_kernels_generic() { return kVariant; }

}  // namespace msda_fused
}  // namespace isda
