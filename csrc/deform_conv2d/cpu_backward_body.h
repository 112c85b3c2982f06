// The gradients on the CPU; compiled once for every instruction set.
//
// Work is cut into units of a run of images and a block of channels. Within a unit images, tiles
// and channels go in their order, and what units share (sums over channels for the points, sums
// over images for weight and bias) is added up afterwards in fixed order. So there are no
// atomics, and the result does not depend on how units are spread over threads.
#pragma once

#include "cpu_body.h"

namespace isda {
namespace dcn {
namespace {

// For every segment the matrix [output channel][tap, channel] in panels.
template <class T>
void pack_weight_backward(const BackwardArgs& args, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.forward.sizes;
  for (int64_t unit = begin; unit < end; ++unit) {
    const Segment& segment = args.segments[unit];
    A* to = static_cast<A*>(args.forward.packed_weight) + segment.begin * s.group_out;
    const T* from = static_cast<const T*>(args.forward.weight.data) +
                    (segment.group * s.group_out * s.group_in +
                     (segment.channel - segment.group * s.group_in)) *
                        s.taps;
    const int64_t width = s.taps * segment.padded;
    for (int64_t o = 0; o < s.group_out; ++o, from += s.group_in * s.taps) {
      for (int64_t tap = 0; tap < s.taps; ++tap) {
        for (int64_t c = 0; c < segment.padded; ++c) {
          const int64_t place = panel_place<A>(o, tap * segment.padded + c, width, s.group_out);
          to[place] = c < segment.count ? A(to_arithmetic(from[c * s.taps + tap])) : A(0);
        }
      }
    }
  }
}

// Add c * g to a row where the corner lies inside.
template <class Vec, class A>
ISDA_INLINE void add_scaled(bool inside, A* row, Vec c, Vec g) {
  if (inside) store(row, load(row) + c * g);
}

// One tap of one segment. The columns hold the gradient of every column and get the columns
// themselves; grad is the gradient of the input, or null.
template <class A>
ISDA_INLINE void spread(const A* base, A* grad, int64_t stride, const Points<A>& points, int n,
                        int64_t count, A* columns, int64_t row, Dots<A>& dots) {
  using Vec = typename Vector<A>::type;
  constexpr int64_t lanes = lanes_of<A>();
  for (int p = 0; p < n; ++p) {
    A* column = columns + p * row;
    const int32_t found = points.corners[p];
    A* sums = dots.at + 4 * p;
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    if (found == 0) {
      for (int64_t c = 0; c < count; ++c) column[c] = 0;
      continue;
    }
    const bool i00 = found & k00, i01 = found & k01, i10 = found & k10, i11 = found & k11;
    const Rows<const A> from = rows_of(base, stride, points, p);
    const Rows<A> to = grad ? rows_of(grad, stride, points, p) : Rows<A>{};
    const A s00 = points.c00[p], s01 = points.c01[p], s10 = points.c10[p], s11 = points.c11[p];
    const Vec c00 = broadcast(s00), c01 = broadcast(s01), c10 = broadcast(s10),
              c11 = broadcast(s11);
    Vec d00 = {}, d01 = {}, d10 = {}, d11 = {};
    int64_t c = 0;
    for (; c + lanes <= count; c += lanes) {
      const Vec g = load(column + c);
      const Vec v00 = load(from.r00 + c), v01 = load(from.r01 + c);
      const Vec v10 = load(from.r10 + c), v11 = load(from.r11 + c);
      d00 += g * v00;
      d01 += g * v01;
      d10 += g * v10;
      d11 += g * v11;
      store(column + c, (c00 * v00 + c01 * v01) + (c10 * v10 + c11 * v11));
      if (grad == nullptr) continue;
      add_scaled(i00, to.r00 + c, c00, g);
      add_scaled(i01, to.r01 + c, c01, g);
      add_scaled(i10, to.r10 + c, c10, g);
      add_scaled(i11, to.r11 + c, c11, g);
    }
    if (c > 0) add_sums(d00, d01, d10, d11, sums);
    for (; c < count; ++c) {
      const A g = column[c];
      const A v00 = from.r00[c], v01 = from.r01[c], v10 = from.r10[c], v11 = from.r11[c];
      sums[0] += g * v00;
      sums[1] += g * v01;
      sums[2] += g * v10;
      sums[3] += g * v11;
      column[c] = (s00 * v00 + s01 * v01) + (s10 * v10 + s11 * v11);
      if (grad == nullptr) continue;
      if (i00) to.r00[c] += s00 * g;
      if (i01) to.r01[c] += s01 * g;
      if (i10) to.r10[c] += s10 * g;
      if (i11) to.r11[c] += s11 * g;
    }
  }
}

// Where the three sums of one slot, image and tap begin.
template <class A>
ISDA_INLINE A* point_sums_of(const BackwardArgs& args, int64_t slot, int64_t image, int64_t tap) {
  const Sizes& s = args.forward.sizes;
  return static_cast<A*>(args.point_sums) +
         ((slot * s.images + image) * s.taps + tap) * 3 * s.out_pixels;
}

template <class A>
ISDA_INLINE void keep_point_sums(const BackwardArgs& args, const Segment& segment,
                                 const Tile<A>& tile, int64_t tap, const Points<A>& points,
                                 const Dots<A>& dots) {
  const int64_t plane = args.forward.sizes.out_pixels;
  A* y = point_sums_of<A>(args, segment.slot, tile.image, tap) + tile.first;
  A *x = y + plane, *mask = x + plane;
  if (segment.first_in_slot) {
    const int64_t bytes = tile.n * int64_t(sizeof(A));
    __builtin_memset(y, 0, bytes);
    __builtin_memset(x, 0, bytes);
    __builtin_memset(mask, 0, bytes);
  }
#pragma GCC ivdep  // or vectors are used only after a comparison of addresses
  for (int64_t p = 0; p < tile.n; ++p) {
    const PointGradient<A> g = point_gradient(points, dots, p);
    y[p] += g.y;
    x[p] += g.x;
    mask[p] += g.weight;
  }
}

// Sum over a tile first: a long sum loses fewer digits that way.
template <class A>
ISDA_INLINE void add_bias(const A* upstream, int64_t row, int n, int64_t count, A* sums) {
  for (int64_t o = 0; o < count; ++o) {
    A sum = 0;
    for (int p = 0; p < n; ++p) sum += upstream[p * row + o];
    sums[o] += sum;
  }
}

template <class A>
struct Buffers {  // of one thread
  A *upstream, *columns;
  Points<A> points;
  Dots<A> dots;
};

// One segment of a tile; buffers.upstream holds the incoming gradient of its weight group.
template <class A>
void backward_segment(const BackwardArgs& args, int64_t run, const Segment& segment,
                      const Tile<A>& tile, Buffers<A>& buffers) {
  const ForwardArgs& fwd = args.forward;
  const Sizes& s = fwd.sizes;
  const int64_t width = s.taps * segment.padded, row = args.widest;
  A* columns = buffers.columns;
  const int64_t rows = round_up(tile.n, kRows);
  for (int64_t p = 0; p < rows; ++p) __builtin_memset(columns + p * row, 0, width * sizeof(A));
  const A* weight = static_cast<const A*>(fwd.packed_weight) + segment.begin * s.group_out;
  multiply<A>(tile.n, 0, s.group_out, {buffers.upstream, args.row, 1},
              {weight, width, 0, s.group_out}, columns, row);
  const int64_t at = tile.image * s.pixels * s.channels + segment.channel;
  const A* base = static_cast<const A*>(fwd.packed_input) + at;
  A* grad = args.packed_grad_input ? static_cast<A*>(args.packed_grad_input) + at : nullptr;
  for (int64_t tap = 0; tap < s.taps; ++tap) {
    place_tile(fwd, tile, segment.deform_group, tap, buffers.points);
    spread(base, grad, s.channels, buffers.points, tile.n, segment.count,
           columns + tap * segment.padded, row, buffers.dots);
    if (args.point_sums) keep_point_sums(args, segment, tile, tap, buffers.points, buffers.dots);
  }
  if (args.weight_sums == nullptr) return;
  A* sums = static_cast<A*>(args.weight_sums) + (run * args.columns + segment.begin) * args.row;
  multiply<A>(width, 0, tile.n, {columns, 1, row}, {buffers.upstream, args.row, args.row, 0}, sums,
              args.row);
}

// Zero what a unit adds to, apart from the gradient of the input.
template <class A>
ISDA_INLINE void clear_sums(const BackwardArgs& args, int64_t run, const Segment& segment) {
  const Sizes& s = args.forward.sizes;
  if (args.weight_sums) {
    A* sums = static_cast<A*>(args.weight_sums) + (run * args.columns + segment.begin) * args.row;
    __builtin_memset(sums, 0, segment.width * args.row * sizeof(A));
  }
  if (args.bias_sums && segment.first_in_group) {
    A* sums = static_cast<A*>(args.bias_sums) + run * s.out_channels + segment.group * s.group_out;
    __builtin_memset(sums, 0, s.group_out * sizeof(A));
  }
}

template <class T, class A>
ISDA_INLINE void backward_image(const BackwardArgs& args, int64_t run, int64_t block, int64_t image,
                                Tile<A>& tile, Buffers<A>& buffers) {
  const Sizes& s = args.forward.sizes;
  const Segment* begin = args.segments + args.block_begin[block];
  const Segment* end = args.segments + args.block_begin[block + 1];
  if (args.packed_grad_input) {
    const int64_t count = end[-1].channel + end[-1].count - begin->channel;
    A* grad = static_cast<A*>(args.packed_grad_input) + image * s.pixels * s.channels;
    for (int64_t p = 0; p < s.pixels; ++p)
      __builtin_memset(grad + p * s.channels + begin->channel, 0, count * sizeof(A));
  }
  const auto upstream =
      image_of(static_cast<const T*>(args.grad_output.data), args.grad_output.channels_last, image,
               s.out_channels, s.out_pixels);
  for (int64_t index = 0; index < s.tiles; ++index) {
    start_tile(s, image, index, tile);
    for (const Segment* segment = begin; segment < end; ++segment) {
      if (segment == begin || segment->group != segment[-1].group)
        pack_pixels(upstream, tile.first, tile.n, segment->group * s.group_out, s.group_out,
                    buffers.upstream, args.row);
      if (args.bias_sums && segment->first_in_group)
        add_bias(
            buffers.upstream, args.row, tile.n, s.group_out,
            static_cast<A*>(args.bias_sums) + run * s.out_channels + segment->group * s.group_out);
      backward_segment(args, run, *segment, tile, buffers);
    }
  }
}

template <class T>
void backward(const BackwardArgs& args, void* workspace, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.forward.sizes;
  Tile<A> tile;
  Buffers<A> buffers;
  buffers.upstream = static_cast<A*>(workspace);
  buffers.columns = buffers.upstream + s.tile * args.row;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t run = unit / args.blocks, block = unit % args.blocks;
    for (int64_t i = args.block_begin[block]; i < args.block_begin[block + 1]; ++i)
      clear_sums<A>(args, run, args.segments[i]);
    for (int64_t image = run * s.images / args.runs; image < (run + 1) * s.images / args.runs;
         ++image)
      backward_image<T>(args, run, block, image, tile, buffers);
  }
}

template <class A>
void finish_points(const BackwardArgs& args, int64_t begin, int64_t end) {
  const Sizes& s = args.forward.sizes;
  alignas(64) A sums[3][kStrip];
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t tap = unit % s.taps, deform_group = unit / s.taps % s.deform_groups;
    const int64_t image = unit / s.taps / s.deform_groups;
    for (int64_t first = 0; first < s.out_pixels; first += kStrip) {
      const int64_t n = least(kStrip, s.out_pixels - first);
      for (int i = 0; i < 3; ++i) {
        for (int64_t p = 0; p < n; ++p) sums[i][p] = 0;
        for (int64_t slot = args.slot_begin[deform_group]; slot < args.slot_begin[deform_group + 1];
             ++slot) {
          const A* from = point_sums_of<A>(args, slot, image, tap) + i * s.out_pixels + first;
          for (int64_t p = 0; p < n; ++p) sums[i][p] += from[p];
        }
      }
      const int64_t at = unit * s.out_pixels + first;
      const int64_t offset = 2 * unit * s.out_pixels + first;
      if (args.grad_offset.data) {
        store_converted(sums[0], n, args.grad_offset, offset);
        store_converted(sums[1], n, args.grad_offset, offset + s.out_pixels);
      }
      if (args.grad_mask.data) store_converted(sums[2], n, args.grad_mask, at);
    }
  }
}

template <class T>
void finish_weight(const BackwardArgs& args, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.forward.sizes;
  for (int64_t unit = begin; unit < end; ++unit) {
    const Segment& segment = args.segments[unit];
    const A* from = static_cast<const A*>(args.weight_sums) + segment.begin * args.row;
    T* to =
        static_cast<T*>(args.grad_weight.data) + (segment.group * s.group_out * s.group_in +
                                                  (segment.channel - segment.group * s.group_in)) *
                                                     s.taps;
    for (int64_t o = 0; o < s.group_out; ++o) {
      for (int64_t c = 0; c < segment.count; ++c) {
        for (int64_t tap = 0; tap < s.taps; ++tap) {
          A sum = 0;
          for (int64_t run = 0; run < args.runs; ++run)
            sum += from[(run * args.columns + tap * segment.padded + c) * args.row + o];
          from_arithmetic(sum, to[(o * s.group_in + c) * s.taps + tap]);
        }
      }
    }
  }
}

template <class T>
void finish_bias(const BackwardArgs& args, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const A* from = static_cast<const A*>(args.bias_sums);
  for (int64_t o = begin; o < end; ++o) {
    A sum = 0;
    for (int64_t run = 0; run < args.runs; ++run)
      sum += from[run * args.forward.sizes.out_channels + o];
    from_arithmetic(sum, static_cast<T*>(args.grad_bias.data)[o]);
  }
}

template <class T>
void finish_input(const BackwardArgs& args, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.forward.sizes;
  for_strips(s.pixels, begin, end, [&](int64_t i, int64_t first, int64_t n) {
    const auto image = image_of(static_cast<T*>(args.grad_input.data),
                                args.forward.input.channels_last, i, s.channels, s.pixels);
    const A* from =
        static_cast<const A*>(args.packed_grad_input) + (i * s.pixels + first) * s.channels;
    unpack_pixels(from, s.channels, first, n, 0, s.channels, image);
  });
}

}  // namespace
}  // namespace dcn
}  // namespace isda
