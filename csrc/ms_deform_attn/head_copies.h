// Whether heads of the value are copied (see cpu_head.h), and the memory for it.
#pragma once

#include <cstdint>

#include "../workspaces.h"
#include "shapes.h"

namespace isda {
namespace msda {

// Nanoseconds of one pass over all points: about 7 for one point of 32 channels.
inline double pass_time(const Sizes& s) {
  const double points = static_cast<double>(s.images) * s.queries * s.heads * s.levels * s.points;
  return points * (3.0 + s.channels / 8.0);
}

// The type that values of this type are computed in.
inline at::TensorOptions arithmetic_options(const at::Tensor& value) {
  return value.options().dtype(value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

// Room for `copies` times the rows of one head, for every thread.
class HeadCopies {
 public:
  HeadCopies(const at::Tensor& value, const Sizes& s, int64_t copies, int64_t threads)
      : wanted_(pays(s)),
        memory_(arithmetic_options(value), threads, wanted_ ? copies * s.rows * s.channels : 0,
                false) {}  // kernels fill the rows of levels, and read no others

  // Null where rows are better read where they are.
  void* of(const Member& member) const { return wanted_ ? memory_.of(member) : nullptr; }

 private:
  // All rows are copied, so each must be read several times, at four rows a point.
  static bool pays(const Sizes& s) {
    constexpr double kReads = 8;
    return 4.0 * s.queries * s.levels * s.points >= kReads * s.rows;
  }

  bool wanted_;
  Workspaces memory_;
};

}  // namespace msda
}  // namespace isda
