// Element types and operands without a shape, as all kernels take them; no torch header.
#pragma once

#include <stdint.h>

namespace isda {

enum class DType : int { kFloat = 0, kDouble = 1, kHalf = 2, kBFloat16 = 3 };

constexpr int64_t bytes_of(DType dtype) {
  return dtype == DType::kDouble ? 8 : dtype == DType::kFloat ? 4 : 2;
}

// 16-bit floating-point numbers as they lie in memory.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

struct Operand {
  const void* data;  // dense
  DType dtype;
};

struct Result {
  void* data;  // dense; null if not wanted
  DType dtype;
};

}  // namespace isda
