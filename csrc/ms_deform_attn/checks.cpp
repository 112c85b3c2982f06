#include "checks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "../fixed_point.h"
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
  check_value(value, levels);
  TORCH_CHECK_VALUE(locations.dim() == 6,
                    "sampling_locations: expected shape (B, Q, M, L, P, 2), got ",
                    text(locations.sizes()));
  const int64_t images = value.size(0), heads = value.size(2);
  const int64_t queries = locations.size(1), points = locations.size(4);
  check_point_count("sampling_locations", points);
  check_shape("sampling_locations", locations, {images, queries, heads, levels, points, 2});
  check_operand_dtype("sampling_locations", locations, value);
  check_device("sampling_locations", locations, "value", value);
  check_shape("attention_weights", weights, {images, queries, heads, levels, points});
  check_operand_dtype("attention_weights", weights, value);
  check_device("attention_weights", weights, "value", value);
}

// A contribution to grad_value is at most max|grad_output| * max|weight|, and an element gets at
// most one from every point of its head.
at::Tensor exponent_of_sums(const at::Tensor& grad_output, const at::Tensor& weight_magnitude,
                            const Sizes& s) {
  const double points = static_cast<double>(s.queries) * s.levels * s.points;
  return fixed_exponent(magnitude(grad_output) + weight_magnitude, points);
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

bool has_work(const Sizes& s) {
  return s.images > 0 && s.rows > 0 && s.heads > 0 && s.channels > 0 && s.queries > 0 &&
         s.levels > 0 && s.points > 0;
}

void check_value(const at::Tensor& value, int64_t levels) {
  check_floating("value", value);
  check_value_rank(value);
  TORCH_CHECK_VALUE(value.size(3) <= kMaxChannels, "value: expected at most ", kMaxChannels,
                    " channels of a head, got ", value.size(3));
  TORCH_CHECK_VALUE(value.size(1) <= std::numeric_limits<int32_t>::max(),
                    "value: expected less than 2^31 rows, got ", value.size(1));
  TORCH_CHECK_VALUE(levels <= kMaxLevels, "spatial_shapes: expected at most ", kMaxLevels,
                    " levels, got ", levels);
}

void check_point_count(const char* name, int64_t points) {
  TORCH_CHECK_VALUE(points <= kMaxPoints, name, ": expected at most ", kMaxPoints, " points, got ",
                    points);
}

at::Tensor prepare_value(const at::Tensor& value, int64_t queries, int64_t levels, int64_t points,
                         ValueArgs& args) {
  const at::Tensor usable = dense_channels(value) ? value : value.contiguous();
  args.sizes = {value.size(0), value.size(1), value.size(2), value.size(3),
                queries,       levels,        points};
  args.table = nullptr;
  args.dtype = dtype_of(value);
  args.value = usable.const_data_ptr();
  args.image_stride = usable.stride(0);
  args.row_stride = usable.stride(1);
  args.head_stride = usable.stride(2);
  args.output = nullptr;
  return usable;
}

at::Tensor allocate_output(const at::Tensor& value, ValueArgs& args) {
  const Sizes& s = args.sizes;
  const std::array<int64_t, 3> shape = {s.images, s.queries, s.heads * s.channels};
  auto output = has_work(s) ? at::empty(shape, value.options()) : at::zeros(shape, value.options());
  args.output = output.mutable_data_ptr();
  return output;
}

ValueGradient allocate_value_gradient(const ValueArgs& forward, const at::Tensor& value,
                                      const at::Tensor& grad_output, bool wanted,
                                      const at::Tensor& weight_magnitude, ValueGradientArgs& args) {
  const Sizes& s = forward.sizes;
  check_shape("grad_output", grad_output, {s.images, s.queries, s.heads * s.channels});
  check_same_dtype("grad_output", grad_output, value);
  check_device("grad_output", grad_output, "value", value);
  ValueGradient out;
  out.grad_output = grad_output.contiguous();
  const auto wide = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  out.grad_value = wanted ? at::zeros(value.sizes(), value.options().dtype(wide))
                          : at::empty({0}, value.options());
  args.grad_output = out.grad_output.const_data_ptr();
  args.grad_value = wanted ? out.grad_value.mutable_data_ptr() : nullptr;
  args.fixed_grad_value = nullptr;
  args.exponent = nullptr;
  if (weight_magnitude.defined() && wanted && has_work(s)) {
    out.fixed_grad_value = at::zeros(value.sizes(), value.options().dtype(at::kLong));
    out.exponent = exponent_of_sums(out.grad_output, weight_magnitude, s);
    args.fixed_grad_value = out.fixed_grad_value.mutable_data_ptr<int64_t>();
    args.exponent = out.exponent.const_data_ptr<int32_t>();
  }
  return out;
}

at::Tensor ValueGradient::result(const at::Tensor& value) const {
  at::Tensor sums = grad_value;
  if (fixed_grad_value.defined()) {
    sums = sums + from_fixed(fixed_grad_value, exponent).to(sums.scalar_type());
  }
  return sums.to(value.scalar_type());
}

at::Tensor allocate_gradient(const at::Tensor& value, const Sizes& sizes, const at::Tensor& operand,
                             bool wanted) {
  if (!wanted) return at::empty({0}, value.options());
  return has_work(sizes) ? at::empty(operand.sizes(), operand.options())
                         : at::zeros(operand.sizes(), operand.options());
}

Result result_of(const at::Tensor& gradient) {
  return {gradient.numel() ? gradient.mutable_data_ptr() : nullptr, dtype_of(gradient)};
}

bool Operands::has_work() const { return msda::has_work(args.sizes); }

Operands prepare(const at::Tensor& value, int64_t levels, const at::Tensor& locations,
                 const at::Tensor& weights) {
  check_operands(value, levels, locations, weights);
  Operands out;
  out.value = prepare_value(value, locations.size(1), levels, locations.size(4), out.args);
  out.locations = locations.contiguous();
  out.weights = weights.contiguous();
  out.args.locations = {out.locations.const_data_ptr(), dtype_of(locations)};
  out.args.weights = {out.weights.const_data_ptr(), dtype_of(weights)};
  return out;
}

at::Tensor allocate_output(Operands& operands) {
  return allocate_output(operands.value, operands.args);
}

GradientOperands allocate_gradients(const Operands& operands, const at::Tensor& grad_output,
                                    std::array<bool, 3> output_mask, bool deterministic) {
  const at::Tensor& value = operands.value;
  const Sizes& s = operands.args.sizes;
  GradientOperands out;
  const bool fixed = deterministic && output_mask[0] && operands.has_work();
  const auto weight_magnitude = fixed ? magnitude(operands.weights) : at::Tensor();
  static_cast<ValueGradient&>(out) = allocate_value_gradient(
      operands.args, value, grad_output, output_mask[0], weight_magnitude, out.args);
  out.grad_locations = allocate_gradient(value, s, operands.locations, output_mask[1]);
  out.grad_weights = allocate_gradient(value, s, operands.weights, output_mask[2]);
  out.args.forward = operands.args;
  out.args.grad_locations = result_of(out.grad_locations);
  out.args.grad_weights = result_of(out.grad_weights);
  return out;
}

Gradients GradientOperands::results(const at::Tensor& value) const {
  return {result(value), grad_locations, grad_weights};
}

}  // namespace msda
}  // namespace isda
