#include "slices.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <limits>

#include "../fixed_point.h"
#include "../matrix_products.h"
#include "../operand_checks.h"

namespace isda {
namespace dcn {
namespace {

constexpr int64_t kAligned = 32;  // pixels; products like their matrices to begin at such a place

int64_t divide_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit; }

// A run of whole images, or a part of one.
struct Slice {
  int64_t image, images, first, pixels;

  int64_t count() const { return images * pixels; }
};

// How an output is cut into slices; all but the last ones are alike.
struct Cutting {
  int64_t images, pixels;

  Cutting(const Sizes& s, int64_t bytes_a_pixel, int64_t workspace) {
    const int64_t room = std::max<int64_t>(1, workspace / bytes_a_pixel);
    images = 1;
    pixels = s.out_pixels;
    if (room >= s.out_pixels) {
      images = divide_up(s.images, divide_up(s.images, room / s.out_pixels));
      return;
    }
    const int64_t most = room < kAligned ? room : room / kAligned * kAligned;
    const int64_t each = divide_up(s.out_pixels, divide_up(s.out_pixels, most));
    pixels = std::min(most, divide_up(each, kAligned) * kAligned);
  }

  int64_t count() const { return images * pixels; }
};

template <class Body>
void for_slices(const Sizes& s, const Cutting& cutting, const Body& body) {
  for (int64_t image = 0; image < s.images; image += cutting.images) {
    const int64_t images = std::min(cutting.images, s.images - image);
    for (int64_t first = 0; first < s.out_pixels; first += cutting.pixels)
      body(Slice{image, images, first, std::min(cutting.pixels, s.out_pixels - first)});
  }
}

// (B, pixels, R, channels / R) of a (B, channels, ., .) tensor that is dense in `format`.
at::Tensor by_pixel(const at::Tensor& map, at::MemoryFormat format, int64_t groups) {
  const int64_t channels = map.size(1), pixels = map.size(2) * map.size(3);
  const int64_t each = channels / groups, image = channels * pixels;
  const bool last = format == at::MemoryFormat::ChannelsLast;
  const std::array<int64_t, 4> sizes = {map.size(0), pixels, groups, each};
  const std::array<int64_t, 4> strides = {image, last ? channels : 1, each * (last ? 1 : pixels),
                                          last ? 1 : pixels};
  return map.as_strided(sizes, strides);
}

at::Tensor part_of(const at::Tensor& pixels, const Slice& slice) {
  return pixels.narrow(0, slice.image, slice.images).narrow(1, slice.first, slice.pixels);
}

Operand operand_of(const at::Tensor& tensor) {
  return {tensor.defined() ? tensor.const_data_ptr() : nullptr,
          tensor.defined() ? dtype_of(tensor) : DType::kFloat};
}

Result result_of(const at::Tensor& tensor) {
  return {tensor.numel() ? tensor.mutable_data_ptr() : nullptr, dtype_of(tensor)};
}

// What forward and backward start from.
struct Pass {
  explicit Pass(const Operands& operands) : operands(operands), sizes(operands.sizes) {
    // The kernels divide channels in 32 bits.
    TORCH_CHECK_VALUE(sizes.channels <= std::numeric_limits<int32_t>::max(),
                      "input: expected less than 2^31 channels, got ", sizes.channels);
    input = operands.input.contiguous(at::MemoryFormat::ChannelsLast);
    depth = sizes.taps * sizes.group_in;
    const bool wide = operands.input.scalar_type() == at::kDouble;
    arithmetic = operands.input.options().dtype(wide ? at::kDouble : at::kFloat);
  }

  // The weight as (R, O / R, K * C / R), channels last like the columns.
  at::Tensor weight_matrices() const {
    const auto weight =
        operands.weight.view({sizes.groups, sizes.group_out, sizes.group_in, sizes.taps});
    return weight.transpose(2, 3).contiguous().view({sizes.groups, sizes.group_out, depth});
  }

  int64_t column_numbers() const { return sizes.taps * sizes.channels; }

  ColumnArgs args_of(const Slice& slice, const at::Tensor& columns) const {
    ColumnArgs args = {};
    args.sizes = sizes;
    args.dtype = dtype_of(input);
    args.input = input.const_data_ptr();
    args.offset = operand_of(operands.offset);
    args.mask = operand_of(operands.mask);
    args.first = slice.image * sizes.out_pixels + slice.first;
    args.count = slice.count();
    args.columns = columns.mutable_data_ptr();
    return args;
  }

  // The (R, pixels, K * C / R) matrices of a slice at the begin of a buffer.
  at::Tensor columns_of(const at::Tensor& buffer, const Slice& slice) const {
    return buffer.narrow(0, 0, slice.count() * column_numbers())
        .view({sizes.groups, slice.count(), depth});
  }

