// Points and their neighbours as the CUDA kernels keep them in shared memory, and where they come
// from.
#pragma once

#include <math.h>
#include <stdint.h>

#include "cuda_layout.h"
#include "cuda_numbers.h"
#include "shapes.h"

namespace isda {
namespace msda {

constexpr int kInlineLevels = 64;

// Sizes and starts: inline, or on the device where the caller's tables lie.
struct LevelTable {
  const int64_t* shapes;  // (L, 2); null: use `levels`
  const int64_t* starts;
  int32_t levels[3 * kInlineLevels];  // height, width, start

  ISDA_BOTH Level operator[](int64_t i) const {
    if (shapes) return {shapes[2 * i], shapes[2 * i + 1], starts[i]};
    return {levels[3 * i], levels[3 * i + 1], levels[3 * i + 2]};
  }
};

// A point in pixels of its level.
template <class A>
struct Sample {
  A x, y, weight;
};

// What the gradients of a point need beside the dot products.
template <class A>
struct alignas(16) Detail {
  A fx, fy, weight;
  int32_t corners;  // bit c: corner c lies inside, in the order yx = 00, 01, 10, 11
};

// Rows of the four corners and their shares of the point. A corner outside stands on one inside,
// which is read anyway, and has no share; of a point outside every row is -1.
template <class A>
struct Place {
  Pack<int32_t, 4> rows;
  Pack<A, 4> shares;
  Detail<A> detail;
};

template <class A>
ISDA_BOTH Place<A> place_outside() {
  return {{{-1, -1, -1, -1}}, {}, {}};
}

template <class A>
ISDA_BOTH Place<A> place_point(const Sample<A>& sample, const Level& level) {
  const A x = sample.x, y = sample.y;
  const int32_t width = int32_t(level.width), height = int32_t(level.height);
  const bool inside = x > -1 && x < A(width) && y > -1 && y < A(height);
  // A level without pixels has no corner to stand on.
  if (!inside || width == 0 || height == 0) return place_outside<A>();
  int32_t xi = int32_t(x), yi = int32_t(y);
  xi -= A(xi) > x;  // truncation and a step back: the floor in the arithmetic type
  yi -= A(yi) > y;
  const A fx = x - A(xi), fy = y - A(yi);
  const bool found[4] = {yi >= 0, yi + 1 < height, xi >= 0, xi + 1 < width};
  const int32_t lines[2] = {found[0] ? yi : 0, found[1] ? yi + 1 : yi};
  const int32_t columns[2] = {found[2] ? xi : 0, found[3] ? xi + 1 : xi};
  Place<A> place = {};
  place.detail = {fx, fy, sample.weight, 0};
  ISDA_UNROLL
  for (int corner = 0; corner < 4; ++corner) {
    const int down = corner >> 1, right = corner & 1;
    const bool there = found[down] && found[2 + right];
    const A share = (down ? fy : 1 - fy) * (right ? fx : 1 - fx);
    place.rows.at[corner] = int32_t(level.start) + lines[down] * width + columns[right];
    // An infinite weight must not make NaN of a corner that has no share.
    place.shares.at[corner] = there && share != 0 ? share * sample.weight : A(0);
    place.detail.corners |= int32_t(there) << corner;
  }
  return place;
}

// The points of a block in shared memory, `slots` for every group.
template <class A, class Block>
struct SharedPoints {
  typename Block::template Shared<Pack<int32_t, 4>> rows;
  typename Block::template Shared<Pack<A, 4>> shares;

  static constexpr int kBytes = 4 * sizeof(int32_t) + 4 * sizeof(A);

  ISDA_BODY SharedPoints(Block& block, const BlockLayout& layout)
      : rows(block.template shared<Pack<int32_t, 4>>(0)),
        shares(block.template shared<Pack<A, 4>>(layout.all_slots() * 4 * sizeof(int32_t))) {}
  ISDA_BODY void write(int thread, int slot, const Place<A>& place) const {
    rows.write(thread, slot, place.rows);
    shares.write(thread, slot, place.shares);
  }
};

// The points [begin, begin + count) of the items from `first` on, which the block prepares at once.
struct Run {
  int64_t first, items;  // items: of all blocks
  int32_t begin, count;

