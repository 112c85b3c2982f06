// Loads, stores and conversions of the stored types, on the device and on the host.
#pragma once

#include <stdint.h>

#include "../cuda_block.h"
#include "shapes.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#else
#include <cstring>
#endif

namespace isda {
namespace msda {

template <class T>
struct Number {
  using Arithmetic = float;
};
template <>
struct Number<double> {
  using Arithmetic = double;
};

template <class To, class From>
ISDA_BOTH To copy_bits(const From& from) {
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

ISDA_BOTH float to_number(float x) { return x; }
ISDA_BOTH double to_number(double x) { return x; }
ISDA_BOTH float to_number(BFloat16 x) { return copy_bits<float>(uint32_t(x.bits) << 16); }
ISDA_BOTH float to_number(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  const uint32_t scaled = copy_bits<uint32_t>(copy_bits<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return copy_bits<float>(scaled | special | uint32_t(x.bits & 0x8000) << 16);
#endif
}

// Round to nearest, ties to even.
template <class T>
struct Rounded {
  static ISDA_BOTH T from(T x) { return x; }
};
template <>
struct Rounded<BFloat16> {
  static ISDA_BOTH BFloat16 from(float x) {
    const uint32_t bits = copy_bits<uint32_t>(x);
    return {uint16_t(x != x ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
  }
};
template <>
struct Rounded<Half> {
  static ISDA_BOTH Half from(float x) {
#if defined(__CUDA_ARCH__)
    return {__half_as_ushort(__float2half_rn(x))};
#else
    const uint32_t bits = copy_bits<uint32_t>(x), magnitude = bits & 0x7fffffffu;
    const uint32_t small = copy_bits<uint32_t>(copy_bits<float>(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t result = magnitude < 0x38800000u   ? small
                            : magnitude < 0x47800000u ? normal
                                                      : large;
    return {uint16_t((bits >> 16 & 0x8000u) | result)};
#endif
  }
};
template <class T, class A>
ISDA_BOTH T from_number(A x) {
  return Rounded<T>::from(x);
}

// The number with index i of an operand in any dtype beside arithmetic in A.
template <class A>
ISDA_BOTH A read_number(const Operand& operand, int64_t i) {
  if constexpr (sizeof(A) == sizeof(double)) {
    return static_cast<const double*>(operand.data)[i];
  } else {
    if (operand.dtype == DType::kHalf) return to_number(static_cast<const Half*>(operand.data)[i]);
    if (operand.dtype == DType::kBFloat16)
      return to_number(static_cast<const BFloat16*>(operand.data)[i]);
    return static_cast<const float*>(operand.data)[i];
  }
}

template <class A>
ISDA_BOTH void write_number(const Result& result, int64_t i, A x) {
  if constexpr (sizeof(A) == sizeof(double)) {
    static_cast<double*>(result.data)[i] = x;
  } else if (result.dtype == DType::kHalf) {
    static_cast<Half*>(result.data)[i] = from_number<Half>(x);
  } else if (result.dtype == DType::kBFloat16) {
    static_cast<BFloat16*>(result.data)[i] = from_number<BFloat16>(x);
  } else {
    static_cast<float*>(result.data)[i] = x;
  }
}

// Neighbouring numbers that are loaded and stored at once.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T at[kWidth];
};
template <int kWidth, class T>
ISDA_BOTH Pack<T, kWidth> load_pack(const T* p) {
#if defined(__CUDA_ARCH__)
  // Left alone, the compiler loads packs of 16-bit numbers in pieces; so it does without `bits`.
  if constexpr (sizeof(T) * kWidth == sizeof(uint4)) {
    const uint4 bits = *reinterpret_cast<const uint4*>(p);
    return copy_bits<Pack<T, kWidth>>(bits);
  }
#endif
  return *reinterpret_cast<const Pack<T, kWidth>*>(p);
}
template <int kWidth, class T>
ISDA_BOTH void store_pack(T* p, const Pack<T, kWidth>& pack) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) * kWidth == sizeof(uint4)) {
    *reinterpret_cast<uint4*>(p) = copy_bits<uint4>(pack);
    return;
  }
#endif
  *reinterpret_cast<Pack<T, kWidth>*>(p) = pack;
}

}  // namespace msda
}  // namespace isda
