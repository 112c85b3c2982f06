// The last part of a variant's file: its kernels under one name.
#pragma once

#include "cpu_backward_body.h"
#include "cpu_kernels.h"

namespace isda {
namespace msda {
namespace {

template <class T>
const PointTable<typename Arithmetic<T>::type>& table_of(const void* table) {
  return *static_cast<const PointTable<typename Arithmetic<T>::type>*>(table);
}

void forward_any(const ForwardArgs& args, const void* table, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return forward<float>(args, table_of<float>(table), begin, end);
    case DType::kDouble:
      return forward<double>(args, table_of<double>(table), begin, end);
    case DType::kHalf:
      return forward<Half>(args, table_of<Half>(table), begin, end);
    case DType::kBFloat16:
      return forward<BFloat16>(args, table_of<BFloat16>(table), begin, end);
  }
}

void backward_any(const BackwardArgs& args, const void* table, int64_t begin, int64_t end) {
  switch (args.forward.dtype) {
    case DType::kFloat:
      return backward<float>(args, table_of<float>(table), begin, end);
    case DType::kDouble:
      return backward<double>(args, table_of<double>(table), begin, end);
    case DType::kHalf:
      return backward<Half>(args, table_of<Half>(table), begin, end);
    case DType::kBFloat16:
      return backward<BFloat16>(args, table_of<BFloat16>(table), begin, end);
  }
}

}  // namespace
}  // namespace msda
}  // namespace isda
