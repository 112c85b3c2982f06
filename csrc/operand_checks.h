// Checks that the bindings of all operators share. Messages start with the operand's name and say
// expected and got; isda_suite/ops/ says the same sentences.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "dtypes.h"

namespace isda {

// (2, 3) and (4,), as Python writes it.
std::string text(at::IntArrayRef sizes);
// float32, as Python writes it.
std::string text(at::ScalarType dtype);

DType dtype_of(const at::Tensor& tensor);
bool is_16_bit(at::ScalarType dtype);

void check_floating(const char* name, const at::Tensor& tensor);
void check_shape(const char* name, const at::Tensor& tensor, at::IntArrayRef expected);
void check_device(const char* name, const at::Tensor& tensor, const char* anchor_name,
                  const at::Tensor& anchor);
void check_same_dtype(const char* name, const at::Tensor& tensor, const at::Tensor& anchor);
// The dtype of the anchor; beside a 16-bit one float32 is fine too.
void check_operand_dtype(const char* name, const at::Tensor& tensor, const at::Tensor& anchor);

}  // namespace isda
