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

namespace {

// Call body(T()) with the stored type. Part of its caller, whose instruction set may be another one
// than that of the next file.
template <class Body>
inline __attribute__((always_inline)) void with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat:
      return body(float());
    case DType::kDouble:
      return body(double());
    case DType::kHalf:
      return body(Half());
    case DType::kBFloat16:
      return body(BFloat16());
  }
}

}  // namespace

struct Operand {
  const void* data;  // dense
  DType dtype;
};

struct Result {
  void* data;  // dense; null if not wanted
  DType dtype;
};

}  // namespace isda
