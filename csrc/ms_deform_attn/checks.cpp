#include "checks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ldexp.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "../operand_checks.h"

namespace isda {
namespace msda {
namespace {

constexpr int64_t kMaxChannels = 1024;
constexpr int64_t kMaxLevels = 4096;
constexpr int64_t kMaxPoints = 1024;

void check_level_size(size_t i, int64_t height, int64_t width) {
  constexpr int64_t limit = std::numeric_limits<int32_t>::max() - 1;
  TORCH_CHECK_VALUE(height >= 0 && width >= 0, "spatial_shapes: expected sizes >= 0, got (", height,
                    ", ", width, ") for level ", i);
  TORCH_CHECK_VALUE(height <= limit && width <= limit, "spatial_shapes: expected sizes below 2^31",
                    ", got (", height, ", ", width, ") for level ", i);
}

// Before anything asks for its rows.
void check_value_rank(const at::Tensor& value) {
  TORCH_CHECK_VALUE(value.dim() == 4, "value: expected shape (B, S, M, C), got ",
                    text(value.sizes()));
}

bool dense_channels(const at::Tensor& value) {
  return value.stride(3) == 1 || value.size(3) <= 1 || value.numel() == 0;
}

void check_operands(const at::Tensor& value, int64_t levels, const at::Tensor& locations,
                    const at::Tensor& weights) {
  check_floating("value", value);
  check_value_rank(value);
  TORCH_CHECK_VALUE(value.size(3) <= kMaxChannels, "value: expected at most ", kMaxChannels,
                    " channels of a head, got ", value.size(3));
  TORCH_CHECK_VALUE(value.size(1) <= std::numeric_limits<int32_t>::max(),
                    "value: expected less than 2^31 rows, got ", value.size(1));
  TORCH_CHECK_VALUE(levels <= kMaxLevels, "spatial_shapes: expected at most ", kMaxLevels,
                    " levels, got ", levels);
  TORCH_CHECK_VALUE(locations.dim() == 6,
                    "sampling_locations: expected shape (B, Q, M, L, P, 2), got ",
                    text(locations.sizes()));
  const int64_t images = value.size(0), heads = value.size(2);
  const int64_t queries = locations.size(1), points = locations.size(4);
  TORCH_CHECK_VALUE(points <= kMaxPoints, "sampling_locations: expected at most ", kMaxPoints,
                    " points, got ", points);
  check_shape("sampling_locations", locations, {images, queries, heads, levels, points, 2});
  check_operand_dtype("sampling_locations", locations, value);
  check_device("sampling_locations", locations, "value", value);
  check_shape("attention_weights", weights, {images, queries, heads, levels, points});
  check_operand_dtype("attention_weights", weights, value);
  check_device("attention_weights", weights, "value", value);
}

// A small n with |x| <= 2^n for every finite x of the tensor; stays on its device.
at::Tensor magnitude(const at::Tensor& tensor) {
  const auto sizes = tensor.to(at::kDouble).abs();
  const auto largest = at::where(sizes.isfinite(), sizes, 0.0).amax();
  return at::where(largest > 0, largest.log2().floor() + 1, 0.0);
}

// How often 2 goes into the units of deterministic sums: a contribution to grad_value is at most
// max|grad_output| * max|weight|, an element gets at most one from every point of its head, and
// their sum must stay below 2^62. Without a synchronisation, so that it can be captured in a graph.
at::Tensor fixed_exponent(const at::Tensor& grad_output, const Operands& operands) {
  const Sizes& s = operands.args.sizes;
  const double points = static_cast<double>(s.queries) * s.levels * s.points;
  // No finite contribution passes 2^1024; 2^1000 can be divided by (doubles below 2^-1000 vanish).
  const auto largest = (magnitude(grad_output) + magnitude(operands.weights)).clamp_max(1024.0);
  const auto room = 61.0 - std::ceil(std::log2(points));
  return (room - largest).clamp_max(1000.0).to(at::kInt);
}

}  // namespace

void check_index_tensors(const at::Tensor& value, const at::Tensor& spatial_shapes,
                         const at::Tensor& level_start_index) {
  for (const auto& [name, table] :
       {std::pair<const char*, const at::Tensor&>{"spatial_shapes", spatial_shapes},
        {"level_start_index", level_start_index}}) {
    const auto dtype = table.scalar_type();
    TORCH_CHECK_TYPE(dtype == at::kLong || dtype == at::kInt, name,
                     ": expected dtype int64 or int32, got ", text(dtype));
    TORCH_CHECK_VALUE(table.device() == value.device() || table.is_cpu(), name,
                      ": expected device ", value.device(), " as value, or cpu, got ",
                      table.device());
  }
  TORCH_CHECK_VALUE(spatial_shapes.dim() == 2 && spatial_shapes.size(1) == 2,
                    "spatial_shapes: expected shape (L, 2), got ", text(spatial_shapes.sizes()));
  check_shape("level_start_index", level_start_index, {spatial_shapes.size(0)});
}

std::vector<Level> read_levels(const at::Tensor& value, const at::Tensor& spatial_shapes,
                               const at::Tensor& level_start_index) {
  check_value_rank(value);
  const auto shapes = spatial_shapes.to(at::kLong).contiguous();
  const auto starts = level_start_index.to(at::kLong).contiguous();
  const int64_t* shape = shapes.const_data_ptr<int64_t>();
  const int64_t* start = starts.const_data_ptr<int64_t>();
  std::vector<Level> levels;
  for (int64_t i = 0; i < shapes.size(0); ++i) {
    const Level level = {shape[2 * i], shape[2 * i + 1], start[i]};
    check_level_size(i, level.height, level.width);
    const int64_t area = level.height * level.width;
    const bool fits =
        level.start >= 0 && area <= value.size(1) && level.start <= value.size(1) - area;
    TORCH_CHECK_VALUE(fits, "level_start_index: expected level ", i, " inside the ", value.size(1),
                      " rows of value, got rows ", level.start, " to ", level.start + area);
    levels.push_back(level);
  }
  return levels;
}

std::vector<Level> read_levels(const at::Tensor& value, at::IntArrayRef spatial_shapes) {
  check_value_rank(value);
  TORCH_CHECK_VALUE(spatial_shapes.size() % 2 == 0,
                    "spatial_shapes: expected an even number of integers (h, w pairs), got ",
                    spatial_shapes.size());
  std::vector<Level> levels;
  int64_t rows = 0;
  for (size_t i = 0; i < spatial_shapes.size() / 2; ++i) {
    const Level level = {spatial_shapes[2 * i], spatial_shapes[2 * i + 1], rows};
    check_level_size(i, level.height, level.width);
    levels.push_back(level);
    rows += level.height * level.width;
  }
  TORCH_CHECK_VALUE(rows == value.size(1), "spatial_shapes: expected ", value.size(1),
                    " rows in all, as value has, got ", rows, " rows in all");
  return levels;
}

bool Operands::has_work() const {
  const Sizes& s = args.sizes;
  return s.rows > 0 && s.channels > 0 && weights.numel() > 0;
}

Operands prepare(const at::Tensor& value, int64_t levels, const at::Tensor& locations,
                 const at::Tensor& weights) {
  check_operands(value, levels, locations, weights);
  Operands out;
  out.value = dense_channels(value) ? value : value.contiguous();
  out.locations = locations.contiguous();
  out.weights = weights.contiguous();
  ForwardArgs& args = out.args;
  args.sizes = {value.size(0),     value.size(1),     value.size(2),    value.size(3),
                locations.size(1), locations.size(3), locations.size(4)};
  args.table = nullptr;
  args.dtype = dtype_of(value);
  args.value = out.value.const_data_ptr();
  args.image_stride = out.value.stride(0);
  args.row_stride = out.value.stride(1);
  args.head_stride = out.value.stride(2);
  args.locations = {out.locations.const_data_ptr(), dtype_of(locations)};
  args.weights = {out.weights.const_data_ptr(), dtype_of(weights)};
  args.output = nullptr;
  return out;
}

at::Tensor allocate_output(Operands& operands) {
  const Sizes& s = operands.args.sizes;
  const std::array<int64_t, 3> shape = {s.images, s.queries, s.heads * s.channels};
  const auto options = operands.value.options();
  auto output = operands.has_work() ? at::empty(shape, options) : at::zeros(shape, options);
  operands.args.output = output.mutable_data_ptr();
  return output;
}

GradientOperands allocate_gradients(const Operands& operands, const at::Tensor& grad_output,
                                    std::array<bool, 3> output_mask, bool deterministic) {
  const at::Tensor& value = operands.value;
  const Sizes& s = operands.args.sizes;
  check_shape("grad_output", grad_output, {s.images, s.queries, s.heads * s.channels});
  check_same_dtype("grad_output", grad_output, value);
  check_device("grad_output", grad_output, "value", value);
  GradientOperands out;
  out.grad_output = grad_output.contiguous();
  const auto nothing = at::empty({0}, value.options());
  const auto wide = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  out.grad_value = output_mask[0] ? at::zeros(value.sizes(), value.options().dtype(wide)) : nothing;
  const auto like = [&](const at::Tensor& operand) {
    return operands.has_work() ? at::empty(operand.sizes(), operand.options())
                               : at::zeros(operand.sizes(), operand.options());
  };
  out.grad_locations = output_mask[1] ? like(operands.locations) : nothing;
  out.grad_weights = output_mask[2] ? like(operands.weights) : nothing;
  out.args.forward = operands.args;
  out.args.grad_output = out.grad_output.const_data_ptr();
  out.args.grad_value = output_mask[0] ? out.grad_value.mutable_data_ptr() : nullptr;
  out.args.fixed_grad_value = nullptr;
  out.args.exponent = nullptr;
  if (deterministic && output_mask[0] && operands.has_work()) {
    out.fixed_grad_value = at::zeros(value.sizes(), value.options().dtype(at::kLong));
    out.exponent = fixed_exponent(out.grad_output, operands);
    out.args.fixed_grad_value = out.fixed_grad_value.mutable_data_ptr<int64_t>();
    out.args.exponent = out.exponent.const_data_ptr<int32_t>();
  }
  const auto result = [](const at::Tensor& tensor, bool wanted) {
    return Result{wanted ? tensor.mutable_data_ptr() : nullptr, dtype_of(tensor)};
  };
  out.args.grad_locations = result(out.grad_locations, output_mask[1]);
  out.args.grad_weights = result(out.grad_weights, output_mask[2]);
  return out;
}

Gradients GradientOperands::results(const at::Tensor& value) const {
  at::Tensor sums = grad_value;
  if (fixed_grad_value.defined()) {
    const auto exact = at::ldexp(fixed_grad_value.to(at::kDouble), -exponent.to(at::kDouble));
    sums = sums + exact.to(sums.scalar_type());
  }
  return {sums.to(value.scalar_type()), grad_locations, grad_weights};
}

}  // namespace msda
}  // namespace isda
