// The CPU kernels for any processor.
#define ISDA_CPU_VARIANT 0
#include "cpu_variant.h"

namespace isda {
namespace msda {

const CpuKernels& cpu_kernels_generic() {
  static const CpuKernels kernels = {&forward_any, &backward_any};
  return kernels;
}

}  // namespace msda
}  // namespace isda
