// The forward pass in one kernel, for few output channels: a block samples a tile of columns into
// shared memory and multiplies it there, so columns never reach the memory of the device.
//
// Besides what cuda_points.h says, a policy has
//   OfThreads<X>     an X of every thread of the block; each(body) calls body(x, thread)
//   Sums<T, kOut>    what multiplies tiles: ThreadSums, or tensor cores
#pragma once

#include <type_traits>

#include "cuda_body.h"

namespace isda {
namespace dcn {

constexpr int kTilePixels = 64;
constexpr int kTileDepth = 32;     // channels sampled before they are multiplied
constexpr int kTileThreads = 256;  // 16 runs of pixels times 16 runs of output channels
constexpr int kFusedPairs = 8;     // of tap and deform group, found at a time

// How tiles lie in shared memory. Here for 16 bits, as tensor cores load and store them: columns by
// pixel, weight by channel, sums by output channel; rows are padded to spread over the banks.
template <class T, int kOut>
struct Tile {
  static constexpr int kStep = 16;  // channels multiplied at once
  static constexpr int kColumnRow = kTileDepth + 8, kWeightRow = kOut + 8;
  static constexpr int kColumns = kTilePixels * kColumnRow;
  static ISDA_BOTH int column(int channel, int pixel) { return pixel * kColumnRow + channel; }
  static ISDA_BOTH int sum(int out, int pixel) { return out * kTilePixels + pixel; }
};

// Columns by channel. Rows four apart are shifted by four pixels against each other: so
// neighbouring threads reach different banks along rows and across them.
template <int kOut>
struct Tile<float, kOut> {
  static constexpr int kStep = 1;
  static constexpr int kWeightRow = kOut;
  static constexpr int kColumns = kTileDepth * kTilePixels;
  static ISDA_BOTH int column(int channel, int pixel) {
    return channel * kTilePixels + (pixel ^ ((channel >> 2 & 7) << 2));
  }
  static ISDA_BOTH int sum(int out, int pixel) { return column(out, pixel); }
};

template <class T, int kOut>
struct FusedScratch {
  Points<float, kFusedPairs, kTilePixels> unit;
  alignas(32) float tiles[2 * kTileDepth * kTilePixels];

  ISDA_BOTH T* columns() { return reinterpret_cast<T*>(tiles); }
  ISDA_BOTH T* weight() { return columns() + Tile<T, kOut>::kColumns; }
  ISDA_BOTH float* sums() { return tiles; }  // after the last product
  static_assert(kOut <= 2 * kTileDepth && kTileDepth % Tile<T, kOut>::kStep == 0, "must fit");
};

// The sums of one thread: four pixels times some output channels.
template <class T, int kOut>
class ThreadSums {
 public:
  ISDA_BOTH void add(const T* columns, const T* weight, int depth, int thread) {
    const int pixel = thread / 16 * 4, out = thread % 16 * kWidth;
#if defined(__CUDACC__)
#pragma unroll 8
#endif
    for (int k = 0; k < depth; ++k) {
      Pack<T, 4> a;
      if constexpr (std::is_same<T, float>::value) {
        a = load_pack<4>(columns + Tile<T, kOut>::column(k, pixel));
      } else {
        for (int p = 0; p < 4; ++p) a.at[p] = columns[Tile<T, kOut>::column(k, pixel + p)];
      }
      const auto b = load_pack<kWidth>(weight + k * Tile<T, kOut>::kWeightRow + out);
      for (int o = 0; o < kWidth; ++o) {
        for (int p = 0; p < 4; ++p) sums_[o].at[p] += to_number(a.at[p]) * to_number(b.at[o]);
      }
    }
  }

  ISDA_BOTH void store(float* sums, int thread) const {
    const int pixel = thread / 16 * 4, out = thread % 16 * kWidth;
    for (int o = 0; o < kWidth; ++o)
      store_pack(sums + Tile<T, kOut>::sum(out + o, pixel), sums_[o]);
  }

