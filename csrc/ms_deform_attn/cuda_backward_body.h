// The body of the backward kernel.
//
// A lane loads its pack of the four neighbours of a point once, for the dot product with the
// incoming gradient and to add its share to the gradient of value. The dot products are added up
// by shuffles inside the parts of a group, and the parts in shared memory; both in a fixed order.
#pragma once

#include "cuda_forward_body.h"

namespace isda {
namespace msda {

// Shared memory of the points, with what their gradients need.
template <class A, class Block>
struct SharedGradients : SharedPoints<A, Block> {
  typename Block::template Shared<Detail<A>> details;
  typename Block::template Shared<A> dots;                    // by slot, part of the group, corner
  typename Block::template Shared<Pack<A, 4>> parts_of_dots;  // the same numbers
  int32_t parts;

  static constexpr int kBytes = SharedPoints<A, Block>::kBytes + sizeof(Detail<A>);
  static constexpr int kPartBytes = 4 * sizeof(A);

  ISDA_BODY SharedGradients(Block& block, const BlockLayout& layout)
      : SharedPoints<A, Block>(block, layout),
        details(
            block.template shared<Detail<A>>(layout.all_slots() * SharedPoints<A, Block>::kBytes)),
        dots(block.template shared<A>(layout.all_slots() * kBytes)),
        parts_of_dots(block.template shared<Pack<A, 4>>(layout.all_slots() * kBytes)),
        parts(layout.parts) {}
  ISDA_BODY void write(int thread, int slot, const Place<A>& place) const {
    SharedPoints<A, Block>::write(thread, slot, place);
    details.write(thread, slot, place.detail);
  }

  // The gradient of a point in a slot; exactly zero for one outside, whatever its weight.
  ISDA_BODY PointGradient<A> gradient(int thread, int slot) const {
    const Detail<A> d = details.read(thread, slot);
    if (d.corners == 0) return {};
    A dot[4] = {};
    for (int part = 0; part < parts; ++part) {
      const auto found = parts_of_dots.read(thread, slot * parts + part);
      ISDA_UNROLL
      for (int corner = 0; corner < 4; ++corner)
        if (d.corners >> corner & 1) dot[corner] += found.at[corner];
    }
    return {d.weight * ((1 - d.fy) * (dot[1] - dot[0]) + d.fy * (dot[3] - dot[2])),
            d.weight * ((1 - d.fx) * (dot[2] - dot[0]) + d.fx * (dot[3] - dot[1])),
            (1 - d.fy) * ((1 - d.fx) * dot[0] + d.fx * dot[1]) +
                d.fy * ((1 - d.fx) * dot[2] + d.fx * dot[3])};
  }
};

// Sums of grad_value in floating point.
template <class A, class Stride>
struct FloatingSums {
  static constexpr bool kExact = false;
  char* base;  // of a lane's channels in the first row; null if not wanted
  Stride row_bytes;

  static ISDA_BODY FloatingSums at(const Sizes& s, const ValueGradientArgs& args, int64_t offset) {
    A* sums = static_cast<A*>(args.grad_value);
    return {sums ? reinterpret_cast<char*>(sums + offset) : nullptr,
            static_cast<Stride>(s.heads * s.channels * int64_t(sizeof(A)))};
  }
  template <int kWidth, class Block>
  ISDA_BODY void add(int32_t row, const Pack<A, kWidth>& x, const Block& block) const {
    block.add_pack(reinterpret_cast<A*>(base + static_cast<int64_t>(row) * row_bytes), x);
  }
};

// Sums in integers, which are exact, so they do not depend on the order; neither does the sum of
// numbers that are not finite.
template <class A>
struct FixedSums {
  static constexpr bool kExact = true;
  A* base;
  int64_t* fixed;
  int64_t row_stride;
  int exponent;

