#include "cpu_isa.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <cstdlib>
#include <vector>

namespace isda {
namespace {

// What this processor can run, best first.
std::vector<CpuIsa> usable_isas() {
  std::vector<CpuIsa> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx512) found.push_back(CpuIsa::kAvx512);
  // Every processor with AVX2 and FMA converts half precision too.
  if (avx2) found.push_back(CpuIsa::kAvx2);
#endif
  found.push_back(CpuIsa::kGeneric);
  return found;
}

CpuIsa find_isa(const std::string& name) {
  std::string names;
  for (const CpuIsa isa : usable_isas()) {
    if (name.empty() || name == cpu_isa_name(isa)) return isa;
    names += (names.empty() ? "" : ", ") + std::string(cpu_isa_name(isa));
  }
  TORCH_CHECK_VALUE(false, "ISDA_OPS_CPU_ISA: expected one of ", names,
                    " (what this processor can run), got ", name);
}

std::atomic<CpuIsa>& choice() {
  static std::atomic<CpuIsa> isa = [] {
    const char* name = std::getenv("ISDA_OPS_CPU_ISA");
    return find_isa(name ? name : "");
  }();
  return isa;
}

}  // namespace

CpuIsa chosen_cpu_isa() { return choice().load(); }

const char* cpu_isa_name(CpuIsa isa) {
  return isa == CpuIsa::kAvx512 ? "avx512" : isa == CpuIsa::kAvx2 ? "avx2" : "generic";
}

std::string choose_cpu_isa(const std::string& name) {
  return cpu_isa_name(choice().exchange(find_isa(name)));
}

}  // namespace isda
