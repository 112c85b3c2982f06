// Attention from reference points, offsets and logits on the CPU; compiled once for every
// instruction set. Points are sampled as in ms_deform_attn; this is where they come from.
#pragma once

#include "../ms_deform_attn/cpu_body.h"
#include "../softmax.h"
#include "shapes.h"

namespace isda {
namespace msda_fused {
namespace {

using msda::PointTable;
using msda::Sizes;

// What a thread keeps of one (image, query), and of one head of it: L * P numbers each, padded to
// whole groups of lanes.
template <class A>
struct Workspace {
  Workspace(void* memory, int64_t padded)
      : base_x(static_cast<A*>(memory)),
        base_y(base_x + padded),
        scale_x(base_y + padded),
        scale_y(scale_x + padded),
        weights(scale_y + padded),
        grad_weights(weights + padded) {}

  A *base_x, *base_y;    // pixel coordinates of an offset of zero
  A *scale_x, *scale_y;  // pixels for an offset of one
  A* weights;            // the softmax
  A* grad_weights;       // in the backward pass
};

// Reference points, offsets and logits as a source of points; see msda::GivenPoints.
template <class A>
class RawPoints {
 public:
  // One head after the other: its softmax and the offsets read last are kept here.
  static constexpr bool kReadsAhead = false;

  RawPoints(const ForwardArgs& args, const PointTable<A>& table, void* memory)
      : args_(args),
        table_(table),
        all_points_(args.sizes.levels * args.sizes.points),
        padded_((all_points_ + kSoftmaxLanes - 1) / kSoftmaxLanes * kSoftmaxLanes),
        kept_(memory, padded_),
        box_unit_(A(0.5) / A(args.sizes.points)) {
    for (int64_t i = 0; i < padded_; ++i) kept_.scale_x[i] = kept_.scale_y[i] = 1;
  }

  // x is reference * width - 1/2 + offset * scale, without a division.
  ISDA_INLINE void start_query(int64_t pair) {
    const int64_t levels = args_.reference_levels, coordinates = args_.reference_coordinates;
    const int64_t run = all_points_ / levels;
    for (int64_t level = 0; level < levels; ++level) {
      A reference[4];
      const int64_t at = (pair * levels + level) * coordinates;
      copy_converted(args_.reference_points, at, coordinates, reference);
      const int64_t end = (level + 1) * run;
      for (int64_t i = level * run; i < end; ++i) {
        kept_.base_x[i] = reference[0] * table_.width[i] - A(0.5);
        kept_.base_y[i] = reference[1] * table_.height[i] - A(0.5);
      }
      if (coordinates == 2) continue;
      for (int64_t i = level * run; i < end; ++i) {
        kept_.scale_x[i] = reference[2] * table_.width[i] * box_unit_;
        kept_.scale_y[i] = reference[3] * table_.height[i] * box_unit_;
      }
    }
  }

  ISDA_INLINE void start_head(int64_t item) {
    item_ = item;
    copy_converted(args_.logits, item * all_points_, all_points_, kept_.weights);
    for (int64_t i = all_points_; i < padded_; ++i) kept_.weights[i] = -A(__builtin_inf());
    softmax(kept_.weights, padded_);
  }

  ISDA_INLINE void prefetch(int64_t item, int64_t first, int64_t n) const {
    msda::prefetch(args_.offsets, 2 * (item * all_points_ + first), 2 * n);
    msda::prefetch(args_.logits, item * all_points_ + first, n);
  }

  ISDA_INLINE void read(int64_t first, int n, A* u, A* v, A* weight) {
    copy_converted(args_.offsets, 2 * (item_ * all_points_ + first), 2 * n, offsets_);
#pragma GCC ivdep  // or vectors are used only after a comparison of addresses
    for (int64_t i = 0; i < n; ++i) {
      u[i] = kept_.base_x[first + i] + offsets_[2 * i] * kept_.scale_x[first + i];
      v[i] = kept_.base_y[first + i] + offsets_[2 * i + 1] * kept_.scale_y[first + i];
      weight[i] = kept_.weights[first + i];
    }
  }

 protected:
  const ForwardArgs& args_;
  const PointTable<A>& table_;
  const int64_t all_points_, padded_;
  const Workspace<A> kept_;
  const A box_unit_;  // of a box's width or height, for an offset of one
  int64_t item_ = 0;
  alignas(64) A offsets_[2 * kChunk];  // of the points read last
};

}  // namespace
}  // namespace msda_fused
}  // namespace isda