  static ISDA_BODY FixedSums at(const Sizes& s, const ValueGradientArgs& args, int64_t offset) {
    return {static_cast<A*>(args.grad_value) + offset, args.fixed_grad_value + offset,
            s.heads * s.channels, *args.exponent};
  }
  template <int kWidth, class Block>
  ISDA_BODY void add(int32_t row, const Pack<A, kWidth>& x, const Block& block) const {
    for (int c = 0; c < kWidth; ++c) {
      const int64_t at = row * row_stride + c;
      if (x.at[c] - x.at[c] == 0)
        block.add(fixed + at, int64_t(rint(scalbn(double(x.at[c]), exponent))));
      else
        block.add(base + at, x.at[c]);
    }
  }
};

// What a thread keeps while the points of its item pass by.
template <class T, int kWidth, class Sums>
struct GradientPack {
  const char* base;  // its channels in the first row of value; null if it has no channels
  Pack<T, kWidth> upstream;
  Sums sums;
  int32_t slot;  // where the points of its group begin
  int32_t part;  // of its group, whose dot products it writes; -1 if another lane does
};

// Numbers that the lanes of a part are adding up. The first step halves what a lane answers for,
// so that eight sums cost hardly more shuffles than one.
template <class A>
struct Dots {
  A at[8];        // of two points with four corners each
  int32_t first;  // the lane answers for at[0] on, which are the numbers `first` on
};

// Add up `kLive` numbers over the threads `offset`, offset / 2, ... 1 apart. Afterwards a lane has
// kLive / (2 * offset) of them, at least one.
template <int kLive, class A, class Block>
ISDA_BODY void add_lanes(typename Block::template PerThread<Dots<A>>& dots, int offset,
                         Block& block) {
  typename Block::template PerThread<A> sent(block);
  if constexpr (kLive > 1) {
    if (offset == 0) return;
    constexpr int kHalf = kLive / 2;
    ISDA_UNROLL
    for (int i = 0; i < kHalf; ++i) {
      block.each([&](int thread) {
        sent[thread] = thread & offset ? dots[thread].at[i] : dots[thread].at[kHalf + i];
      });
      block.shuffle_xor(sent, offset);
      block.each([&](int thread) {
        A* at = dots[thread].at;
        at[i] = (thread & offset ? at[kHalf + i] : at[i]) + sent[thread];
      });
    }
    block.each([&](int thread) { dots[thread].first += thread & offset ? kHalf : 0; });
    add_lanes<kHalf, A>(dots, offset / 2, block);
  } else {
    for (; offset > 0; offset /= 2) {
      block.each([&](int thread) { sent[thread] = dots[thread].at[0]; });
      block.shuffle_xor(sent, offset);
      block.each([&](int thread) { dots[thread].at[0] += sent[thread]; });
    }
  }
}

// Dot products of the points in slots `slot` and `slot` + 1 with a lane's channels; their shares go
// to the gradient of value.
template <class T, int kWidth, class Stride, class A, class Points, class Sums, class Block>
ISDA_BODY void take_points(int thread, int32_t slot, int64_t row_bytes, const Points& points,
                           const GradientPack<T, kWidth, Sums>& pack, bool with_dots, Dots<A>& dots,
                           const Block& block) {
  const Stride stride = static_cast<Stride>(row_bytes);
  Pack<int32_t, 4> rows[2];
  Pack<T, kWidth> found[2][4];
  ISDA_UNROLL
  for (int i = 0; i < 2; ++i) {
    rows[i] = points.rows.read(thread, slot + i);
    if (!with_dots || rows[i].at[0] < 0) continue;
    ISDA_UNROLL
    for (int corner = 0; corner < 4; ++corner)
      found[i][corner] = load_pack<kWidth>(reinterpret_cast<const T*>(
          pack.base + static_cast<int64_t>(rows[i].at[corner]) * stride));
  }
  ISDA_UNROLL
  for (int i = 0; i < 2; ++i) {
    if (rows[i].at[0] < 0) continue;
    const auto shares = points.shares.read(thread, slot + i);
    const int32_t corners = points.details.read(thread, slot + i).corners;
    ISDA_UNROLL
    for (int corner = 0; corner < 4; ++corner) {
      Pack<A, kWidth> share;
      ISDA_UNROLL
      for (int c = 0; c < kWidth; ++c) {
        const A g = to_number(pack.upstream.at[c]);
        if (with_dots) dots.at[4 * i + corner] += g * to_number(found[i][corner].at[c]);
        share.at[c] = shares.at[corner] * g;
      }
      if (pack.sums.base && corners >> corner & 1) pack.sums.add(rows[i].at[corner], share, block);
    }
  }
}

// The part of its group whose dot products a thread writes after `add_lanes`; -1 for none. More
// than 8 lanes have each number several times.
ISDA_BODY int32_t part_of(int thread, const BlockLayout& layout) {
  const int copies = layout.part_lanes > 8 ? layout.part_lanes / 8 : 1;
  const bool writes = thread < layout.groups * layout.lanes && thread % copies == 0;
  return writes ? thread % layout.lanes / layout.part_lanes : -1;
}

// Write what a lane answers for; in later passes over the channels, add it.
template <class A, class Points>
ISDA_BODY void keep_dots(int thread, int32_t slot, int32_t part, const BlockLayout& layout,
                         bool add, const Dots<A>& dots, const Points& points) {
  const int live = layout.part_lanes < 8 ? 8 / layout.part_lanes : 1;
  ISDA_UNROLL
  for (int i = 0; i < 8; ++i) {
    if (i >= live) break;
    const int number = dots.first + i;
    const int at = ((slot + number / 4) * layout.parts + part) * 4 + number % 4;
    points.dots.write(thread, at, add ? points.dots.read(thread, at) + dots.at[i] : dots.at[i]);
  }
}

// Take all points of a run, with all channels.
template <class T, int kWidth, class Stride, class Sums, class Source, class Block, class Points>
ISDA_BODY void take_run(const ValueArgs& args, const ValueGradientArgs& gradients,
                        const Source& source, const BlockLayout& layout, const Run& run,
                        const Points& points, Block& block) {
  using A = typename Number<T>::Arithmetic;
  const Sizes& s = args.sizes;
  const bool with_dots = source.wants_gradients();
  const int64_t row_bytes = args.row_stride * int64_t(sizeof(T));
  for (int32_t pass = 0; pass < layout.passes; ++pass) {
    typename Block::template PerThread<GradientPack<T, kWidth, Sums>> packs(block);
    block.each([&](int thread) {
      const Seat seat(thread, layout, run.first, pass);
      packs[thread] = {};
      packs[thread].slot = seat.group * layout.slots;
      packs[thread].part = part_of(thread, layout);
      if (!seat.taken(layout, run.items)) return;
      const int64_t channel = int64_t(seat.pack) * kWidth;
      const int64_t image = seat.item / s.heads / s.queries, head = seat.item % s.heads;
      packs[thread].base = reinterpret_cast<const char*>(static_cast<const T*>(args.value) +
                                                         offset_in_value(args, seat.item, channel));
      packs[thread].upstream = load_pack<kWidth>(static_cast<const T*>(gradients.grad_output) +
                                                 seat.item * s.channels + channel);
      packs[thread].sums =
          Sums::at(s, gradients, (image * s.rows * s.heads + head) * s.channels + channel);
    });
    for (int32_t p = 0; p < run.count; p += 2) {
      typename Block::template PerThread<Dots<A>> dots(block);
      block.each([&](int thread) {
        dots[thread] = {};
        if (packs[thread].base)
          take_points<T, kWidth, Stride>(thread, packs[thread].slot + p, row_bytes, points,
                                         packs[thread], with_dots, dots[thread], block);
      });
      if (!with_dots) continue;
      add_lanes<8, A>(dots, layout.part_lanes / 2, block);
      block.each([&](int thread) {
        const auto& pack = packs[thread];
        if (pack.part >= 0)
          keep_dots(thread, pack.slot + p, pack.part, layout, pass > 0, dots[thread], points);
      });
    }
  }
}

// Gradients of the points of every item; that of value by atomic additions.
template <class T, int kWidth, class Stride, class Sums, class Source, class Block>
ISDA_BODY void backward_body(const ValueArgs& args, const ValueGradientArgs& gradients,
                             const LevelTable& table, const Source& source,
                             const BlockLayout& layout, Block& block) {
  using A = typename Number<T>::Arithmetic;
  const Sizes& s = args.sizes;
  const int64_t items = s.images * s.queries * s.heads;
  const int32_t all_points = int32_t(s.levels * s.points);
  const SharedGradients<A, Block> points(block, layout);
  for (int64_t first = block.index() * layout.groups; first < items;
       first += block.count() * layout.groups) {
    Run run = {first, items, 0, all_points};
    const auto scope = source.template begin<A>(layout, run, block);
    for (run.begin = 0; run.begin < all_points; run.begin += layout.slots) {
      const int32_t left = all_points - run.begin;
      run.count = left < layout.slots ? left : layout.slots;
      block.barrier();  // the points before these are no longer needed
      block.each([&](int thread) {
        prepare_points<A>(thread, source, scope, table, s, layout, run, points);
      });
      block.barrier();
      take_run<T, kWidth, Stride, Sums>(args, gradients, source, layout, run, points, block);
      if (!source.wants_gradients()) continue;
      block.barrier();
      block.each([&](int thread) {
        share_points(thread, s, layout, run, [&](const PointIndex& index, bool there) {
          if (there)
            source.template write_gradient<A>(thread, scope, index, table[index.level], points);
        });
      });
      source.template end_run<A>(scope, table, layout, run, points, block);
    }
    source.template end<A>(scope, layout, run, block);
  }
}

}  // namespace msda
}  // namespace isda
