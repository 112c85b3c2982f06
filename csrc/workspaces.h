// Memory of the threads of one call.
#pragma once

#include <ATen/ops/empty.h>

#include "parallel.h"

namespace isda {

// One workspace of so many numbers for every thread.
class Workspaces {
 public:
  // Zero where kernels may read what they did not write, such as padding.
  Workspaces(const at::TensorOptions& options, int64_t threads, int64_t numbers, bool zero = true)
      : each_(numbers + kPadding), all_(at::empty({threads * each_}, options)) {
    if (zero) all_.zero_();
  }
  void* of(const Member& member) const {
    return static_cast<char*>(all_.mutable_data_ptr()) +
           member.index * each_ * int64_t(all_.element_size());
  }

 private:
  static constexpr int64_t kPadding = 64;  // numbers between the workspaces of two threads

  int64_t each_;
  at::Tensor all_;
};

}  // namespace isda
