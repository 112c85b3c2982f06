// A register of floats or doubles for the instruction set of the including file, which sets
// ISDA_CPU_VARIANT: 0 whatever the compiler's default is, 1 AVX2 + FMA + F16C, 2 AVX-512.
//
// Everything here has internal linkage and calls no library template: the linker must never pick
// code compiled for one instruction set as the definition another one uses.
#pragma once

#include <stdint.h>

#if ISDA_CPU_VARIANT > 0
#include <immintrin.h>
#endif

#include "dtypes.h"

namespace isda {
namespace {

#if ISDA_CPU_VARIANT == 2
constexpr int kBytes = 64;
constexpr int kRegisters = 32;
#elif ISDA_CPU_VARIANT == 1
constexpr int kBytes = 32;
constexpr int kRegisters = 16;
#else
constexpr int kBytes = 16;
constexpr int kRegisters = 16;
#endif

#define ISDA_INLINE inline __attribute__((always_inline))
#define ISDA_LAMBDA_INLINE __attribute__((always_inline))

typedef float VecF __attribute__((vector_size(kBytes)));
typedef double VecD __attribute__((vector_size(kBytes)));
typedef uint32_t VecU __attribute__((vector_size(kBytes)));
typedef uint16_t VecH __attribute__((vector_size(kBytes / 2)));

ISDA_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Arithmetic type of a stored type, and the register of it.
template <class T>
struct Arithmetic {
  using type = float;
  using Vec = VecF;
};
template <>
struct Arithmetic<double> {
  using type = double;
  using Vec = VecD;
};

template <class To, class From>
ISDA_INLINE To bit_copy(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

ISDA_INLINE float to_arithmetic(float x) { return x; }
ISDA_INLINE double to_arithmetic(double x) { return x; }
ISDA_INLINE float to_arithmetic(BFloat16 x) { return bit_copy<float>(uint32_t(x.bits) << 16); }
ISDA_INLINE float to_arithmetic(Half x) {
  // Moved into float's place the exponent is 112 too small; infinity and NaN need all its bits.
  uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  float scaled = bit_copy<float>(magnitude) * 0x1p112f;
  uint32_t bits = bit_copy<uint32_t>(scaled) | (magnitude >= 0x0f800000u ? 0x7f800000u : 0u);
  return bit_copy<float>(bits | uint32_t(x.bits & 0x8000) << 16);
}

// Round to nearest, ties to even.
ISDA_INLINE void from_arithmetic(float x, float& out) { out = x; }
ISDA_INLINE void from_arithmetic(double x, double& out) { out = x; }
ISDA_INLINE void from_arithmetic(float x, BFloat16& out) {
  uint32_t bits = bit_copy<uint32_t>(x);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  out.bits = uint16_t(x != x ? 0x7fc0 : rounded);
}
ISDA_INLINE void from_arithmetic(float x, Half& out) {
  uint32_t bits = bit_copy<uint32_t>(x);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  // Below 2^-14 adding 0.5 shifts the bits into place and rounds them.
  uint32_t small = bit_copy<uint32_t>(bit_copy<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t normal = (magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13;
  uint32_t large = magnitude > 0x7f800000u ? 0x7e00 : 0x7c00;
  uint32_t result = magnitude < 0x38800000u ? small : magnitude < 0x47800000u ? normal : large;
  out.bits = uint16_t(sign | result);
}

ISDA_INLINE VecF load(const float* p) {
  VecF v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
ISDA_INLINE VecD load(const double* p) {
  VecD v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
ISDA_INLINE VecU load_16_bits(const void* p) {
  VecH v;
  __builtin_memcpy(&v, p, sizeof(v));
  return __builtin_convertvector(v, VecU);
}
ISDA_INLINE VecF load(const BFloat16* p) { return bit_copy<VecF>(load_16_bits(p) << 16); }
ISDA_INLINE VecF load(const Half* p) {
#if ISDA_CPU_VARIANT == 2
  return (VecF)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif ISDA_CPU_VARIANT == 1
  return (VecF)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
  VecU x = load_16_bits(p), magnitude = (x & 0x7fff) << 13;
  VecF scaled = bit_copy<VecF>(magnitude) * 0x1p112f;
  VecU special = bit_copy<VecU>(magnitude >= 0x0f800000u) & 0x7f800000u;
  return bit_copy<VecF>(bit_copy<VecU>(scaled) | special | (x & 0x8000) << 16);
#endif
}

ISDA_INLINE void store(float* p, VecF v) { __builtin_memcpy(p, &v, sizeof(v)); }
ISDA_INLINE void store(double* p, VecD v) { __builtin_memcpy(p, &v, sizeof(v)); }

ISDA_INLINE VecF broadcast(float x) { return x - VecF{}; }
ISDA_INLINE VecD broadcast(double x) { return x - VecD{}; }

// Add the sums of the elements of a, b, c, d to out[0..3].
#if ISDA_CPU_VARIANT > 0
ISDA_INLINE __m256 halved(VecF x) {
#if ISDA_CPU_VARIANT == 2
  struct Halves {
    __m256 low, high;
  };
  const Halves halves = bit_copy<Halves>(x);
  return _mm256_add_ps(halves.low, halves.high);
#else
  return (__m256)x;
#endif
}
ISDA_INLINE void add_sums(VecF a, VecF b, VecF c, VecF d, float* out) {
  __m256 ab = _mm256_hadd_ps(halved(a), halved(b)), cd = _mm256_hadd_ps(halved(c), halved(d));
  __m256 all = _mm256_hadd_ps(ab, cd);
  __m128 sums = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
  _mm_storeu_ps(out, _mm_add_ps(sums, _mm_loadu_ps(out)));
}
#else
ISDA_INLINE void add_sums(VecF a, VecF b, VecF c, VecF d, float* out) {
  out[0] += (a[0] + a[1]) + (a[2] + a[3]);
  out[1] += (b[0] + b[1]) + (b[2] + b[3]);
  out[2] += (c[0] + c[1]) + (c[2] + c[3]);
  out[3] += (d[0] + d[1]) + (d[2] + d[3]);
}
#endif
ISDA_INLINE double sum(VecD v) {
  double total = v[0];
  for (int i = 1; i < kBytes / 8; ++i) total += v[i];
  return total;
}
ISDA_INLINE void add_sums(VecD a, VecD b, VecD c, VecD d, double* out) {
  out[0] += sum(a);
  out[1] += sum(b);
  out[2] += sum(c);
  out[3] += sum(d);
}

// out[i] = x[i] rounded to the stored type.
template <class A, class T>
ISDA_INLINE void store_rounded(const A* x, int64_t n, T* out) {
  for (int64_t i = 0; i < n; ++i) from_arithmetic(x[i], out[i]);
}
#if ISDA_CPU_VARIANT > 0
ISDA_INLINE void store_rounded(const float* x, int64_t n, Half* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128((__m128i*)(out + i), bits);
  }
  for (; i < n; ++i) from_arithmetic(x[i], out[i]);
}
#endif

template <class A, class T>
ISDA_INLINE void copy_converted(const void* from, int64_t begin, int64_t n, A* out) {
  const T* p = static_cast<const T*>(from) + begin;
  for (int64_t i = 0; i < n; ++i) out[i] = A(to_arithmetic(p[i]));
}

// Elements [begin, begin + n) of an operand in the arithmetic type.
template <class A>
ISDA_INLINE void copy_converted(const Operand& from, int64_t begin, int64_t n, A* out) {
  switch (from.dtype) {
    case DType::kFloat:
      return copy_converted<A, float>(from.data, begin, n, out);
    case DType::kDouble:
      return copy_converted<A, double>(from.data, begin, n, out);
    case DType::kHalf:
      return copy_converted<A, Half>(from.data, begin, n, out);
    case DType::kBFloat16:
      return copy_converted<A, BFloat16>(from.data, begin, n, out);
  }
}

// The first and the second numbers of the pairs [begin, begin + n).
template <class A, class T>
ISDA_INLINE void copy_pairs(const void* from, int64_t begin, int64_t n, A* first, A* second) {
  const T* p = static_cast<const T*>(from) + 2 * begin;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; ++j) {
      first[i + j] = A(to_arithmetic(p[2 * (i + j)]));
      second[i + j] = A(to_arithmetic(p[2 * (i + j) + 1]));
    }
  }
  for (; i < n; ++i) {
    first[i] = A(to_arithmetic(p[2 * i]));
    second[i] = A(to_arithmetic(p[2 * i + 1]));
  }
}

template <class A>
ISDA_INLINE void copy_pairs(const Operand& from, int64_t begin, int64_t n, A* first, A* second) {
  switch (from.dtype) {
    case DType::kFloat:
      return copy_pairs<A, float>(from.data, begin, n, first, second);
    case DType::kDouble:
      return copy_pairs<A, double>(from.data, begin, n, first, second);
    case DType::kHalf:
      return copy_pairs<A, Half>(from.data, begin, n, first, second);
    case DType::kBFloat16:
      return copy_pairs<A, BFloat16>(from.data, begin, n, first, second);
  }
}

// List first + i for those of 16 numbers x[i] that are not zero; returns how many. Up to 16
// entries of the list are written.
ISDA_INLINE int list_nonzero(const int32_t* x, int32_t first, int32_t* list) {
#if ISDA_CPU_VARIANT == 2
  const __m512i found = _mm512_loadu_si512(x);
  const __mmask16 mask = _mm512_test_epi32_mask(found, found);
  const __m512i counted =
      _mm512_add_epi32(_mm512_set1_epi32(first),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  _mm512_storeu_si512(list, _mm512_maskz_compress_epi32(mask, counted));
  return __builtin_popcount(mask);
#else
  int count = 0;
  for (int i = 0; i < 16; ++i) {
    list[count] = first + i;
    count += x[i] != 0;
  }
  return count;
#endif
}

template <class A>
ISDA_INLINE void store_converted(const A* x, int64_t n, const Result& to, int64_t begin) {
  switch (to.dtype) {
    case DType::kFloat:
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(to.data)[begin + i] = float(x[i]);
      return;
    case DType::kDouble:
      for (int64_t i = 0; i < n; ++i) static_cast<double*>(to.data)[begin + i] = double(x[i]);
      return;
    case DType::kHalf:
      for (int64_t i = 0; i < n; ++i)
        from_arithmetic(float(x[i]), static_cast<Half*>(to.data)[begin + i]);
      return;
    case DType::kBFloat16:
      for (int64_t i = 0; i < n; ++i)
        from_arithmetic(float(x[i]), static_cast<BFloat16*>(to.data)[begin + i]);
      return;
  }
}

}  // namespace
}  // namespace isda
