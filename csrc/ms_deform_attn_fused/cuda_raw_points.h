// Points as the linear layers give them, for the CUDA kernels: offsets from reference points, and
// logits whose softmax over the points of an item is their weights.
#pragma once

#include "../ms_deform_attn/cuda_backward_body.h"
#include "shapes.h"

namespace isda {
namespace msda_fused {

using msda::BlockLayout;
using msda::Level;
using msda::LevelTable;
using msda::Pack;
using msda::PointGradient;
using msda::PointIndex;
using msda::read_number;
using msda::Run;
using msda::write_number;

ISDA_BODY float exponential(float x) { return expf(x); }
ISDA_BODY double exponential(double x) { return exp(x); }
// Of two numbers the larger, or NaN if one of them is.
template <class A>
ISDA_BODY A larger(A a, A b) {
  return b > a || b != b ? b : a;
}

// Of some points: the largest logit, and the sum of exp(logit - largest).
template <class A>
struct alignas(2 * sizeof(A)) Softmax {
  A largest, sum;
};

struct RawPoints {
  Operand reference_points, offsets, logits;
  Result grad_offsets, grad_logits;
  void* reference_sums;    // as in BackwardArgs
  void* weight_gradients;  // (B, Q, M, L, P) in the arithmetic type; may be grad_logits itself
  int64_t heads, reference_levels;
  int32_t all_points, points, coordinates;

  // The numbers of every lane of a group and then of the group itself.
  template <class A, class Block>
  struct Scope {
    typename Block::template Shared<Softmax<A>> numbers;
    int32_t lanes;

    ISDA_BODY int32_t lane(int thread) const { return thread + thread / lanes; }
    ISDA_BODY int32_t first_lane(int32_t group) const { return group * (lanes + 1); }
    ISDA_BODY int32_t whole(int32_t group) const { return group * (lanes + 1) + lanes; }
  };

  template <class A>
  static constexpr int lane_bytes() {
    return sizeof(Softmax<A>);
  }

  ISDA_BOTH bool wants_gradients() const {
    return grad_offsets.data || grad_logits.data || reference_sums;
  }

  // Whether a thread has an item as one of its lanes, or, with one lane, as the thread for it.
  static ISDA_BODY bool has_item(int thread, int32_t lanes, const BlockLayout& layout,
                                 const Run& run) {
    return thread / lanes < layout.groups && run.first + thread / lanes < run.items;
  }

  // Softmax of the items: first the lanes of a group share its points, then a thread adds them up.
  template <class A, class Block>
  ISDA_BODY Scope<A, Block> begin(const BlockLayout& layout, const Run& run, Block& block) const {
    const Scope<A, Block> scope = {block.template shared<Softmax<A>>(layout.points_bytes),
                                   layout.lanes};
    block.barrier();  // the numbers of the items before these are no longer needed
    block.each([&](int thread) {
      if (!has_item(thread, layout.lanes, layout, run)) return;
      const int64_t item = run.first + thread / layout.lanes;
      scope.numbers.write(thread, scope.lane(thread),
                          sum_up<A>(item, thread % layout.lanes, layout.lanes));
    });
    block.barrier();
    block.each([&](int thread) {
      if (!has_item(thread, 1, layout, run)) return;
      const int32_t first = scope.first_lane(thread);
      A largest = -A(INFINITY), sum = 0;
      for (int i = 0; i < layout.lanes; ++i)
        largest = larger(largest, scope.numbers.read(thread, first + i).largest);
      for (int i = 0; i < layout.lanes; ++i) {
        const Softmax<A> part = scope.numbers.read(thread, first + i);
        // A lane without a finite logit has nothing, unless nobody has.
        if (part.sum != 0) sum += part.sum * exponential(part.largest - largest);
      }
      scope.numbers.write(thread, scope.whole(thread), {largest, 1 / sum});
    });
    return scope;
  }

  template <class A>
  ISDA_BODY Softmax<A> sum_up(int64_t item, int32_t first, int32_t step) const {
    A largest = -A(INFINITY), sum = 0;
    for (int32_t p = first; p < all_points; p += step)
      largest = larger(largest, read_number<A>(logits, item * all_points + p));
    if (largest == -A(INFINITY)) return {largest, 0};
    for (int32_t p = first; p < all_points; p += step)
      sum += exponential(read_number<A>(logits, item * all_points + p) - largest);
    return {largest, sum};
  }

