// The gradients on the CPU; compiled once for every instruction set.
//
// Work is cut into units of one (image, head): the gradient of a logit needs all points of its
// head. What heads add to a reference point is kept apart and added up in their order at the end.
// So the result does not depend on how units are spread over threads.
#pragma once

#include "../ms_deform_attn/cpu_backward_body.h"
#include "cpu_body.h"

namespace isda {
namespace msda_fused {
namespace {

// The points, and where their gradients go; see msda::GivenPointGradients.
template <class A>
class RawPointGradients : public RawPoints<A> {
 public:
  RawPointGradients(const BackwardArgs& args, const PointTable<A>& table, void* memory)
      : RawPoints<A>(args.forward, table, memory),
        grad_offsets_(args.grad_offsets),
        grad_logits_(args.grad_logits),
        reference_sums_(static_cast<A*>(args.reference_sums)) {}

  ISDA_INLINE bool wanted() const {
    return grad_offsets_.data || grad_logits_.data || reference_sums_;
  }

  ISDA_INLINE void start_head(int64_t item) {
    RawPoints<A>::start_head(item);
    if (reference_sums_ == nullptr) return;
    const int64_t numbers = this->args_.reference_levels * this->args_.reference_coordinates;
    for (int64_t i = 0; i < numbers; ++i) reference_sums_[item * numbers + i] = 0;
  }

  ISDA_INLINE void store(int64_t first, int n, Listed run, const Points<A>& points,
                         const Dots<A>& dots) const {
    alignas(64) A along_x[kChunk], along_y[kChunk], xy[2 * kChunk];
    const int64_t padded = msda::in_whole_lanes(n), from = run.begin;
#pragma GCC ivdep  // or vectors are used only after a comparison of addresses
    for (int64_t i = 0; i < padded; ++i) {
      const PointGradient<A> g = point_gradient(points, dots, from + i);
      // Zero for a point outside, also where its box is not finite.
      const bool inside = points.corners[from + i] != 0;
      along_x[i] = g.x;
      along_y[i] = g.y;
      xy[2 * i] = inside ? g.x * this->kept_.scale_x[first + i] : A(0);
      xy[2 * i + 1] = inside ? g.y * this->kept_.scale_y[first + i] : A(0);
      this->kept_.grad_weights[first + i] = g.weight;
    }
    const int64_t at = this->item_ * this->all_points_ + first;
    if (grad_offsets_.data) store_converted(xy, 2 * n, grad_offsets_, 2 * at);
    if (reference_sums_) add_to_reference(first, run, points, along_x, along_y);
  }

  // The gradient of the softmax: weight * (gradient - sum of weight * gradient).
  ISDA_INLINE void finish_head() const {
    if (grad_logits_.data == nullptr) return;
    A* weights = this->kept_.weights;
    A* gradients = this->kept_.grad_weights;
    alignas(64) A lanes[kSoftmaxLanes] = {};
    for (int64_t i = 0; i < this->padded_; i += kSoftmaxLanes)
      for (int j = 0; j < kSoftmaxLanes; ++j) lanes[j] += weights[i + j] * gradients[i + j];
    A total = 0;
    for (int j = 0; j < kSoftmaxLanes; ++j) total += lanes[j];
    for (int64_t i = 0; i < this->padded_; ++i) gradients[i] = weights[i] * (gradients[i] - total);
    store_converted(gradients, this->all_points_, grad_logits_, this->item_ * this->all_points_);
  }

 private:
  // Add up what the points inside, from point `first` on, give their reference points.
  ISDA_INLINE void add_to_reference(int64_t first, Listed run, const Points<A>& points,
                                    const A* along_x, const A* along_y) const {
    const ForwardArgs& args = this->args_;
    const int64_t coordinates = args.reference_coordinates;
    const int64_t per_level = this->all_points_ / args.reference_levels;
    A* sums = reference_sums_ + this->item_ * args.reference_levels * coordinates;
    for (int k = run.begin; k < run.end; ++k) {
      const int i = points.order[k] - run.begin;
      const int64_t at = first + i;
      A* to = sums + at / per_level * coordinates;
      const A x = along_x[i] * this->table_.width[at], y = along_y[i] * this->table_.height[at];
      to[0] += x;
      to[1] += y;
      if (coordinates == 2) continue;
      to[2] += x * this->offsets_[2 * i] * this->box_unit_;
      to[3] += y * this->offsets_[2 * i + 1] * this->box_unit_;
    }
  }

  const Result grad_offsets_, grad_logits_;
  A* reference_sums_;
};

// Gradients of the reference points of the (image, query) pairs [begin, end).
template <class A>
void finish_references(const BackwardArgs& args, int64_t begin, int64_t end) {
  const ForwardArgs& fwd = args.forward;
  const int64_t heads = fwd.sizes.heads;
  const int64_t numbers = fwd.reference_levels * fwd.reference_coordinates;
  for (int64_t pair = begin; pair < end; ++pair) {
    const A* sums = static_cast<const A*>(args.reference_sums) + pair * heads * numbers;
    for (int64_t i = 0; i < numbers; ++i) {
      A total = 0;
      for (int64_t m = 0; m < heads; ++m) total += sums[m * numbers + i];
      store_converted(&total, 1, args.grad_reference_points, pair * numbers + i);
    }
  }
}

}  // namespace
}  // namespace msda_fused
}  // namespace isda
