// The body of the forward kernel.
#pragma once

#include "cuda_points.h"

namespace isda {
namespace msda {

// What a thread keeps while the points of its item pass by.
template <class A, int kWidth>
struct OutputPack {
  const char* base;  // its channels in the first row of value; null if it has no channels
  A sums[kWidth];
  int32_t slot;  // where the points of its group begin
};

// Add the points of a run. Those of two points are loaded before the first is used.
template <class T, int kWidth, class Stride, class A, class Points>
ISDA_BODY void add_points(int thread, int32_t count, int64_t row_bytes, const Points& points,
                          OutputPack<A, kWidth>& pack) {
  const Stride stride = static_cast<Stride>(row_bytes);
  for (int32_t p = 0; p < count; p += 2) {
    Pack<int32_t, 4> rows[2];
    Pack<T, kWidth> found[2][4];
    ISDA_UNROLL
    for (int i = 0; i < 2; ++i) {
      rows[i] = points.rows.read(thread, pack.slot + p + i);
      if (rows[i].at[0] < 0) continue;
      ISDA_UNROLL
      for (int corner = 0; corner < 4; ++corner)
        found[i][corner] = load_pack<kWidth>(reinterpret_cast<const T*>(
            pack.base + static_cast<int64_t>(rows[i].at[corner]) * stride));
    }
    ISDA_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (rows[i].at[0] < 0) continue;
      const auto shares = points.shares.read(thread, pack.slot + p + i);
      ISDA_UNROLL
      for (int corner = 0; corner < 4; ++corner) {
        ISDA_UNROLL
        for (int c = 0; c < kWidth; ++c)
          pack.sums[c] += shares.at[corner] * to_number(found[i][corner].at[c]);
      }
    }
  }
}

// The item of a group of the block and the pack of a lane of it in one pass over the channels.
struct Seat {
  int32_t group, pack;
  int64_t item;

  ISDA_BODY Seat(int thread, const BlockLayout& layout, int64_t first, int32_t pass)
      : group(thread / layout.lanes),
        pack(thread % layout.lanes + pass * layout.lanes),
        item(first + group) {}
  ISDA_BODY bool taken(const BlockLayout& layout, int64_t items) const {
    return group < layout.groups && pack < layout.packs && item < items;
  }
};

// Its place in value: the first row of its image, its head, the first channel.
ISDA_BODY int64_t offset_in_value(const ValueArgs& args, int64_t item, int64_t channel) {
  const int64_t image = item / args.sizes.heads / args.sizes.queries;
  const int64_t head = item % args.sizes.heads;
  return image * args.image_stride + head * args.head_stride + channel;
}

// Output of every item. Stride is an integer that holds the bytes of a row.
template <class T, int kWidth, class Stride, class Source, class Block>
ISDA_BODY void forward_body(const ValueArgs& args, const LevelTable& table, const Source& source,
                            const BlockLayout& layout, Block& block) {
  using A = typename Number<T>::Arithmetic;
  const Sizes& s = args.sizes;
  const int64_t items = s.images * s.queries * s.heads;
  const int32_t all_points = int32_t(s.levels * s.points);
  const SharedPoints<A, Block> points(block, layout);
  for (int64_t first = block.index() * layout.groups; first < items;
       first += block.count() * layout.groups) {
    Run run = {first, items, 0, all_points};
    const auto scope = source.template begin<A>(layout, run, block);
    for (int32_t pass = 0; pass < layout.passes; ++pass) {
      typename Block::template PerThread<OutputPack<A, kWidth>> packs(block);
      block.each([&](int thread) {
        const Seat seat(thread, layout, first, pass);
        packs[thread] = {nullptr, {}, seat.group * layout.slots};
        if (seat.taken(layout, items))
          packs[thread].base = reinterpret_cast<const char*>(
              static_cast<const T*>(args.value) +
              offset_in_value(args, seat.item, int64_t(seat.pack) * kWidth));
      });
      for (run.begin = 0; run.begin < all_points; run.begin += layout.slots) {
        const int32_t left = all_points - run.begin;
        run.count = left < layout.slots ? left : layout.slots;
        block.barrier();  // the points before these are no longer needed
        block.each([&](int thread) {
          prepare_points<A>(thread, source, scope, table, s, layout, run, points);
        });
        block.barrier();
        block.each([&](int thread) {
          if (packs[thread].base)
            add_points<T, kWidth, Stride>(thread, run.count, args.row_stride * int64_t(sizeof(T)),
                                          points, packs[thread]);
        });
      }
      block.each([&](int thread) {
        if (!packs[thread].base) return;
        const Seat seat(thread, layout, first, pass);
        Pack<T, kWidth> rounded;
        for (int c = 0; c < kWidth; ++c) rounded.at[c] = from_number<T>(packs[thread].sums[c]);
        store_pack(
            static_cast<T*>(args.output) + seat.item * s.channels + int64_t(seat.pack) * kWidth,
            rounded);
      });
    }
  }
}

}  // namespace msda
}  // namespace isda
