// The forward pass in one kernel, for few output channels: a block samples a tile of columns into
// shared memory and multiplies it there, so columns never reach the memory of the device.
//
// Besides what cuda_points.h says, a policy has
//   OfThreads<X>   an X of every thread of the block; each(body) calls body(x, thread)
#pragma once

#include "cuda_body.h"

namespace isda {
namespace dcn {

constexpr int kTilePixels = 64;
constexpr int kTileDepth = 32;     // channels sampled before they are multiplied
constexpr int kTileThreads = 256;  // 16 runs of pixels times 16 runs of output channels
constexpr int kTileWidth = int(kFusedWidth);
constexpr int kFusedPairs = 8;  // of tap and deform group, found at a time
constexpr int kPacks = kTileDepth / kTileWidth;

// Columns, weight and sums are kept as rows of 64 pixels or output channels.
template <int kOut>
struct FusedScratch {
  Points<float, kFusedPairs, kTilePixels> unit;
  alignas(16) float tiles[2 * kTileDepth * kTilePixels];

  ISDA_BOTH float* columns() { return tiles; }
  ISDA_BOTH float* weight() { return tiles + kTileDepth * kTilePixels; }
  ISDA_BOTH float* sums() { return tiles; }  // after the last product
  static_assert(kOut <= kTilePixels && kOut <= 2 * kTileDepth, "all of them must fit");
};

// Place of a row's pixel in shared memory. Rows four apart are shifted by four pixels against each
// other: so neighbouring threads reach different banks along rows and across them.
ISDA_BOTH int shifted(int row, int pixel) {
  return row * kTilePixels + (pixel ^ ((row >> 2 & 7) << 2));
}

// The sums of one thread: four pixels times some output channels.
template <int kOut>
class Sums {
 public:
  ISDA_BOTH void add(const float* columns, const float* weight, int depth, int thread) {
    const int pixel = thread / 16 * 4, out = thread % 16 * kWidth;
#if defined(__CUDACC__)
#pragma unroll 8
#endif
    for (int k = 0; k < depth; ++k) {
      const auto a = load_pack<4>(columns + shifted(k, pixel));
      const auto b = load_pack<kWidth>(weight + k * kOut + out);
      for (int o = 0; o < kWidth; ++o) {
        for (int p = 0; p < 4; ++p) sums_[o].at[p] += a.at[p] * b.at[o];
      }
    }
  }

  ISDA_BOTH void store(float* sums, int thread) const {
    const int pixel = thread / 16 * 4, out = thread % 16 * kWidth;
    for (int o = 0; o < kWidth; ++o) store_pack(sums + shifted(out + o, pixel), sums_[o]);
  }

 private:
  static constexpr int kWidth = kOut / 16;
  Pack<float, 4> sums_[kWidth] = {};
};

// Sample `depth` channels, from `channel` on, of all pixels of a tile for one pair.
template <int kOut, class Policy>
ISDA_BOTH void sample_tile(const ColumnArgs& args, FusedScratch<kOut>& scratch,
                           const Extent& extent, int pair, int64_t channel, int depth,
                           const Policy& policy) {
  const Sizes& s = args.sizes;
  for (int slot = policy.thread(); slot < kTilePixels * kPacks; slot += policy.threads()) {
    const int row = slot % kPacks * kTileWidth, pixel = slot / kPacks;
    if (row >= depth) continue;
    Pack<float, kTileWidth> found = {};
    const auto& point = scratch.unit.points[pair * kTilePixels + pixel];
    if (pixel < extent.pixels && point.rows[0] >= 0) {
      const float* image =
          static_cast<const float*>(args.input) + scratch.unit.image[pixel] * s.pixels * s.channels;
      const auto corners = load_corners<kTileWidth>(image + channel + row, point, s.channels);
      for (int w = 0; w < kTileWidth; ++w) found.at[w] = corners.sample(point, w);
    }
    for (int w = 0; w < kTileWidth; ++w) scratch.columns()[shifted(row + w, pixel)] = found.at[w];
  }
}

// Fetch the rows of the weight that belong to them.
template <int kOut, class Policy>
ISDA_BOTH void fetch_weight(const FusedArgs& args, FusedScratch<kOut>& scratch, int64_t first,
                            int depth, const Policy& policy) {
  for (int i = policy.thread() * 4; i < depth * kOut; i += policy.threads() * 4)
    store_pack(scratch.weight() + i, load_pack<4>(args.weight + first * kOut + i));
}

template <int kOut, class Policy>
ISDA_BOTH void write_tile(const FusedArgs& args, FusedScratch<kOut>& scratch, const Extent& extent,
                          const Policy& policy) {
  const Sizes& s = args.all.sizes;
  const int64_t channel_step = args.channels_last ? 1 : s.out_pixels;
  const int64_t pixel_step = args.channels_last ? s.out_channels : 1;
  for (int i = policy.thread(); i < kOut * kTilePixels; i += policy.threads()) {
    // Neighbouring threads write neighbouring numbers.
    const int out = args.channels_last ? i % kOut : i / kTilePixels;
    const int pixel = args.channels_last ? i / kOut : i % kTilePixels;
    if (out >= s.out_channels || pixel >= extent.pixels) continue;
    const float bias = args.bias ? args.bias[out] : 0.0f;
    float* image = args.output + scratch.unit.image[pixel] * s.out_pixels * s.out_channels;
    image[out * channel_step + scratch.unit.place[pixel] * pixel_step] =
        scratch.sums()[shifted(out, pixel)] + bias;
  }
}

template <int kOut, class Policy>
ISDA_BOTH void fused_body(const FusedArgs& args, const Cut& cut, FusedScratch<kOut>& scratch,
                          const Policy& policy) {
  const Sizes& s = args.all.sizes;
  Slope<float>* const no_slopes = nullptr;
  for (int64_t tile = policy.first_unit(); tile < cut.units / cut.chunks;
       tile += policy.unit_step()) {
    typename Policy::template OfThreads<Sums<kOut>> sums;
    Extent extent = {};
    for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
      extent =
          start_unit(args.all, cut, tile * cut.chunks + chunk, scratch.unit, no_slopes, policy);
      for (int pair = 0; pair < extent.pairs; ++pair) {
        const int64_t channel = scratch.unit.group[pair] * s.deform_in;
        for (int64_t c = 0; c < s.deform_in; c += kTileDepth) {
          const int depth = int(s.deform_in - c < kTileDepth ? s.deform_in - c : kTileDepth);
          policy.wait();  // until nobody multiplies the last columns any more
          sample_tile(args.all, scratch, extent, pair, channel + c, depth, policy);
          fetch_weight(args, scratch, scratch.unit.tap[pair] * s.channels + channel + c, depth,
                       policy);
          policy.wait();
          sums.each([&](Sums<kOut>& mine, int thread) {
            mine.add(scratch.columns(), scratch.weight(), depth, thread);
          });
        }
      }
    }
    policy.wait();
    sums.each([&](Sums<kOut>& mine, int thread) { mine.store(scratch.sums(), thread); });
    policy.wait();
    write_tile(args, scratch, extent, policy);
  }
}

inline Cut cut_fused(const FusedArgs& args) {
  return cut_work(args.all, kFusedPairs, kTileWidth, kTilePixels);
}

// Call body(output channels of a tile).
template <class Body>
void for_fused(const FusedArgs& args, const Body& body) {
  if (args.padded_out == kMostFusedOut / 2)
    return body(std::integral_constant<int, int(kMostFusedOut / 2)>());
  return body(std::integral_constant<int, int(kMostFusedOut)>());
}

}  // namespace dcn
}  // namespace isda
