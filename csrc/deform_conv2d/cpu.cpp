// The operator on CPU tensors: one parallel region around the kernels of the chosen variant.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../cpu_isa.h"
#include "../operand_checks.h"
#include "../parallel.h"
#include "../workspaces.h"
#include "checks.h"
#include "cpu_kernels.h"

namespace isda {
namespace dcn {
namespace {

constexpr int64_t kTile = 96;         // output pixels at a time: a multiple of every register block
constexpr int64_t kDepth = 256;       // input channels times taps multiplied at a time
constexpr int64_t kBlock = 64;        // channels of one unit of the backward pass
constexpr int64_t kMinimalUnits = 8;  // units of the backward pass, as far as images allow

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

const void* data_of(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

Operand operand_of(const at::Tensor& tensor) {
  return {data_of(tensor), tensor.defined() ? dtype_of(tensor) : DType::kFloat};
}

Result result_of(const at::Tensor& tensor) {
  return {tensor.numel() ? tensor.mutable_data_ptr() : nullptr, dtype_of(tensor)};
}

// Nanoseconds of one product of all columns with the weight, at about 25 operations in one.
double product_time(const Sizes& s) {
  return 2.0 * s.images * s.out_pixels * s.taps * s.channels * (s.group_out + 16.0) / 25;
}

int64_t strips_of(const Sizes& s) { return s.images * ((s.pixels + kStrip - 1) / kStrip); }

// What forward and backward start from.
struct Pass {
  Pass(Operands checked) : operands(std::move(checked)), kernels(ISDA_OF_CHOSEN_ISA(cpu_kernels)) {
    const bool wide = operands.input.scalar_type() == at::kDouble;
    options = operands.input.options().dtype(wide ? at::kDouble : at::kFloat);
    lanes = kernels.vector_bytes / (wide ? 8 : 4);
    Sizes& s = operands.sizes;
    // Tiles of equal size, and no larger than the image.
    s.tiles = (s.out_pixels + kTile - 1) / kTile;
    s.tile = round_up((s.out_pixels + s.tiles - 1) / s.tiles, kernels.rows);
    last = operands.format == at::MemoryFormat::ChannelsLast;
    packed = last && operands.input.scalar_type() == options.dtype().toScalarType();
  }

  at::Tensor numbers(int64_t count) const { return at::empty({count}, options); }

  ForwardArgs forward_args() {
    ForwardArgs args = {};
    args.sizes = operands.sizes;
    args.input = {operands.input.const_data_ptr(), dtype_of(operands.input), last};
    args.offset = operand_of(operands.offset);
    args.mask = operand_of(operands.mask);
    args.weight = operand_of(operands.weight);
    args.bias = operand_of(operands.bias);
    if (!packed) {
      input_copy = numbers(operands.input.numel());
      args.input_copy = input_copy.mutable_data_ptr();
    }
    args.packed_input = packed ? args.input.data : args.input_copy;
    return args;
  }

  Operands operands;
  const CpuKernels& kernels;
  at::TensorOptions options;  // of the arithmetic type
  int64_t lanes;
  bool last, packed;  // whether the input is channels last; whether it needs no copy
  at::Tensor input_copy;
};

at::Tensor deform_conv2d_cpu(const at::Tensor& input, const at::Tensor& offset,
                             const std::optional<at::Tensor>& mask, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                             at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                             int64_t deform_groups) {
  Pass pass(prepare(input, offset, mask, weight, bias,
                    {stride, padding, dilation, groups, deform_groups}));
  at::Tensor output = allocate_output(pass.operands);
  if (!pass.operands.has_work()) return output;
  const Sizes& s = pass.operands.sizes;
  ForwardArgs args = pass.forward_args();
  args.output = output.mutable_data_ptr();
  const int64_t width = round_up(s.group_out, pass.lanes);
  const auto packed_weight = pass.numbers(s.channels * s.taps * width);
  args.packed_weight = packed_weight.mutable_data_ptr();
  args.taps_at_once = std::clamp<int64_t>(kDepth / s.group_in, 1, s.taps);
  const int64_t row = round_up(args.taps_at_once * s.group_in, pass.lanes);
  const int64_t threads = threads_for(product_time(s));
  const Workspaces workspaces(pass.options, threads, s.tile * (row + width));
  const CpuKernels& kernels = pass.kernels;
  run_team(threads, [&](const Member& member) {
    if (!pass.packed)
      member.share(strips_of(s), [&](auto... units) { kernels.pack_input(args, units...); });
    member.share(s.groups * s.taps, [&](auto... units) { kernels.pack_weight(args, units...); });
    member.wait();
    member.share(s.images * s.tiles,
                 [&](auto... units) { kernels.forward(args, workspaces.of(member), units...); });
  });
  return output;
}

// How the channels are cut: at the borders of blocks, weight groups and deform groups.
struct Partition {
  Partition(const Sizes& s, int64_t lanes, int64_t rows) : slot_begin(s.deform_groups + 1) {
    int64_t slots = 0;
    for (int64_t channel = 0; channel < s.channels;) {
      const int64_t group = channel / s.group_in, deform_group = channel / s.deform_in;
      const int64_t end = std::min({(channel / kBlock + 1) * kBlock, (group + 1) * s.group_in,
                                    (deform_group + 1) * s.deform_in, s.channels});
      Segment segment = {};
      segment.channel = channel;
      segment.count = end - channel;
      segment.padded = round_up(segment.count, lanes);
      segment.width = round_up(s.taps * segment.padded, rows);
      segment.begin = columns;
      segment.group = group;
      segment.deform_group = deform_group;
      segment.first_in_group = channel == group * s.group_in;
      const bool new_block = channel % kBlock == 0;
      segment.first_in_slot = new_block || channel == deform_group * s.deform_in;
      slots += segment.first_in_slot;
      segment.slot = slots - 1;
      slot_begin[deform_group + 1] = slots;
      if (new_block) block_begin.push_back(static_cast<int64_t>(segments.size()));
      columns += segment.width;
      widest = std::max(widest, segment.width);
      segments.push_back(segment);
      channel = end;
    }
    block_begin.push_back(static_cast<int64_t>(segments.size()));
  }

  std::vector<Segment> segments;
  std::vector<int64_t> block_begin, slot_begin;
  int64_t columns = 0, widest = 0;
};

// The backward pass: its arguments and the memory behind them.
struct BackwardPass {
  BackwardPass(Pass& pass, const at::Tensor& grad_output,
               const std::array<at::Tensor, 5>& gradients)
      : partition(pass.operands.sizes, pass.lanes, pass.kernels.rows) {
    const Sizes& s = pass.operands.sizes;
    args.forward = pass.forward_args();
    const bool last =
        !grad_output.is_contiguous() && grad_output.is_contiguous(at::MemoryFormat::ChannelsLast);
    upstream = last ? grad_output : grad_output.contiguous();
    args.grad_output = {upstream.const_data_ptr(), dtype_of(upstream), last};
    args.segments = partition.segments.data();
    args.segment_count = static_cast<int64_t>(partition.segments.size());
    args.block_begin = partition.block_begin.data();
    args.blocks = static_cast<int64_t>(partition.block_begin.size()) - 1;
    args.slot_begin = partition.slot_begin.data();
    args.runs = std::min(s.images, (kMinimalUnits + args.blocks - 1) / args.blocks);
    args.columns = partition.columns;
    args.widest = partition.widest;
    args.row = round_up(s.group_out, pass.lanes);
    args.grad_input = result_of(gradients[0]);
    args.grad_offset = result_of(gradients[1]);
    args.grad_mask = result_of(gradients[2]);
    args.grad_weight = result_of(gradients[3]);
    args.grad_bias = result_of(gradients[4]);
    const auto allocate = [&](int64_t count) {
      memory.push_back(pass.numbers(count));
      return memory.back().mutable_data_ptr();
    };
    args.forward.packed_weight = allocate(partition.columns * s.group_out);
    if (args.grad_input.data)
      args.packed_grad_input =
          pass.packed ? args.grad_input.data : allocate(pass.operands.input.numel());
    if (args.grad_offset.data || args.grad_mask.data)
      args.point_sums =
          allocate(partition.slot_begin.back() * s.images * s.taps * 3 * s.out_pixels);
    if (args.grad_weight.data)
      args.weight_sums = allocate(args.runs * partition.columns * args.row);
    if (args.grad_bias.data) args.bias_sums = allocate(args.runs * s.out_channels);
  }

  const Partition partition;
  at::Tensor upstream;
  std::vector<at::Tensor> memory;
  BackwardArgs args = {};
};

Gradients deform_conv2d_backward_cpu(const at::Tensor& grad_output, const at::Tensor& input,
                                     const at::Tensor& offset,
                                     const std::optional<at::Tensor>& mask,
                                     const at::Tensor& weight, at::IntArrayRef stride,
                                     at::IntArrayRef padding, at::IntArrayRef dilation,
                                     int64_t groups, int64_t deform_groups,
                                     std::array<bool, 5> output_mask) {
  Pass pass(prepare(input, offset, mask, weight, std::nullopt,
                    {stride, padding, dilation, groups, deform_groups}));
  check_grad_output(pass.operands, grad_output);
  const auto gradients = allocate_gradients(pass.operands, grad_output, output_mask);
  const auto results = std::tuple_cat(gradients);
  const bool wanted = std::any_of(gradients.begin(), gradients.end(),
                                  [](const at::Tensor& tensor) { return tensor.numel() > 0; });
  if (!pass.operands.has_work() || !wanted) return results;
  const Sizes& s = pass.operands.sizes;
  const BackwardPass backward(pass, grad_output, gradients);
  const BackwardArgs& args = backward.args;
  const int64_t threads = threads_for(3 * product_time(s));
  const Workspaces workspaces(pass.options, threads, s.tile * (args.row + args.widest));
  const CpuKernels& kernels = pass.kernels;
  run_team(threads, [&](const Member& member) {
    if (!pass.packed)
      member.share(strips_of(s),
                   [&](auto... units) { kernels.pack_input(args.forward, units...); });
    member.share(args.segment_count,
                 [&](auto... units) { kernels.pack_weight_backward(args, units...); });
    member.wait();
    member.share(args.runs * args.blocks,
                 [&](auto... units) { kernels.backward(args, workspaces.of(member), units...); });
    member.wait();
    if (args.point_sums)
      member.share(s.images * s.deform_groups * s.taps,
                   [&](auto... units) { kernels.finish_points(args, units...); });
    if (args.weight_sums)
      member.share(args.segment_count,
                   [&](auto... units) { kernels.finish_weight(args, units...); });
    if (args.bias_sums)
      member.share(s.out_channels, [&](auto... units) { kernels.finish_bias(args, units...); });
    if (args.packed_grad_input && !pass.packed)
      member.share(strips_of(s), [&](auto... units) { kernels.finish_input(args, units...); });
  });
  return results;
}

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("deform_conv2d", &deform_conv2d_cpu);
  m.impl("deform_conv2d_backward", &deform_conv2d_backward_cpu);
}

}  // namespace
}  // namespace dcn
}  // namespace isda
