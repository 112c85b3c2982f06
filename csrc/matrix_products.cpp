#include "matrix_products.h"

#include <ATen/Context.h>

#include <mutex>
#include <type_traits>

#include "operand_checks.h"

namespace isda {
namespace {

std::mutex mutex;
struct Switch {
  int guards = 0;
  bool restore = false;
} of_half, of_bfloat16;

// A bool, and since torch 2.9 one of three settings of which the first allows it.
template <class Setting>
bool allows(Setting setting) {
  if constexpr (std::is_same_v<Setting, bool>) return setting;
  return static_cast<int>(setting) == 0;
}

bool allowed(at::ScalarType dtype) {
  const auto& context = at::globalContext();
  return dtype == at::kHalf ? allows(context.allowFP16ReductionCuBLAS())
                            : allows(context.allowBF16ReductionCuBLAS());
}

void allow(at::ScalarType dtype, bool allowed) {
  auto& context = at::globalContext();
  if (dtype == at::kHalf)
    context.setAllowFP16ReductionCuBLAS(allowed);
  else
    context.setAllowBF16ReductionCuBLAS(allowed);
}

Switch& switch_of(at::ScalarType dtype) { return dtype == at::kHalf ? of_half : of_bfloat16; }

}  // namespace

ExactSums::ExactSums(at::ScalarType dtype) : dtype_(dtype) {
  if (!is_16_bit(dtype_)) return;
  const std::lock_guard<std::mutex> lock(mutex);
  Switch& state = switch_of(dtype_);
  if (state.guards++ > 0) return;
  state.restore = allowed(dtype_);
  if (state.restore) allow(dtype_, false);
}

ExactSums::~ExactSums() {
  if (!is_16_bit(dtype_)) return;
  const std::lock_guard<std::mutex> lock(mutex);
  Switch& state = switch_of(dtype_);
  if (--state.guards == 0 && state.restore) allow(dtype_, true);
}

}  // namespace isda