  // Two points at a time are worked on; the one that fills up lies outside.
  ISDA_BOTH int32_t padded() const { return (count + 1) / 2 * 2; }
  ISDA_BOTH bool has(int64_t group, int32_t point) const {
    return point < count && first + group < items;
  }
};

// A point of a block: its place in shared memory and among all points.
struct PointIndex {
  int32_t slot, group;
  int64_t item;
  int32_t point, level;  // point: of all levels of the item
};

// Call body(index, there) for the points of a run that this thread prepares; `there` is false for
// what only fills up. The threads of a block share them so that neighbours load neighbours.
template <class Body>
ISDA_BODY void share_points(int thread, const Sizes& sizes, const BlockLayout& layout,
                            const Run& run, const Body& body) {
  const int padded = run.padded(), all = layout.groups * padded;
  for (int i = thread; i < all; i += layout.threads) {
    const int32_t group = i / padded, place = i - group * padded, point = run.begin + place;
    const PointIndex index = {group * layout.slots + place, group, run.first + group, point,
                              point / int32_t(sizes.points)};
    body(index, run.has(group, place));
  }
}

// Place the points of a run and hand them to `points`.
template <class A, class Source, class Scope, class Points>
ISDA_BODY void prepare_points(int thread, const Source& source, const Scope& scope,
                              const LevelTable& table, const Sizes& sizes,
                              const BlockLayout& layout, const Run& run, const Points& points) {
  share_points(thread, sizes, layout, run, [&](const PointIndex& index, bool there) {
    if (!there) return points.write(thread, index.slot, place_outside<A>());
    const Level level = table[index.level];
    const Sample<A> sample = source.template sample<A>(thread, scope, index, level);
    points.write(thread, index.slot, place_point<A>(sample, level));
  });
}

// The gradient of a point by its place in pixels and by its weight.
template <class A>
struct PointGradient {
  A x, y, weight;
};

// Points given as they are: locations across the level, and weights.
//
// Every source has these members. The block calls them in this order: `begin` for new items, and
// for every run of their points `sample`; if gradients are wanted, `write_gradient` and `end_run`;
// then `end`. A scope is what a source keeps about the items of a block.
struct GivenPoints {
  Operand locations, weights;
  Result grad_locations, grad_weights;
  int32_t all_points;

  struct Scope {};

  template <class A>
  static constexpr int lane_bytes() {  // of shared memory
    return 0;
  }

  ISDA_BOTH bool wants_gradients() const { return grad_locations.data || grad_weights.data; }

  template <class A, class Block>
  ISDA_BODY Scope begin(const BlockLayout&, const Run&, Block&) const {
    return {};
  }

  template <class A>
  ISDA_BODY Sample<A> sample(int, Scope, const PointIndex& index, const Level& level) const {
    const int64_t at = index.item * all_points + index.point;
    const A u = read_number<A>(locations, 2 * at), v = read_number<A>(locations, 2 * at + 1);
    return {u * A(level.width) - A(0.5), v * A(level.height) - A(0.5), read_number<A>(weights, at)};
  }

  template <class A, class Points>
  ISDA_BODY void write_gradient(int thread, Scope, const PointIndex& index, const Level& level,
                                const Points& points) const {
    const int64_t at = index.item * all_points + index.point;
    const PointGradient<A> gradient = points.gradient(thread, index.slot);
    if (grad_weights.data) write_number(grad_weights, at, gradient.weight);
    if (!grad_locations.data) return;
    write_number(grad_locations, 2 * at, gradient.x * A(level.width));
    write_number(grad_locations, 2 * at + 1, gradient.y * A(level.height));
  }

  template <class A, class Points, class Block>
  ISDA_BODY void end_run(Scope, const LevelTable&, const BlockLayout&, const Run&, const Points&,
                         Block&) const {}

  template <class A, class Block>
  ISDA_BODY void end(Scope, const BlockLayout&, const Run&, Block&) const {}
};

inline GivenPoints given_points(const ForwardArgs& args) {
  const Sizes& s = args.sizes;
  return {args.locations, args.weights, {}, {}, int32_t(s.levels * s.points)};
}

inline GivenPoints given_points(const BackwardArgs& args) {
  GivenPoints out = given_points(args.forward);
  out.grad_locations = args.grad_locations;
  out.grad_weights = args.grad_weights;
  return out;
}

}  // namespace msda
}  // namespace isda
