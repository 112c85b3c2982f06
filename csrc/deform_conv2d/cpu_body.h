// Deformable convolution on the CPU; compiled once for every instruction set.
//
// For a tile of output pixels a few taps at a time are sampled into columns that stay in the
// second-level cache, and multiplied at once; the full matrix of columns never exists.
#pragma once

#include "../bilinear.h"
#include "cpu_layout.h"

namespace isda {
namespace dcn {
namespace {

constexpr int64_t kMaxTile = 96;

// A tile of output pixels of one image, and where the kernel lies for each of them.
template <class A>
struct Tile {
  int64_t image, first;
  int n;
  alignas(64) A top[kMaxTile], left[kMaxTile];
};

template <class A>
ISDA_INLINE void start_tile(const Sizes& s, int64_t image, int64_t index, Tile<A>& tile) {
  tile.image = image;
  tile.first = index * s.tile;
  tile.n = int(least(s.tile, s.out_pixels - tile.first));
  for (int p = 0; p < tile.n; ++p) {
    const int64_t row = (tile.first + p) / s.out_width, column = (tile.first + p) % s.out_width;
    tile.top[p] = A(row * s.stride_h - s.padding_h);
    tile.left[p] = A(column * s.stride_w - s.padding_w);
  }
}

// Prepare the points of one deform group and tap.
template <class A>
ISDA_INLINE void place_tile(const ForwardArgs& args, const Tile<A>& tile, int64_t deform_group,
                            int64_t tap, Points<A>& points) {
  const Sizes& s = args.sizes;
  const int64_t plane = (tile.image * s.deform_groups + deform_group) * s.taps + tap;
  const int64_t at = 2 * plane * s.out_pixels + tile.first;
  copy_converted(args.offset, at, tile.n, points.v);
  copy_converted(args.offset, at + s.out_pixels, tile.n, points.u);
  if (args.mask.data) {
    copy_converted(args.mask, plane * s.out_pixels + tile.first, tile.n, points.weight);
  } else {
    for (int p = 0; p < tile.n; ++p) points.weight[p] = 1;
  }
  const A down = A(tap / s.taps_w * s.dilation_h), right = A(tap % s.taps_w * s.dilation_w);
  const A height = A(s.height), width = A(s.width);
#pragma GCC ivdep  // or vectors are used only after a comparison of addresses
  for (int64_t p = 0; p < tile.n; ++p) {
    const A y = tile.top[p] + down + points.v[p], x = tile.left[p] + right + points.u[p];
    place_point(x, y, width, height, int32_t(s.width), int32_t(s.height), 0, p, points);
  }
}

// columns[p] = the samples of all points, `count` channels of each; zero for points outside.
template <class A>
ISDA_INLINE void sample_columns(const A* base, int64_t stride, const Points<A>& points, int n,
                                int64_t count, A* columns, int64_t row) {
  using Vec = typename Vector<A>::type;
  constexpr int64_t lanes = lanes_of<A>();
  for (int p = 0; p < n; ++p) {
    A* to = columns + p * row;
    if (points.corners[p] == 0) {
      for (int64_t c = 0; c < count; ++c) to[c] = 0;
      continue;
    }
    const Rows<const A> from = rows_of(base, stride, points, p);
    const A c00 = points.c00[p], c01 = points.c01[p], c10 = points.c10[p], c11 = points.c11[p];
    const Vec v00 = broadcast(c00), v01 = broadcast(c01), v10 = broadcast(c10),
              v11 = broadcast(c11);
    int64_t c = 0;
    for (; c + lanes <= count; c += lanes) {
      store(to + c, (v00 * load(from.r00 + c) + v01 * load(from.r01 + c)) +
                        (v10 * load(from.r10 + c) + v11 * load(from.r11 + c)));
    }
    for (; c < count; ++c) {
      to[c] = (c00 * from.r00[c] + c01 * from.r01[c]) + (c10 * from.r10[c] + c11 * from.r11[c]);
    }
  }
}

// Columns of one weight group and tap: its channels may belong to several deform groups.
template <class A>
ISDA_INLINE void build_columns(const ForwardArgs& args, const Tile<A>& tile, int64_t group,
                               int64_t tap, Points<A>& points, A* columns, int64_t row) {
  const Sizes& s = args.sizes;
  const A* image = static_cast<const A*>(args.packed_input) + tile.image * s.pixels * s.channels;
  const int64_t begin = group * s.group_in, end = begin + s.group_in;
  for (int64_t c = begin; c < end;) {
    const int64_t deform_group = c / s.deform_in;
    const int64_t next = least(end, (deform_group + 1) * s.deform_in);
    place_tile(args, tile, deform_group, tap, points);
    sample_columns(image + c, s.channels, points, tile.n, next - c, columns + (c - begin), row);
    c = next;
  }
}

template <class T>
void forward(const ForwardArgs& args, void* workspace, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.sizes;
  const int64_t width = round_up(s.group_out, lanes_of<A>()), depth = s.taps * s.group_in;
  const int64_t taps = args.taps_at_once;
  const int64_t row = round_up(taps * s.group_in, lanes_of<A>());
  A* columns = static_cast<A*>(workspace);
  A* sums = columns + s.tile * row;
  Points<A> points;
  Tile<A> tile;
  for (int64_t unit = begin; unit < end; ++unit) {
    start_tile(s, unit / s.tiles, unit % s.tiles, tile);
    const auto image = image_of(static_cast<T*>(args.output), args.input.channels_last, tile.image,
                                s.out_channels, s.out_pixels);
    for (int64_t group = 0; group < s.groups; ++group) {
      const T* bias = static_cast<const T*>(args.bias.data) + group * s.group_out;
      for (int64_t o = 0; o < width; ++o)
        sums[o] = args.bias.data && o < s.group_out ? A(to_arithmetic(bias[o])) : A(0);
      for (int p = 1; p < tile.n; ++p) __builtin_memcpy(sums + p * width, sums, width * sizeof(A));
      const A* weight = static_cast<const A*>(args.packed_weight) + group * depth * width;
      for (int64_t tap = 0; tap < s.taps; tap += taps) {
        const int64_t n = least(taps, s.taps - tap);
        for (int64_t t = 0; t < n; ++t)
          build_columns(args, tile, group, tap + t, points, columns + t * s.group_in, row);
        multiply<A>(tile.n, tap * s.group_in, n * s.group_in, {columns, row, 1},
                    {weight, width, 0, depth}, sums, width);
      }
      unpack_pixels(sums, width, tile.first, tile.n, group * s.group_out, s.group_out, image);
    }
  }
}

}  // namespace
}  // namespace dcn
}  // namespace isda
