// Which instances of the CUDA kernels there are, and which one serves given operands.
#pragma once

#include <limits>
#include <type_traits>

#include "cuda_backward_body.h"

namespace isda {
namespace msda {

// The most channels that can be loaded at once, at most 16 bytes; 16 bytes, 4 or one element.
template <class T>
int pack_width(const ValueArgs& args, const void* other) {
  const int64_t strides =
      args.sizes.channels | args.image_stride | args.row_stride | args.head_stride;
  const uintptr_t places =
      reinterpret_cast<uintptr_t>(args.value) | reinterpret_cast<uintptr_t>(other);
  for (const int bytes : {16, 4}) {
    const int width = bytes / int(sizeof(T));
    if (width > 1 && strides % width == 0 && places % bytes == 0) return width;
  }
  return 1;
}

// Whether 32 bits hold the bytes between two rows, of value and of its gradient. The offset of a
// row, which is their product with its number, has 64 bits in either case.
inline bool has_short_rows(const ValueArgs& args) {
  constexpr int64_t limit = std::numeric_limits<int32_t>::max() / int64_t(sizeof(double));
  return args.row_stride <= limit && args.sizes.heads * args.sizes.channels <= limit;
}

template <int kValue>
using Int = std::integral_constant<int, kValue>;

// Call body(T(), width, Stride()) with the type of value, the width of packs and the integer for
// the bytes of a row. Rows that are too long for 32 bits are so rare that one width will do; with
// `few` that instance serves all that cannot be loaded 16 bytes at a time.
template <class Body>
void for_instance(const ValueArgs& args, const void* other, bool few, const Body& body) {
  const bool is_short = has_short_rows(args);
  const auto for_width = [&](auto t) {
    using T = decltype(t);
    const int width = pack_width<T>(args, other);
    if (is_short && width == 16 / int(sizeof(T))) return body(t, Int<16 / sizeof(T)>(), int32_t());
    if (few || !is_short) return body(t, Int<1>(), int64_t());
    if constexpr (sizeof(T) == sizeof(Half))
      if (width == 2) return body(t, Int<2>(), int32_t());
    body(t, Int<1>(), int32_t());
  };
  with_type(args.dtype, for_width);
}

// The same with a FloatingSums or, in few instances, a FixedSums besides.
template <class Body>
void for_sums(const ValueArgs& args, const ValueGradientArgs& gradients, const Body& body) {
  const bool is_exact = gradients.fixed_grad_value != nullptr;
  for_instance(args, gradients.grad_output, is_exact, [&](auto t, auto width, auto stride) {
    using T = decltype(t);
    using A = typename Number<T>::Arithmetic;
    using Stride = decltype(stride);
    constexpr bool kFew = sizeof(T) * decltype(width)::value == 16 || sizeof(Stride) == 8;
    if constexpr (kFew)
      if (is_exact) return body(t, width, stride, FixedSums<A>());
    body(t, width, stride, FloatingSums<A, Stride>());
  });
}

inline int64_t items_of(const Sizes& s) { return s.images * s.queries * s.heads; }

// A decoder has so few items that smaller blocks keep more multiprocessors busy.
inline BlockLimits limits_for(int64_t items, int64_t packs, int32_t points_bytes) {
  constexpr int64_t kBusy = 264;  // blocks: two for each multiprocessor of the largest chips
  int32_t threads = 256;
  while (threads > 64 && packs <= threads / 2 && divide_up(items * packs, threads) < kBusy)
    threads /= 2;
  // Shared memory like threads, so that as many blocks fit as there would be without it.
  return {threads, points_bytes / 256 * threads};
}

template <class A, class Source>
BlockLayout forward_layout(const Sizes& s, int width, BlockLimits limits) {
  const int64_t packs = s.channels / width;
  return make_layout(items_of(s), packs, s.levels * s.points, 4 * sizeof(int32_t) + 4 * sizeof(A),
                     0, Source::template lane_bytes<A>(), limits);
}

template <class A, class Source>
BlockLayout backward_layout(const Sizes& s, int width, BlockLimits limits) {
  const int64_t packs = s.channels / width;
  const int32_t slot_bytes = 4 * sizeof(int32_t) + 4 * sizeof(A) + sizeof(Detail<A>);
  return make_layout(items_of(s), packs, s.levels * s.points, slot_bytes, 4 * sizeof(A),
                     Source::template lane_bytes<A>(), limits);
}

constexpr int32_t kForwardBytes = 16 * 1024, kBackwardBytes = 32 * 1024;  // for 256 threads

}  // namespace msda
}  // namespace isda
