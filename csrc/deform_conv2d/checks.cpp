#include "checks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "../operand_checks.h"

namespace isda {
namespace dcn {
namespace {

void check_pair(const char* name, at::IntArrayRef pair, int64_t minimum) {
  TORCH_CHECK_VALUE(pair.size() == 2, name, ": expected two integers (y, x), got ", text(pair));
  TORCH_CHECK_VALUE(pair[0] >= minimum && pair[1] >= minimum, name, ": expected at least ", minimum,
                    ", got ", text(pair));
}

void check_groups(const char* name, int64_t groups, int64_t channels, const char* kind) {
  TORCH_CHECK_VALUE(groups >= 1, name, ": expected at least 1, got ", groups);
  TORCH_CHECK_VALUE(channels % groups == 0, name, ": expected a divisor of the ", channels, " ",
                    kind, " channels, got ", groups);
}

// Rounds down, where division rounds towards zero.
int64_t output_size(int64_t size, int64_t padding, int64_t dilation, int64_t taps, int64_t stride) {
  const int64_t room = size + 2 * padding - dilation * (taps - 1) - 1;
  return (room >= 0 ? room / stride : -((-room + stride - 1) / stride)) + 1;
}

Sizes read_sizes(const at::Tensor& input, const at::Tensor& weight, const Geometry& geometry) {
  check_pair("stride", geometry.stride, 1);
  check_pair("padding", geometry.padding, 0);
  check_pair("dilation", geometry.dilation, 1);
  Sizes s = {};
  s.images = input.size(0);
  s.channels = input.size(1);
  s.height = input.size(2);
  s.width = input.size(3);
  s.out_channels = weight.size(0);
  s.taps_h = weight.size(2);
  s.taps_w = weight.size(3);
  s.stride_h = geometry.stride[0];
  s.stride_w = geometry.stride[1];
  s.padding_h = geometry.padding[0];
  s.padding_w = geometry.padding[1];
  s.dilation_h = geometry.dilation[0];
  s.dilation_w = geometry.dilation[1];
  s.groups = geometry.groups;
  s.deform_groups = geometry.deform_groups;
  TORCH_CHECK_VALUE(s.taps_h >= 1 && s.taps_w >= 1,
                    "weight: expected a kernel of at least 1x1, got ", s.taps_h, "x", s.taps_w);
  check_groups("groups", s.groups, s.channels, "input");
  check_groups("groups", s.groups, s.out_channels, "output");
  check_groups("deform_groups", s.deform_groups, s.channels, "input");
  s.out_height = output_size(s.height, s.padding_h, s.dilation_h, s.taps_h, s.stride_h);
  s.out_width = output_size(s.width, s.padding_w, s.dilation_w, s.taps_w, s.stride_w);
  TORCH_CHECK_VALUE(s.out_height >= 1 && s.out_width >= 1,
                    "input: expected a size that gives at least 1x1 outputs, got ", s.out_height,
                    "x", s.out_width, " outputs");
  s.pixels = s.height * s.width;
  TORCH_CHECK_VALUE(s.pixels <= std::numeric_limits<int32_t>::max(),
                    "input: expected less than 2^31 pixels, got ", s.pixels);
  s.out_pixels = s.out_height * s.out_width;
  s.taps = s.taps_h * s.taps_w;
  s.group_in = s.channels / s.groups;
  s.group_out = s.out_channels / s.groups;
  s.deform_in = s.channels / s.deform_groups;
  return s;
}

at::Tensor make_like_input(const Operands& operands, int64_t channels, int64_t height,
                           int64_t width, bool zero) {
  const std::array<int64_t, 4> shape = {operands.sizes.images, channels, height, width};
  auto result = at::empty(shape, operands.input.options(), operands.format);
  if (zero) result.zero_();
  return result;
}

}  // namespace

bool Operands::has_work() const {
  return sizes.images > 0 && sizes.group_in > 0 && sizes.group_out > 0 && sizes.pixels > 0;
}

Operands prepare(const at::Tensor& input, const at::Tensor& offset,
                 const std::optional<at::Tensor>& mask, const at::Tensor& weight,
                 const std::optional<at::Tensor>& bias, const Geometry& geometry) {
  check_floating("input", input);
  TORCH_CHECK_VALUE(input.dim() == 4, "input: expected shape (B, C, H, W), got ",
                    text(input.sizes()));
  TORCH_CHECK_VALUE(weight.dim() == 4, "weight: expected shape (O, C/groups, kh, kw), got ",
                    text(weight.sizes()));
  const Sizes s = read_sizes(input, weight, geometry);
  const int64_t points = s.deform_groups * s.taps;
  const auto check = [&](const char* name, const at::Tensor& tensor, at::IntArrayRef shape,
                         bool may_be_wide) {
    check_shape(name, tensor, shape);
    may_be_wide ? check_operand_dtype(name, tensor, input) : check_same_dtype(name, tensor, input);
    check_device(name, tensor, "input", input);
  };
  check("offset", offset, {s.images, 2 * points, s.out_height, s.out_width}, true);
  if (mask) check("mask", *mask, {s.images, points, s.out_height, s.out_width}, true);
  check("weight", weight, {s.out_channels, s.group_in, s.taps_h, s.taps_w}, false);
  if (bias) check("bias", *bias, {s.out_channels}, false);
  Operands out;
  out.sizes = s;
  const bool last = !input.is_contiguous() && input.is_contiguous(at::MemoryFormat::ChannelsLast);
  out.format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  out.input = input.contiguous(out.format);
  out.offset = offset.contiguous();
  out.weight = weight.contiguous();
  if (mask) out.mask = mask->contiguous();
  if (bias) out.bias = bias->contiguous();
  return out;
}

at::Tensor allocate_output(const Operands& operands) {
  const Sizes& s = operands.sizes;
  const bool work = operands.has_work();
  auto output = make_like_input(operands, s.out_channels, s.out_height, s.out_width, !work);
  if (!work && operands.bias.defined()) output.add_(operands.bias.view({1, -1, 1, 1}));
  return output;
}

void check_grad_output(const Operands& operands, const at::Tensor& grad_output) {
  const Sizes& s = operands.sizes;
  check_shape("grad_output", grad_output, {s.images, s.out_channels, s.out_height, s.out_width});
  check_same_dtype("grad_output", grad_output, operands.input);
  check_device("grad_output", grad_output, "input", operands.input);
}

std::array<at::Tensor, 5> allocate_gradients(const Operands& operands,
                                             const at::Tensor& grad_output,
                                             std::array<bool, 5> output_mask) {
  const Sizes& s = operands.sizes;
  const bool zero = !operands.has_work();
  const auto options = operands.input.options();
  const auto like = [&](bool wanted, const at::Tensor& operand) {
    if (!wanted || !operand.defined()) return at::empty({0}, options);
    return zero ? at::zeros(operand.sizes(), operand.options())
                : at::empty(operand.sizes(), operand.options());
  };
  return {output_mask[0] ? make_like_input(operands, s.channels, s.height, s.width, zero)
                         : at::empty({0}, options),
          like(output_mask[1], operands.offset), like(output_mask[2], operands.mask),
          like(output_mask[3], operands.weight),
          !output_mask[4] ? at::empty({0}, options)
          : zero          ? grad_output.sum({0, 2, 3})
                          : at::empty({s.out_channels}, options)};
}

}  // namespace dcn
}  // namespace isda
