// What the threads of one call need, decided on the host.
#pragma once

#include <ATen/ops/empty.h>

#include <cstdint>

#include "../parallel.h"
#include "shapes.h"

namespace isda {
namespace msda {

// Nanoseconds of one pass over all points: about 7 for one point of 32 channels.
inline double pass_time(const Sizes& s) {
  const double points = static_cast<double>(s.images) * s.queries * s.heads * s.levels * s.points;
  return points * (3.0 + s.channels / 8.0);
}

// How many numbers a copy of one head's rows takes; 0 where copying costs more than it saves: all
// rows are copied, so each must be read several times, at four rows a point.
inline int64_t head_numbers(const Sizes& s) {
  constexpr int64_t kReads = 8;
  const double reads = 4.0 * s.queries * s.levels * s.points;
  return reads < static_cast<double>(kReads * s.rows) ? 0 : s.rows * s.channels;
}

// Memory of so many numbers in the arithmetic type for every thread.
class Workspaces {
 public:
  Workspaces(const at::Tensor& value, int64_t numbers, int64_t threads)
      : each_(numbers ? numbers + kPadding : 0),
        all_(at::empty({threads * each_},
                       value.options().dtype(value.scalar_type() == at::kDouble ? at::kDouble
                                                                               : at::kFloat))) {}

  // Null if there are none.
  void* of(const Member& member) const {
    if (each_ == 0) return nullptr;
    return static_cast<char*>(all_.mutable_data_ptr()) +
           member.index * each_ * int64_t(all_.element_size());
  }

 private:
  static constexpr int64_t kPadding = 64;  // numbers between two threads
  int64_t each_;
  at::Tensor all_;
};

}  // namespace msda
}  // namespace isda