  template <class A, class Scope>
  ISDA_BODY A weight(int thread, const Scope& scope, int32_t group, int64_t at) const {
    const Softmax<A> whole = scope.numbers.read(thread, scope.whole(group));
    return exponential(read_number<A>(logits, at) - whole.largest) * whole.sum;
  }

  // Where the reference point of an item in a level begins, counted in numbers.
  ISDA_BODY int64_t reference_of(int64_t item, int32_t level) const {
    const int64_t row = reference_levels == 1 ? 0 : level;
    return (item / heads * reference_levels + row) * coordinates;
  }

  // What an offset along an axis of so many pixels is multiplied by to get pixels.
  template <class A>
  ISDA_BODY A pixels_of_offset(int64_t reference, int axis, int64_t size) const {
    if (coordinates == 2) return 1;
    return read_number<A>(reference_points, reference + 2 + axis) / A(2 * points) * A(size);
  }

  template <class A, class Scope>
  ISDA_BODY msda::Sample<A> sample(int thread, const Scope& scope, const PointIndex& index,
                                   const Level& level) const {
    const int64_t at = index.item * all_points + index.point;
    const int64_t reference = reference_of(index.item, index.level);
    A place[2];
    ISDA_UNROLL
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t size = axis == 0 ? level.width : level.height;
      place[axis] =
          read_number<A>(reference_points, reference + axis) * A(size) +
          read_number<A>(offsets, 2 * at + axis) * pixels_of_offset<A>(reference, axis, size) -
          A(0.5);
    }
    return {place[0], place[1], weight<A>(thread, scope, index.group, at)};
  }

  // Write what is complete, and keep for the sums (x, y, weight, weight times its gradient).
  template <class A, class Scope, class Points>
  ISDA_BODY void write_gradient(int thread, const Scope&, const PointIndex& index,
                                const Level& level, const Points& points_of_block) const {
    const int64_t at = index.item * all_points + index.point;
    const PointGradient<A> gradient = points_of_block.gradient(thread, index.slot);
    const A weight = points_of_block.details.read(thread, index.slot).weight;
    if (grad_offsets.data) {
      const int64_t reference = reference_of(index.item, index.level);
      const A x = gradient.x, y = gradient.y;
      // A point outside has exactly zero, also if its reference is not finite.
      write_number(grad_offsets, 2 * at,
                   x == 0 ? x : x * pixels_of_offset<A>(reference, 0, level.width));
      write_number(grad_offsets, 2 * at + 1,
                   y == 0 ? y : y * pixels_of_offset<A>(reference, 1, level.height));
    }
    if (grad_logits.data) static_cast<A*>(weight_gradients)[at] = gradient.weight;
    const A weighted = gradient.weight == 0 ? A(0) : weight * gradient.weight;
    points_of_block.parts_of_dots.write(thread, index.slot * points_of_block.parts,
                                        {{gradient.x, gradient.y, gradient.weight, weighted}});
  }

  // Add the points of a run to the sums over points, always in the same order.
  template <class A, class Scope, class Points, class Block>
  ISDA_BODY void end_run(const Scope& scope, const LevelTable& table, const BlockLayout& layout,
                         const Run& run, const Points& points_of_block, Block& block) const {
    block.barrier();
    block.each([&](int thread) {
      if (reference_sums) add_references<A>(thread, table, layout, run, points_of_block);
      if (!grad_logits.data || !has_item(thread, layout.lanes, layout, run)) return;
      const int32_t slot = thread / layout.lanes * layout.slots;
      A sum = run.begin == 0 ? A(0) : scope.numbers.read(thread, scope.lane(thread)).sum;
      for (int32_t p = thread % layout.lanes; p < run.count; p += layout.lanes)
        sum += kept<A>(thread, slot + p, points_of_block).at[3];
      scope.numbers.write(thread, scope.lane(thread), {0, sum});
    });
  }

  template <class A, class Points>
  static ISDA_BODY Pack<A, 4> kept(int thread, int32_t slot, const Points& points_of_block) {
    return points_of_block.parts_of_dots.read(thread, slot * points_of_block.parts);
  }

