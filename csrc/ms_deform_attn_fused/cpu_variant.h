// The last part of a variant's file: its kernels under one name.
#pragma once

#include "cpu_backward_body.h"
#include "cpu_kernels.h"

namespace isda {
namespace msda_fused {
namespace {

static_assert(kWorkspaceUnit == kSoftmaxLanes && kWorkspaceUnit == kLanes, "one size of groups");

void forward_any(const ForwardArgs& args, const void* table, void* workspace, void* head,
                 int64_t begin, int64_t end) {
  msda::with_table(args.dtype, table, [&](auto t, const auto& levels) {
    using T = decltype(t);
    using Source = RawPoints<typename Arithmetic<T>::type>;
    msda::forward<T>(args, levels, Source(args, levels, workspace), head, begin, end);
  });
}

void backward_any(const BackwardArgs& args, const void* table, void* workspace, void* head,
                  int64_t begin, int64_t end) {
  const int64_t levels_of_head = args.forward.sizes.levels;
  msda::with_table(args.forward.dtype, table, [&](auto t, const auto& levels) {
    using T = decltype(t);
    using Source = RawPointGradients<typename Arithmetic<T>::type>;
    msda::backward<T>(args, levels, Source(args, levels, workspace), head, begin * levels_of_head,
                      end * levels_of_head);
  });
}

void finish_references_any(const BackwardArgs& args, int64_t begin, int64_t end) {
  if (args.forward.dtype == DType::kDouble) return finish_references<double>(args, begin, end);
  finish_references<float>(args, begin, end);
}

const CpuKernels kVariant = {&forward_any, &backward_any, &finish_references_any};

}  // namespace
}  // namespace msda_fused
}  // namespace isda