  const Operands& operands;
  const Sizes& sizes;
  at::Tensor input;  // channels last
  at::TensorOptions arithmetic;
  int64_t depth;  // of a product: taps times input channels of a weight group
};

// output = bias + columns * weight, as a batch of products.
void multiply(const at::Tensor& output, const at::Tensor& columns, const at::Tensor& weight,
              const at::Tensor& bias) {
  at::Tensor to = output;
  if (bias.defined())
    at::baddbmm_outf(bias.expand_as(to), columns, weight, 1, 1, to);
  else
    at::bmm_outf(columns, weight, to);
}

// Columns of a slice times weight, into the pixels (images, pixels, R, O / R) of the output. The
// batch is the weight groups, or the images where there is one group only.
void multiply_slice(const Slice& slice, const at::Tensor& columns, const at::Tensor& weight,
                    const at::Tensor& bias, const at::Tensor& output) {
  const auto right = weight.transpose(1, 2);
  if (weight.size(0) == 1) {
    const auto left = columns.view({slice.images, slice.pixels, columns.size(2)});
    multiply(output.select(2, 0), left, right.expand({slice.images, -1, -1}), bias);
    return;
  }
  for (int64_t i = 0; i < slice.images; ++i) {
    const auto left = columns.narrow(1, i * slice.pixels, slice.pixels);
    multiply(output.select(0, i).transpose(0, 1), left, right, bias);
  }
}

// The backward pass: sums over all slices, and what its kernel writes.
class BackwardPass {
 public:
  BackwardPass(const Pass& pass, const at::Tensor& grad_output,
               const std::array<at::Tensor, 5>& gradients)
      : pass_(pass), gradients_(gradients), weight_(pass.weight_matrices().to(pass.arithmetic)) {
    const bool last =
        !grad_output.is_contiguous() && grad_output.is_contiguous(at::MemoryFormat::ChannelsLast);
    const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    dense_ = grad_output.contiguous(format);
    upstream_ = by_pixel(dense_, format, pass.sizes.groups);
    const bool points = gradients[1].numel() || gradients[2].numel();
    args_.has_gradients = points || gradients[0].numel();
    args_.wants_columns = gradients[3].numel();
    args_.grad_offset = result_of(gradients[1]);
    args_.grad_mask = result_of(gradients[2]);
    if (gradients[3].numel()) grad_weight_ = at::zeros(weight_.sizes(), pass.arithmetic);
    if (gradients[0].numel()) prepare_grad_input();
  }

  // Choose the units of integer sums: a column's gradient is at most the sum over the output
  // channels of its group, and a pixel is a corner of a point at most once.
  void use_integers() {
    const Sizes& s = pass_.sizes;
    if (!grad_input_.defined()) return;
    auto largest = magnitude(dense_) + magnitude(weight_);
    if (pass_.operands.mask.defined()) largest = largest + magnitude(pass_.operands.mask);
    exponent_ = fixed_exponent(largest, double(s.group_out) * double(s.out_pixels) * s.taps);
    fixed_ = at::empty(grad_input_.sizes(), grad_input_.options().dtype(at::kLong),
                       at::MemoryFormat::ChannelsLast);
    fixed_.zero_();
    args_.fixed_grad_input = fixed_.mutable_data_ptr<int64_t>();
    args_.exponent = exponent_.const_data_ptr<int32_t>();
  }

  bool has_columns() const { return args_.has_gradients || args_.wants_columns; }

  void add_slice(const ColumnKernels& kernels, const Slice& slice, const at::Tensor& buffer) {
    auto columns = pass_.columns_of(buffer, slice);
    const auto upstream = upstream_of(slice);
    if (args_.has_gradients) at::bmm_outf(upstream, weight_, columns);
    args_.slice = pass_.args_of(slice, columns);
    kernels.gradients(args_);
    if (args_.wants_columns)
      at::baddbmm_outf(grad_weight_, upstream.transpose(1, 2), columns, 1, 1, grad_weight_);
  }

  void finish() const {
    const Sizes& s = pass_.sizes;
    if (gradients_[3].numel())
      gradients_[3]
          .view({s.groups, s.group_out, s.group_in, s.taps})
          .copy_(grad_weight_.view({s.groups, s.group_out, s.taps, s.group_in}).transpose(2, 3));
    if (gradients_[4].numel()) {
      at::Tensor sums = gradients_[4];
      at::sum_outf(dense_, at::IntArrayRef({0, 2, 3}), false, std::nullopt, sums);
    }
    if (fixed_.defined()) grad_input_.add_(from_fixed(fixed_, exponent_));
    if (grad_input_.defined() && !grad_input_.is_alias_of(gradients_[0]))
      gradients_[0].copy_(grad_input_);
  }

 private:
  void prepare_grad_input() {
    const at::Tensor& result = gradients_[0];
    const bool direct = result.scalar_type() == pass_.arithmetic.dtype().toScalarType() &&
                        pass_.operands.format == at::MemoryFormat::ChannelsLast;
    grad_input_ = direct
                      ? result
                      : at::empty(result.sizes(), pass_.arithmetic, at::MemoryFormat::ChannelsLast);
    grad_input_.zero_();
    args_.grad_input = grad_input_.mutable_data_ptr();
  }

