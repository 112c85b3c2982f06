// The table of points, made on the host for the kernels of one call.
#pragma once

#include <stdint.h>

#include <vector>

#include "point_table.h"
#include "shapes.h"

namespace isda {
namespace msda {

// The table and the memory behind it.
template <class A>
class OwnedTable {
  static constexpr int64_t kPadding = 16;  // entries that vectors may read beyond the last one

 public:
  OwnedTable(const std::vector<Level>& levels, int64_t points) {
    const int64_t entries = static_cast<int64_t>(levels.size()) * points + kPadding;
    reals_.resize(2 * entries);
    integers_.resize(3 * entries);
    int64_t i = 0;
    for (const Level& level : levels) {
      for (int64_t p = 0; p < points; ++p, ++i) {
        reals_[i] = static_cast<A>(level.width);
        reals_[entries + i] = static_cast<A>(level.height);
        integers_[i] = static_cast<int32_t>(level.width);
        integers_[entries + i] = static_cast<int32_t>(level.height);
        integers_[2 * entries + i] = static_cast<int32_t>(level.start);
      }
    }
    table = {reals_.data(), reals_.data() + entries, integers_.data(), integers_.data() + entries,
             integers_.data() + 2 * entries};
  }
  PointTable<A> table;

 private:
  std::vector<A> reals_;
  std::vector<int32_t> integers_;
};

// Run body(table) with the table in the arithmetic type of the value.
template <class Body>
void with_table(const std::vector<Level>& levels, const ValueArgs& args, const Body& body) {
  if (args.dtype == DType::kDouble) {
    const OwnedTable<double> owned(levels, args.sizes.points);
    body(&owned.table);
  } else {
    const OwnedTable<float> owned(levels, args.sizes.points);
    body(&owned.table);
  }
}

}  // namespace msda
}  // namespace isda
