// Sums of numbers that do not depend on the order: integers in units of 2^-exponent. Everything
// here stays on the device of its operands, without a synchronisation, so a graph can capture it.
#pragma once

#include <ATen/core/Tensor.h>

namespace isda {

// A small n with |x| <= 2^n for every finite x of a tensor that is not empty.
at::Tensor magnitude(const at::Tensor& tensor);
// The exponent for so many summands of at most 2^largest.
at::Tensor fixed_exponent(const at::Tensor& largest, double summands);
// What the integers stand for, in double precision.
at::Tensor from_fixed(const at::Tensor& sums, const at::Tensor& exponent);

}  // namespace isda
