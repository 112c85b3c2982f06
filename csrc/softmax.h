// The softmax of one row, in plain loops that compilers turn into vectors.
#pragma once

#include "simd.h"

namespace isda {
namespace {

constexpr int kSoftmaxLanes = 16;  // rows are padded to whole groups of this size

// exp(x) is 2^n exp(r) with n = round(x / ln 2) and a polynomial in r.
template <class A>
struct ExpNumbers;
template <>
struct ExpNumbers<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23, kDegree = 7;
  // Adding this to a small number leaves its nearest integer in the last bits.
  static constexpr float kRounding = 0x1.8p23f;
  static constexpr float kLog2High = 0x1.62e4p-1f, kLog2Low = 0x1.7f7d1cp-20f;
  static constexpr float kLowest = -86;
};
template <>
struct ExpNumbers<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52, kDegree = 13;
  static constexpr double kRounding = 0x1.8p52;
  static constexpr double kLog2High = 0x1.62e42fefa38p-1, kLog2Low = 0x1.ef35793c7673p-45;
  static constexpr double kLowest = -706;
};

// exp(x) for x <= 0 to less than two units in the last place; 0 below exp(-86), for doubles
// exp(-706); NaN for NaN.
template <class A>
ISDA_INLINE A exp_of_negative(A x) {
  using Numbers = ExpNumbers<A>;
  using Bits = typename Numbers::Bits;
  const A shifted = x * A(1.4426950408889634) + Numbers::kRounding;
  const A n = shifted - Numbers::kRounding;
  const A r = (x - n * Numbers::kLog2High) - n * Numbers::kLog2Low;
  A power = 1;
#pragma GCC unroll 13
  for (int k = Numbers::kDegree; k > 0; --k) power = 1 + power * (r * (A(1) / A(k)));
  const Bits raised = bit_copy<Bits>(power) + (bit_copy<Bits>(shifted) << Numbers::kMantissa);
  const A result = x < Numbers::kLowest ? A(0) : bit_copy<A>(raised);
  return x == x ? result : x;
}

// Make the softmax of x; `padded` is a multiple of kSoftmaxLanes, what is no entry is -infinity.
// As elsewhere it is NaN where an entry is NaN or +infinity, or all are -infinity.
template <class A>
ISDA_INLINE void softmax(A* x, int64_t padded) {
  alignas(64) A lanes[kSoftmaxLanes];
  for (int j = 0; j < kSoftmaxLanes; ++j) lanes[j] = x[j];
  for (int64_t i = kSoftmaxLanes; i < padded; i += kSoftmaxLanes)
    for (int j = 0; j < kSoftmaxLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  A largest = lanes[0];
  for (int j = 1; j < kSoftmaxLanes; ++j) largest = lanes[j] > largest ? lanes[j] : largest;
  for (int j = 0; j < kSoftmaxLanes; ++j) lanes[j] = 0;
  for (int64_t i = 0; i < padded; i += kSoftmaxLanes) {
    for (int j = 0; j < kSoftmaxLanes; ++j) {
      x[i + j] = exp_of_negative(x[i + j] - largest);
      lanes[j] += x[i + j];
    }
  }
  A total = 0;
  for (int j = 0; j < kSoftmaxLanes; ++j) total += lanes[j];
  for (int64_t i = 0; i < padded; ++i) x[i] /= total;
}

}  // namespace
}  // namespace isda
