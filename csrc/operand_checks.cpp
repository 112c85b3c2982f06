#include "operand_checks.h"

#include <sstream>

namespace isda {

std::string text(at::IntArrayRef sizes) {
  std::ostringstream out;
  out << "(";
  for (size_t i = 0; i < sizes.size(); ++i) out << (i ? ", " : "") << sizes[i];
  out << (sizes.size() == 1 ? ",)" : ")");
  return out.str();
}

std::string text(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    case at::kBool:
      return "bool";
    default:
      return c10::toString(dtype);
  }
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return DType::kDouble;
    case at::kHalf:
      return DType::kHalf;
    case at::kBFloat16:
      return DType::kBFloat16;
    default:
      return DType::kFloat;
  }
}

bool is_16_bit(at::ScalarType dtype) { return dtype == at::kHalf || dtype == at::kBFloat16; }

void check_floating(const char* name, const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble || is_16_bit(dtype), name,
                   ": expected dtype float32, float64, float16 or bfloat16, got ", text(dtype));
}

void check_shape(const char* name, const at::Tensor& tensor, at::IntArrayRef expected) {
  TORCH_CHECK_VALUE(tensor.sizes() == expected, name, ": expected shape ", text(expected), ", got ",
                    text(tensor.sizes()));
}

void check_device(const char* name, const at::Tensor& tensor, const char* anchor_name,
                  const at::Tensor& anchor) {
  TORCH_CHECK_VALUE(tensor.device() == anchor.device(), name, ": expected device ", anchor.device(),
                    " as ", anchor_name, ", got ", tensor.device());
}

void check_same_dtype(const char* name, const at::Tensor& tensor, const at::Tensor& anchor) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == anchor.scalar_type(), name, ": expected dtype ",
                   text(anchor.scalar_type()), ", got ", text(tensor.scalar_type()));
}

void check_operand_dtype(const char* name, const at::Tensor& tensor, const at::Tensor& anchor) {
  const auto dtype = anchor.scalar_type();
  const bool mixed = is_16_bit(dtype) && tensor.scalar_type() == at::kFloat;
  TORCH_CHECK_TYPE(tensor.scalar_type() == dtype || mixed, name, ": expected dtype ", text(dtype),
                   is_16_bit(dtype) ? " or float32" : "", ", got ", text(tensor.scalar_type()));
}

}  // namespace isda
