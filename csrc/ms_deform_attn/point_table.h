// The levels spread out to one entry for every point, so that points are prepared by vectors.
#pragma once

#include <stdint.h>

namespace isda {
namespace msda {

// L * P entries each, and 16 more that may be read but count for nothing.
template <class A>
struct PointTable {
  const A *width, *height;
  const int32_t *columns, *lines, *start;
};

}  // namespace msda
}  // namespace isda
