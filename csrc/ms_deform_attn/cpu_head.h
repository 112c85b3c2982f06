// One head of one image on its own. In `value` its rows stand heads * channels apart, which is
// often a power of two: then all of them share an eighth of the places of a cache. Copied together
// they use the whole cache, so a head whose rows are read often enough is copied first.
#pragma once

#include "../simd.h"
#include "point_table.h"
#include "shapes.h"

namespace isda {
namespace msda {
namespace {

constexpr int64_t kLine = 64;  // bytes of a line of the cache
// Rows of a head, and what the queries have for it, lie too far apart for a processor to foresee.
constexpr int64_t kRowsAhead = 16, kQueriesAhead = 16;

// Ask for the numbers [begin, begin + n), which may lie beyond the last one.
ISDA_INLINE void prefetch(const Operand& from, int64_t begin, int64_t n) {
  const char* data = static_cast<const char*>(from.data) + begin * bytes_of(from.dtype);
  for (int64_t at = 0; at < n * bytes_of(from.dtype); at += kLine) __builtin_prefetch(data + at);
}

// Rows of one head, `stride` numbers apart.
template <class T>
struct Head {
  T* rows;
  int64_t stride;
};

template <class T>
ISDA_INLINE Head<const T> head_of_value(const ValueArgs& args, int64_t image, int64_t m) {
  const T* value = static_cast<const T*>(args.value);
  return {value + image * args.image_stride + m * args.head_stride, args.row_stride};
}

// to[row * channels ...] = the rows of the levels [begin, end) in the arithmetic type.
template <class T, class A>
void pack_levels(const ValueArgs& args, Head<const T> from, int64_t begin, int64_t end, A* to) {
  const int64_t channels = args.sizes.channels;
  for (const Level* level = args.table + begin; level < args.table + end; ++level) {
    const int64_t last = level->start + level->height * level->width;
    for (int64_t row = level->start; row < last; ++row) {
      for (int64_t c = 0; c < channels; c += kLine / int64_t(sizeof(T)))
        __builtin_prefetch(from.rows + (row + kRowsAhead) * from.stride + c);
      copy_converted<A, T>(from.rows, row * from.stride, channels, to + row * channels);
    }
  }
}

template <class A>
void clear_levels(const ValueArgs& args, int64_t begin, int64_t end, A* rows) {
  const int64_t channels = args.sizes.channels;
  for (const Level* level = args.table + begin; level < args.table + end; ++level)
    __builtin_memset(rows + level->start * channels, 0,
                     sizeof(A) * level->height * level->width * channels);
}

template <class A>
void unpack_levels(const ValueArgs& args, const A* from, int64_t begin, int64_t end, Head<A> to) {
  const int64_t channels = args.sizes.channels;
  for (const Level* level = args.table + begin; level < args.table + end; ++level) {
    const int64_t last = level->start + level->height * level->width;
    for (int64_t row = level->start; row < last; ++row) {
      copy_converted<A, A>(from, row * channels, channels, to.rows + row * to.stride);
    }
  }
}

}  // namespace
}  // namespace msda
}  // namespace isda