  // (R, pixels, O / R) of a slice in the arithmetic type.
  at::Tensor upstream_of(const Slice& slice) const {
    const Sizes& s = pass_.sizes;
    const auto part = part_of(upstream_, slice);
    auto dense = part;
    if (!part.is_contiguous() || part.scalar_type() != grad_dtype()) {
      dense = at::empty(part.sizes(), pass_.arithmetic);
      dense.copy_(part);
    }
    return dense.view({slice.count(), s.groups, s.group_out}).transpose(0, 1);
  }

  at::ScalarType grad_dtype() const { return pass_.arithmetic.dtype().toScalarType(); }

  const Pass& pass_;
  const std::array<at::Tensor, 5>& gradients_;
  at::Tensor weight_;    // (R, O / R, K * C / R) in the arithmetic type, as all below
  at::Tensor dense_;     // grad_output in one of the two formats
  at::Tensor upstream_;  // the same by pixel
  at::Tensor grad_weight_, grad_input_, fixed_, exponent_;
  ColumnGradientArgs args_ = {};
};

// Autocast may be on when backward runs, but the types here are chosen.
struct NoAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::autocast_dispatch_keyset};
};

}  // namespace

at::Tensor forward_in_slices(const ColumnKernels& kernels, const Operands& operands,
                             int64_t workspace) {
  at::Tensor output = allocate_output(operands);
  if (!operands.has_work()) return output;
  const NoAutocast no_autocast;
  const ExactSums exact(output.scalar_type());
  const Pass pass(operands);
  const Sizes& s = operands.sizes;
  const auto pixels = by_pixel(output, operands.format, s.groups);
  const auto weight = pass.weight_matrices();
  const auto bias =
      operands.bias.defined() ? operands.bias.view({s.groups, 1, s.group_out}) : operands.bias;
  const Cutting cutting(s, pass.column_numbers() * output.element_size(), workspace);
  const auto buffer =
      at::empty({cutting.count() * pass.column_numbers()}, operands.input.options());
  for_slices(s, cutting, [&](const Slice& slice) {
    const auto columns = pass.columns_of(buffer, slice);
    kernels.columns(pass.args_of(slice, columns));
    multiply_slice(slice, columns, weight, bias, part_of(pixels, slice));
  });
  return output;
}

bool can_fuse(const Operands& operands) {
  const Sizes& s = operands.sizes;
  const bool wide = operands.input.scalar_type() == at::kDouble;
  const int64_t width = is_16_bit(operands.input.scalar_type()) ? 8 : 4;
  return operands.has_work() && !wide && s.groups == 1 && s.out_channels <= kMostFusedOut &&
         s.deform_in % width == 0;
}

at::Tensor forward_fused(const ColumnKernels& kernels, const Operands& operands) {
  at::Tensor output = allocate_output(operands);
  const NoAutocast no_autocast;
  Pass pass(operands);
  const Sizes& s = operands.sizes;
  // A view may begin anywhere.
  if (reinterpret_cast<uintptr_t>(pass.input.const_data_ptr()) % 16 != 0)
    pass.input = pass.input.clone();
  FusedArgs args = {};
  args.padded_out = s.out_channels <= kMostFusedOut / 2 ? kMostFusedOut / 2 : kMostFusedOut;
  const auto weight = at::zeros({s.taps, s.channels, args.padded_out}, pass.input.options());
  weight.narrow(2, 0, s.out_channels)
      .copy_(operands.weight.view({s.out_channels, s.channels, s.taps}).permute({2, 1, 0}));
  args.all = pass.args_of({0, s.images, 0, s.out_pixels}, output);
  args.weight = weight.const_data_ptr();
  args.bias = operands.bias.defined() ? operands.bias.const_data_ptr() : nullptr;
  args.output = output.mutable_data_ptr();
  args.channels_last = operands.format == at::MemoryFormat::ChannelsLast;
  kernels.fused(args);
  return output;
}

Gradients backward_in_slices(const ColumnKernels& kernels, const Operands& operands,
                             const at::Tensor& grad_output, std::array<bool, 5> output_mask,
                             bool deterministic, int64_t workspace) {
  check_grad_output(operands, grad_output);
  const auto gradients = allocate_gradients(operands, grad_output, output_mask);
  const auto results = std::tuple_cat(gradients);
  const bool wanted = std::any_of(gradients.begin(), gradients.end(),
                                  [](const at::Tensor& tensor) { return tensor.numel() > 0; });
  if (!operands.has_work() || !wanted) return results;
  const NoAutocast no_autocast;
  // Gradients of points take differences of products: TF32 is for the forward pass alone.
  const at::NoTF32Guard no_tf32;
  const Pass pass(operands);
  BackwardPass backward(pass, grad_output, gradients);
  if (deterministic) backward.use_integers();
  if (backward.has_columns()) {
    const int64_t numbers = pass.column_numbers();
    const int64_t bytes = numbers * int64_t(pass.arithmetic.dtype().itemsize());
    const Cutting cutting(operands.sizes, bytes, workspace);
    const auto buffer = at::empty({cutting.count() * numbers}, pass.arithmetic);
    for_slices(operands.sizes, cutting,
               [&](const Slice& slice) { backward.add_slice(kernels, slice, buffer); });
  }
  backward.finish();
  return results;
}

}  // namespace dcn
}  // namespace isda
