#include "checks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "../operand_checks.h"

namespace isda {
namespace msda_fused {
namespace {

void check_reference_points(const at::Tensor& value, int64_t levels, int64_t queries,
                            const at::Tensor& points) {
  const auto sizes = points.sizes();
  const bool fits = points.dim() == 4 && sizes[0] == value.size(0) && sizes[1] == queries &&
                    (sizes[2] == levels || sizes[2] == 1) && (sizes[3] == 2 || sizes[3] == 4);
  TORCH_CHECK_VALUE(fits, "reference_points: expected shape (", value.size(0), ", ", queries, ", ",
                    levels, " or 1, 2 or 4), got ", text(sizes));
  check_operand_dtype("reference_points", points, value);
  check_device("reference_points", points, "value", value);
}

void check_operands(const at::Tensor& value, int64_t levels, const at::Tensor& reference_points,
                    const at::Tensor& offsets, const at::Tensor& logits) {
  msda::check_value(value, levels);
  TORCH_CHECK_VALUE(offsets.dim() == 6, "sampling_offsets: expected shape (B, Q, M, L, P, 2), got ",
                    text(offsets.sizes()));
  const int64_t images = value.size(0), heads = value.size(2);
  const int64_t queries = offsets.size(1), points = offsets.size(4);
  msda::check_point_count("sampling_offsets", points);
  check_shape("sampling_offsets", offsets, {images, queries, heads, levels, points, 2});
  check_operand_dtype("sampling_offsets", offsets, value);
  check_device("sampling_offsets", offsets, "value", value);
  check_shape("attention_logits", logits, {images, queries, heads, levels, points});
  check_operand_dtype("attention_logits", logits, value);
  check_device("attention_logits", logits, "value", value);
  check_reference_points(value, levels, queries, reference_points);
}

}  // namespace

Operands prepare(const at::Tensor& value, int64_t levels, const at::Tensor& reference_points,
                 const at::Tensor& offsets, const at::Tensor& logits) {
  check_operands(value, levels, reference_points, offsets, logits);
  Operands out;
  ForwardArgs& args = out.args;
  out.value = msda::prepare_value(value, offsets.size(1), levels, offsets.size(4), args);
  out.reference_points = reference_points.contiguous();
  out.offsets = offsets.contiguous();
  out.logits = logits.contiguous();
  args.reference_levels = reference_points.size(2);
  args.reference_coordinates = reference_points.size(3);
  const auto operand = [](const at::Tensor& tensor) {
    return Operand{tensor.const_data_ptr(), dtype_of(tensor)};
  };
  args.reference_points = operand(out.reference_points);
  args.offsets = operand(out.offsets);
  args.logits = operand(out.logits);
  return out;
}

at::Tensor allocate_output(Operands& operands) {
  return msda::allocate_output(operands.value, operands.args);
}

GradientOperands allocate_gradients(const Operands& operands, const at::Tensor& grad_output,
                                    std::array<bool, 4> output_mask, bool deterministic) {
  const at::Tensor& value = operands.value;
  const msda::Sizes& s = operands.args.sizes;
  const auto double_options = value.options().dtype(at::kDouble);
  GradientOperands out;
  // The weights are a softmax, at most 1 = 2^0.
  const auto magnitude = deterministic ? at::zeros({}, double_options) : at::Tensor();
  static_cast<msda::ValueGradient&>(out) = msda::allocate_value_gradient(
      operands.args, value, grad_output, output_mask[0], magnitude, out.args);
  const auto& points = operands.reference_points;
  out.grad_reference_points = msda::allocate_gradient(value, s, points, output_mask[1]);
  out.grad_offsets = msda::allocate_gradient(value, s, operands.offsets, output_mask[2]);
  out.grad_logits = msda::allocate_gradient(value, s, operands.logits, output_mask[3]);
  out.args.forward = operands.args;
  out.args.grad_reference_points = msda::result_of(out.grad_reference_points);
  out.args.grad_offsets = msda::result_of(out.grad_offsets);
  out.args.grad_logits = msda::result_of(out.grad_logits);
  out.args.reference_sums = nullptr;
  if (output_mask[1] && operands.has_work()) {
    const bool is_double = value.scalar_type() == at::kDouble;
    const auto options = is_double ? double_options : value.options().dtype(at::kFloat);
    out.reference_sums =
        at::empty({s.images, s.queries, s.heads, points.size(2), points.size(3)}, options);
    out.args.reference_sums = out.reference_sums.mutable_data_ptr();
  }
  return out;
}

at::Tensor allocate_weight_gradients(const Operands& operands, const GradientOperands& gradients) {
  const at::Tensor& grad_logits = gradients.grad_logits;
  if (!is_16_bit(grad_logits.scalar_type())) return grad_logits;
  return at::empty(grad_logits.sizes(), operands.value.options().dtype(at::kFloat));
}

Gradients GradientOperands::results(const at::Tensor& value) const {
  return {result(value), grad_reference_points, grad_offsets, grad_logits};
}

}  // namespace msda_fused
}  // namespace isda
