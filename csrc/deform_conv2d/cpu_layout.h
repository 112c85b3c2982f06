// Between the layouts of tensors and packed numbers.
#pragma once

#include "cpu_gemm.h"
#include "cpu_kernels.h"

namespace isda {
namespace dcn {
namespace {

constexpr int64_t kSquare = 16;  // block of a transposition

// One image of a map: channel c of pixel p is at image[c * channel + p * pixel].
template <class T>
struct Image {
  T* data;
  int64_t channel, pixel;
};

template <class T>
ISDA_INLINE Image<T> image_of(T* data, bool channels_last, int64_t index, int64_t channels,
                              int64_t pixels) {
  T* image = data + index * channels * pixels;
  return channels_last ? Image<T>{image, 1, channels} : Image<T>{image, pixels, 1};
}

// to[p][c] = image[channel + c][first + p] for n pixels.
template <class T, class A>
void pack_pixels(Image<const T> image, int64_t first, int64_t n, int64_t channel, int64_t count,
                 A* to, int64_t to_row) {
  const T* from = image.data + first * image.pixel + channel * image.channel;
  if (image.channel == 1) {
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t c = 0; c < count; ++c)
        to[p * to_row + c] = to_arithmetic(from[p * image.pixel + c]);
    }
    return;
  }
  for (int64_t c0 = 0; c0 < count; c0 += kSquare) {
    const int64_t c1 = least(c0 + kSquare, count);
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t c = c0; c < c1; ++c)
        to[p * to_row + c] = to_arithmetic(from[c * image.channel + p]);
    }
  }
}

// The other way round.
template <class T, class A>
void unpack_pixels(const A* from, int64_t from_row, int64_t first, int64_t n, int64_t channel,
                   int64_t count, Image<T> image) {
  T* to = image.data + first * image.pixel + channel * image.channel;
  if (image.channel == 1) {
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t c = 0; c < count; ++c)
        from_arithmetic(from[p * from_row + c], to[p * image.pixel + c]);
    }
    return;
  }
  for (int64_t p0 = 0; p0 < n; p0 += kSquare) {
    const int64_t p1 = least(p0 + kSquare, n);
    for (int64_t c = 0; c < count; ++c) {
      for (int64_t p = p0; p < p1; ++p)
        from_arithmetic(from[p * from_row + c], to[c * image.channel + p]);
    }
  }
}

// Call body(image, first pixel, pixels) for units of images times strips.
template <class Body>
ISDA_INLINE void for_strips(int64_t pixels, int64_t begin, int64_t end, const Body& body) {
  const int64_t strips = (pixels + kStrip - 1) / kStrip;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = unit % strips * kStrip;
    body(unit / strips, first, least(kStrip, pixels - first));
  }
}

template <class T>
void pack_input(const ForwardArgs& args, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.sizes;
  const Map& map = args.input;
  for_strips(s.pixels, begin, end, [&](int64_t i, int64_t first, int64_t n) {
    const auto image =
        image_of(static_cast<const T*>(map.data), map.channels_last, i, s.channels, s.pixels);
    A* to = static_cast<A*>(args.input_copy) + (i * s.pixels + first) * s.channels;
    pack_pixels(image, first, n, 0, s.channels, to, s.channels);
  });
}

// For every weight group the matrix [tap, input channel][output channel] in panels.
template <class T>
void pack_weight(const ForwardArgs& args, int64_t begin, int64_t end) {
  using A = typename Arithmetic<T>::type;
  const Sizes& s = args.sizes;
  const int64_t width = round_up(s.group_out, lanes_of<A>()), depth = s.taps * s.group_in;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t group = unit / s.taps, tap = unit % s.taps;
    const T* from = static_cast<const T*>(args.weight.data) + group * s.group_out * depth + tap;
    A* to = static_cast<A*>(args.packed_weight) + group * depth * width;
    for (int64_t c = 0; c < s.group_in; ++c) {
      for (int64_t o = 0; o < width; ++o) {
        const int64_t place = panel_place<A>(tap * s.group_in + c, o, width, depth);
        to[place] = o < s.group_out ? A(to_arithmetic(from[(o * s.group_in + c) * s.taps])) : A(0);
      }
    }
  }
}

}  // namespace
}  // namespace dcn
}  // namespace isda
