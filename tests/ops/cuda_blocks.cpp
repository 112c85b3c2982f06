// The bodies of the CUDA kernels in two blocks each on the host; says which of them race.
// Compiled by test_cuda_barriers.py.
#include <cstdio>
#include <deque>
#include <exception>
#include <random>
#include <vector>

#include "cuda_block_on_host.h"
#include "ms_deform_attn/cuda_dispatch.h"
#include "ms_deform_attn_fused/cuda_raw_points.h"

namespace {

using namespace isda;
using namespace isda::msda;

constexpr int64_t kImages = 2, kHeads = 3, kChannels = 48, kQueries = 5, kPoints = 9;
constexpr int64_t kHeight = 5, kWidth = 7, kRows = kHeight * kWidth;
constexpr int64_t kItems = kImages * kQueries * kHeads;
constexpr int kBlocks = 2;  // fewer than there is work for, so that both go round

struct alignas(64) Line {
  float at[16];
};

// Random numbers that live until the end, aligned for packs.
float* numbers(int64_t count) {
  static std::mt19937 generator(1);
  static std::deque<std::vector<Line>> all;
  std::uniform_real_distribution<float> uniform(-0.1f, 1.1f);
  all.emplace_back(divide_up(count, 16));
  float* begin = all.back()[0].at;
  for (int64_t i = 0; i < count; ++i) begin[i] = uniform(generator);
  return begin;
}

Operand operand(int64_t count) { return {numbers(count), DType::kFloat}; }
Result result(int64_t count) { return {numbers(count), DType::kFloat}; }

template <class Body>
int count_races(const char* name, const BlockLayout& layout, const Body& body) {
  try {
    for (int i = 0; i < kBlocks; ++i) {
      HostBlock block(i, kBlocks, layout.threads, layout.shared_bytes);
      body(block);
    }
  } catch (const std::exception& error) {
    std::printf("%s: %s\n", name, error.what());
    return 1;
  }
  return 0;
}

template <class Source>
int run(const char* name, const Source& source) {
  const Sizes sizes = {kImages, kRows, kHeads, kChannels, kQueries, 1, kPoints};
  LevelTable table = {};
  table.levels[0] = kHeight;
  table.levels[1] = kWidth;
  ValueArgs args = {};
  args.sizes = sizes;
  args.value = numbers(kImages * kRows * kHeads * kChannels);
  args.image_stride = kRows * kHeads * kChannels;
  args.row_stride = kHeads * kChannels;
  args.head_stride = kChannels;
  args.output = numbers(kItems * kChannels);
  ValueGradientArgs gradients = {};
  gradients.grad_output = numbers(kItems * kChannels);
  gradients.grad_value = numbers(kImages * kRows * kHeads * kChannels);
  const BlockLimits limits = {64, 1500};
  const auto forward = forward_layout<float, Source>(sizes, 4, limits);
  const auto backward = backward_layout<float, Source>(sizes, 4, limits);
  return count_races(name, forward,
                     [&](HostBlock& block) {
                       forward_body<float, 4, int32_t>(args, table, source, forward, block);
                     }) +
         count_races(name, backward, [&](HostBlock& block) {
           backward_body<float, 4, int32_t, FloatingSums<float, int32_t>>(args, gradients, table,
                                                                          source, backward, block);
         });
}

}  // namespace

int main() {
  const int64_t points = kItems * kPoints;
  GivenPoints given = {operand(2 * points), operand(points), result(2 * points), result(points)};
  given.all_points = kPoints;
  msda_fused::RawPoints raw = {operand(2 * kImages * kQueries), operand(2 * points),
                               operand(points), result(2 * points), result(points)};
  raw.reference_sums = numbers(2 * kItems);
  raw.weight_gradients = raw.grad_logits.data;
  raw.heads = kHeads;
  raw.reference_levels = 1;
  raw.all_points = raw.points = kPoints;
  raw.coordinates = 2;
  return run("given points", given) + run("raw points", raw);
}
