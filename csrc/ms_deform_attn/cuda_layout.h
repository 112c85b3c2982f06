// How the work is laid out over the threads of a block and its shared memory. Made on the host.
#pragma once

#include <stdint.h>

#include "../cuda_block.h"

namespace isda {
namespace msda {

// A block owns a run of items, that is of (image, query, head); a group of threads owns one of
// them, and a lane of it a pack of neighbouring channels, in several passes if there are too many.
struct BlockLayout {
  int32_t threads;       // whole warps; those beyond the groups only help to prepare points
  int32_t groups;        // items of a block
  int32_t lanes;         // threads of a group
  int32_t packs;         // of all channels of an item
  int32_t passes;        // packs of a lane
  int32_t slots;         // points of an item that are prepared at a time; even
  int32_t part_lanes;    // lanes of a part of a group, whose sums shuffles can add up
  int32_t parts;         // of a group
  int32_t points_bytes;  // shared memory for the points
  int32_t shared_bytes;  // of all

  ISDA_BOTH int32_t all_slots() const { return groups * slots; }
};

// What a block may use. Tests give other numbers, so that blocks end everywhere.
struct BlockLimits {
  int32_t threads;
  int32_t points_bytes;
};

// Shared memory of a block on every GPU, without asking for more.
constexpr int kMaxSharedBytes = 48 * 1024;

ISDA_BOTH constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The largest power of two that divides n.
constexpr int32_t power_of_two_in(int32_t n) { return n & -n; }

// Lay out `items` with so many packs of channels and points each. A point takes slot_bytes of
// shared memory and part_bytes for every part of a group; a lane takes lane_bytes.
inline BlockLayout make_layout(int64_t items, int64_t packs, int64_t points, int32_t slot_bytes,
                               int32_t part_bytes, int32_t lane_bytes, BlockLimits limits) {
  BlockLayout out = {};
  out.packs = int32_t(packs);
  out.passes = int32_t(divide_up(packs, limits.threads));
  out.lanes = int32_t(divide_up(packs, out.passes));
  out.part_lanes = power_of_two_in(out.lanes);
  if (out.part_lanes > kWarp) out.part_lanes = kWarp;
  out.parts = out.lanes / out.part_lanes;
  const int32_t point_bytes = slot_bytes + part_bytes * out.parts;
  int64_t groups = limits.threads / out.lanes;
  const int64_t fitting = kMaxSharedBytes / (2 * point_bytes + lane_bytes * (out.lanes + 1));
  if (groups > fitting) groups = fitting;
  if (groups > items) groups = items;
  out.groups = int32_t(groups > 1 ? groups : 1);
  out.threads = int32_t(divide_up(out.groups * out.lanes, kWarp) * kWarp);
  const int64_t wanted = divide_up(points, 2) * 2;
  int64_t slots = limits.points_bytes / (out.groups * point_bytes) / 2 * 2;
  if (slots > wanted) slots = wanted;
  out.slots = int32_t(slots > 2 ? slots : 2);
  out.points_bytes = out.all_slots() * point_bytes;
  out.shared_bytes = out.points_bytes + out.groups * (out.lanes + 1) * lane_bytes;
  return out;
}

}  // namespace msda
}  // namespace isda