  // A thread adds the points of one item that share a reference point.
  template <class A, class Points>
  ISDA_BODY void add_references(int thread, const LevelTable& table, const BlockLayout& layout,
                                const Run& run, const Points& points_of_block) const {
    const bool shared = reference_levels == 1;
    const int32_t end = run.begin + run.count, step = shared ? all_points : points;
    const int32_t first = run.begin / step, rows = (end - 1) / step - first + 1;
    for (int32_t i = thread; i < layout.groups * rows; i += layout.threads) {
      const int32_t group = i / rows, row = first + i - group * rows;
      const int64_t item = run.first + group;
      if (item >= run.items) continue;
      const bool begins = row * step >= run.begin;  // it has no points in the runs before
      const int32_t from = begins ? row * step : run.begin;
      const int32_t to = (row + 1) * step < end ? (row + 1) * step : end;
      A sums[4] = {};
      for (int32_t p = from; p < to; ++p) {
        const Pack<A, 4> point =
            kept<A>(thread, group * layout.slots + p - run.begin, points_of_block);
        const Level level = table[p / points];
        add_reference(item * all_points + p, point.at[0] * A(level.width),
                      point.at[1] * A(level.height), sums);
      }
      A* out = static_cast<A*>(reference_sums) + (item * reference_levels + row) * coordinates;
      ISDA_UNROLL
      for (int k = 0; k < 4; ++k)
        if (k < coordinates) out[k] = begins ? sums[k] : out[k] + sums[k];
    }
  }

  // x, y: the gradient by the location, in units of the level.
  template <class A>
  ISDA_BODY void add_reference(int64_t at, A x, A y, A (&sums)[4]) const {
    sums[0] += x;
    sums[1] += y;
    if (coordinates == 2) return;
    // The offset of a point outside may not be finite.
    if (x != 0) sums[2] += x * read_number<A>(offsets, 2 * at) / A(2 * points);
    if (y != 0) sums[3] += y * read_number<A>(offsets, 2 * at + 1) / A(2 * points);
  }

  // The gradient of the softmax, which needs the sum over all points.
  template <class A, class Scope, class Block>
  ISDA_BODY void end(const Scope& scope, const BlockLayout& layout, const Run& run,
                     Block& block) const {
    if (!grad_logits.data) return;
    block.barrier();
    block.each([&](int thread) {
      if (!has_item(thread, 1, layout, run)) return;
      const int32_t first = scope.first_lane(thread);
      A sum = 0;
      for (int i = 0; i < layout.lanes; ++i) sum += scope.numbers.read(thread, first + i).sum;
      scope.numbers.write(thread, first, {0, sum});
    });
    block.barrier();
    block.each([&](int thread) {
      for (int32_t i = thread; i < layout.groups * all_points; i += layout.threads) {
        const int32_t group = i / all_points;
        if (run.first + group >= run.items) return;
        const int64_t at = run.first * all_points + i;
        const A mean = scope.numbers.read(thread, scope.first_lane(group)).sum;
        const A gradient = static_cast<const A*>(weight_gradients)[at] - mean;
        write_number(grad_logits, at, weight<A>(thread, scope, group, at) * gradient);
      }
    });
  }
};

inline RawPoints raw_points(const ForwardArgs& args) {
  RawPoints out = {args.reference_points, args.offsets, args.logits};
  out.heads = args.sizes.heads;
  out.reference_levels = args.reference_levels;
  out.all_points = int32_t(args.sizes.levels * args.sizes.points);
  out.points = int32_t(args.sizes.points);
  out.coordinates = int32_t(args.reference_coordinates);
  return out;
}

// `weight_gradients` is only used if grad_logits is wanted.
inline RawPoints raw_points(const BackwardArgs& args, void* weight_gradients) {
  RawPoints out = raw_points(args.forward);
  out.grad_offsets = args.grad_offsets;
  out.grad_logits = args.grad_logits;
  out.reference_sums = args.reference_sums;
  out.weight_gradients = weight_gradients;
  return out;
}

// The gradient of the reference points from what each head adds, in the order of the heads.
template <class A, class Block>
ISDA_BODY void add_heads(const BackwardArgs& args, Block& block) {
  const msda::Sizes& s = args.forward.sizes;
  const int64_t numbers = args.forward.reference_levels * args.forward.reference_coordinates;
  const int64_t all = s.images * s.queries * numbers;
  const A* sums = static_cast<const A*>(args.reference_sums);
  block.each([&](int thread) {
    for (int64_t i = block.index() * block.threads() + thread; i < all;
         i += block.count() * block.threads()) {
      const int64_t query = i / numbers;
      A sum = 0;
      for (int64_t head = 0; head < s.heads; ++head)
        sum += sums[(query * s.heads + head) * numbers + i % numbers];
      write_number(args.grad_reference_points, i, sum);
    }
  });
}

}  // namespace msda_fused
}  // namespace isda
