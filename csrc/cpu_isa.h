// The instruction set of the CPU kernels of all operators.
#pragma once

#include <string>

namespace isda {

enum class CpuIsa : int { kGeneric, kAvx2, kAvx512 };

// The best one this processor can run, or the one ISDA_OPS_CPU_ISA names.
CpuIsa chosen_cpu_isa();
const char* cpu_isa_name(CpuIsa isa);
// Choose by name; empty for the best. Returns the name before; throws if it cannot run here.
std::string choose_cpu_isa(const std::string& name);

}  // namespace isda

// What is called `name` of the instruction set in use: name_avx512() and so on. Off x86-64 only
// the generic one is compiled.
#if defined(__x86_64__)
#define ISDA_OF_CHOSEN_ISA(name)                                     \
  (isda::chosen_cpu_isa() == isda::CpuIsa::kAvx512 ? name##_avx512() \
   : isda::chosen_cpu_isa() == isda::CpuIsa::kAvx2 ? name##_avx2()   \
                                                   : name##_generic())
#else
#define ISDA_OF_CHOSEN_ISA(name) name##_generic()
#endif