 private:
  static constexpr int kWidth = kOut / 16;
  Pack<float, 4> sums_[kWidth] = {};
};

// Sample `depth` channels, from `channel` on, of all pixels of a tile for one pair; zeros up to the
// next whole step.
template <class T, int kOut, class Policy>
ISDA_BOTH void sample_tile(const ColumnArgs& args, FusedScratch<T, kOut>& scratch,
                           const Extent& extent, int pair, int64_t channel, int depth,
                           const Policy& policy) {
  constexpr int kWidth = 16 / sizeof(T), kPacks = kTileDepth / kWidth;
  const Sizes& s = args.sizes;
  for (int slot = policy.thread(); slot < kTilePixels * kPacks; slot += policy.threads()) {
    const int row = slot % kPacks * kWidth, pixel = slot / kPacks;
    if (row >= divide_up(depth, Tile<T, kOut>::kStep) * Tile<T, kOut>::kStep) continue;
    Pack<T, kWidth> found = {};
    const auto& point = scratch.unit.points[pair * kTilePixels + pixel];
    if (row < depth && pixel < extent.pixels && point.rows[0] >= 0) {
      const T* image =
          static_cast<const T*>(args.input) + scratch.unit.image[pixel] * s.pixels * s.channels;
      const auto corners = load_corners<kWidth>(image + channel + row, point, s.channels);
      for (int w = 0; w < kWidth; ++w) found.at[w] = from_number<T>(corners.sample(point, w));
    }
    T* columns = scratch.columns();
    if constexpr (std::is_same<T, float>::value) {
      for (int w = 0; w < kWidth; ++w) columns[Tile<T, kOut>::column(row + w, pixel)] = found.at[w];
    } else {
      store_pack(columns + Tile<T, kOut>::column(row, pixel), found);
    }
  }
}

// Fetch the rows of the weight that belong to them.
template <class T, int kOut, class Policy>
ISDA_BOTH void fetch_weight(const FusedArgs& args, FusedScratch<T, kOut>& scratch, int64_t first,
                            int depth, const Policy& policy) {
  constexpr int kWidth = 16 / sizeof(T), kPacks = kOut / kWidth;
  const int rows = int(divide_up(depth, Tile<T, kOut>::kStep)) * Tile<T, kOut>::kStep;
  const T* weight = static_cast<const T*>(args.weight) + first * kOut;
  for (int i = policy.thread(); i < rows * kPacks; i += policy.threads()) {
    const int row = i / kPacks, out = i % kPacks * kWidth;
    Pack<T, kWidth> found = {};
    if (row < depth) found = load_pack<kWidth>(weight + row * kOut + out);
    store_pack(scratch.weight() + row * Tile<T, kOut>::kWeightRow + out, found);
  }
}

template <class T, int kOut, class Policy>
ISDA_BOTH void write_tile(const FusedArgs& args, FusedScratch<T, kOut>& scratch,
                          const Extent& extent, const Policy& policy) {
  const Sizes& s = args.all.sizes;
  const int64_t channel_step = args.channels_last ? 1 : s.out_pixels;
  const int64_t pixel_step = args.channels_last ? s.out_channels : 1;
  for (int i = policy.thread(); i < kOut * kTilePixels; i += policy.threads()) {
    // Neighbouring threads write neighbouring numbers.
    const int out = args.channels_last ? i % kOut : i / kTilePixels;
    const int pixel = args.channels_last ? i / kOut : i % kTilePixels;
    if (out >= s.out_channels || pixel >= extent.pixels) continue;
    const float bias = args.bias ? to_number(static_cast<const T*>(args.bias)[out]) : 0.0f;
    T* image =
        static_cast<T*>(args.output) + scratch.unit.image[pixel] * s.out_pixels * s.out_channels;
    image[out * channel_step + scratch.unit.place[pixel] * pixel_step] =
        from_number<T>(scratch.sums()[Tile<T, kOut>::sum(out, pixel)] + bias);
  }
}

template <class T, int kOut, class Policy>
ISDA_BOTH void fused_body(const FusedArgs& args, const Cut& cut, FusedScratch<T, kOut>& scratch,
                          const Policy& policy) {
  using Sums = typename Policy::template Sums<T, kOut>;
  const Sizes& s = args.all.sizes;
  Slope<float>* const no_slopes = nullptr;
  for (int64_t tile = policy.first_unit(); tile < cut.units / cut.chunks;
       tile += policy.unit_step()) {
    typename Policy::template OfThreads<Sums> sums;
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
          sums.each([&](Sums& mine, int thread) {
            mine.add(scratch.columns(), scratch.weight(), depth, thread);
          });
        }
      }
    }
    policy.wait();
    sums.each([&](Sums& mine, int thread) { mine.store(scratch.sums(), thread); });
    policy.wait();
    write_tile(args, scratch, extent, policy);
  }
}

inline Cut cut_fused(const FusedArgs& args) {
  return cut_work(args.all, kFusedPairs, 1, kTilePixels);
}

// Call body(T(), output channels of a tile).
template <class Body>
void for_fused(const FusedArgs& args, const Body& body) {
  const auto with_out = [&](auto t) {
    constexpr int kMost = int(kMostFusedOut);
    if (args.padded_out == kMost / 2) return body(t, std::integral_constant<int, kMost / 2>());
    return body(t, std::integral_constant<int, kMost>());
  };
  switch (args.all.dtype) {
    case DType::kHalf:
      return with_out(Half());
    case DType::kBFloat16:
      return with_out(BFloat16());
    default:
      return with_out(float());
  }
}

}  // namespace dcn
}  // namespace isda
