// The last part of a variant's file: its kernels under one name.
#pragma once

#include "cpu_backward_body.h"

namespace isda {
namespace dcn {
namespace {

void pack_input_any(const ForwardArgs& args, int64_t begin, int64_t end) {
  with_type(args.input.dtype, [&](auto t) { pack_input<decltype(t)>(args, begin, end); });
}
void pack_weight_any(const ForwardArgs& args, int64_t begin, int64_t end) {
  with_type(args.input.dtype, [&](auto t) { pack_weight<decltype(t)>(args, begin, end); });
}
void forward_any(const ForwardArgs& args, void* workspace, int64_t begin, int64_t end) {
  with_type(args.input.dtype, [&](auto t) { forward<decltype(t)>(args, workspace, begin, end); });
}
void pack_weight_backward_any(const BackwardArgs& args, int64_t begin, int64_t end) {
  with_type(args.forward.input.dtype,
            [&](auto t) { pack_weight_backward<decltype(t)>(args, begin, end); });
}
void backward_any(const BackwardArgs& args, void* workspace, int64_t begin, int64_t end) {
  with_type(args.forward.input.dtype,
            [&](auto t) { backward<decltype(t)>(args, workspace, begin, end); });
}
void finish_points_any(const BackwardArgs& args, int64_t begin, int64_t end) {
  if (args.forward.input.dtype == DType::kDouble) return finish_points<double>(args, begin, end);
  finish_points<float>(args, begin, end);
}
void finish_weight_any(const BackwardArgs& args, int64_t begin, int64_t end) {
  with_type(args.forward.input.dtype,
            [&](auto t) { finish_weight<decltype(t)>(args, begin, end); });
}
void finish_bias_any(const BackwardArgs& args, int64_t begin, int64_t end) {
  with_type(args.forward.input.dtype, [&](auto t) { finish_bias<decltype(t)>(args, begin, end); });
}
void finish_input_any(const BackwardArgs& args, int64_t begin, int64_t end) {
  with_type(args.forward.input.dtype, [&](auto t) { finish_input<decltype(t)>(args, begin, end); });
}

const CpuKernels kVariant = {
    kBytes,
    kRows,
    &pack_input_any,
    &pack_weight_any,
    &forward_any,
    &pack_weight_backward_any,
    &backward_any,
    &finish_points_any,
    &finish_weight_any,
    &finish_bias_any,
    &finish_input_any,
};

}  // namespace
}  // namespace dcn
}  // namespace isda
