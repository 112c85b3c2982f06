#include "fixed_point.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ldexp.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/where.h>

#include <cmath>

namespace isda {

at::Tensor magnitude(const at::Tensor& tensor) {
  const auto sizes = tensor.abs();
  const auto largest = at::where(sizes.isfinite(), sizes, 0.0).amax().to(at::kDouble);
  return at::where(largest > 0, largest.log2().floor() + 1, 0.0);
}

at::Tensor fixed_exponent(const at::Tensor& largest, double summands) {
  const double room = 61.0 - std::ceil(std::log2(summands));  // sums stay below 2^62
  // No finite summand passes 2^1024; 2^1000 can be divided by (doubles below 2^-1000 vanish).
  return (room - largest.clamp_max(1024.0)).clamp_max(1000.0).to(at::kInt);
}

at::Tensor from_fixed(const at::Tensor& sums, const at::Tensor& exponent) {
  return at::ldexp(sums.to(at::kDouble), -exponent.to(at::kDouble));
}

}  // namespace isda
