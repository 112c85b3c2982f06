// How ATen multiplies matrices inside an operator: whatever callers have set for their own
// products, sums are kept in at least single precision. No effect on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

namespace isda {

// While one lives, products of 16-bit matrices add in single precision and round once. The switch
// for it belongs to the process, so the first guard sets it and the last one restores it.
class ExactSums {
 public:
  explicit ExactSums(at::ScalarType dtype);
  ~ExactSums();
  ExactSums(const ExactSums&) = delete;
  ExactSums& operator=(const ExactSums&) = delete;

 private:
  const at::ScalarType dtype_;
};

}  // namespace isda
