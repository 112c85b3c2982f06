// The last part of a variant's file: its kernels under one name.
#pragma once

#include "cpu_backward_body.h"
#include "cpu_kernels.h"

namespace isda {
namespace msda {
namespace {

void forward_any(const ForwardArgs& args, const void* table, void* head, int64_t begin,
                 int64_t end) {
  with_table(args.dtype, table, [&](auto t, const auto& levels) {
    using T = decltype(t);
    using Source = GivenPoints<typename Arithmetic<T>::type>;
    forward<T>(args, levels, Source(args, levels), head, begin, end);
  });
}

void backward_any(const BackwardArgs& args, const void* table, void* head, int64_t begin,
                  int64_t end) {
  with_table(args.forward.dtype, table, [&](auto t, const auto& levels) {
    using T = decltype(t);
    using Source = GivenPointGradients<typename Arithmetic<T>::type>;
    backward<T>(args, levels, Source(args, levels), head, begin, end);
  });
}

}  // namespace
}  // namespace msda
}  // namespace isda
