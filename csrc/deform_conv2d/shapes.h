// Operands of the kernels: plain pointers and sizes; no torch header.
//
// B images, C input and O output channels, K = kh * kw taps, G groups of channels with offsets of
// their own ("deform groups"), R groups of the weight. "Packed" is channels last and dense, in the
// arithmetic type.
#pragma once

#include <stdint.h>

#include "../dtypes.h"

namespace isda {
namespace dcn {

struct Sizes {
  int64_t images, channels, height, width;      // of the input
  int64_t out_channels, out_height, out_width;  // of the output
  int64_t taps_h, taps_w;
  int64_t stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int64_t groups, deform_groups;
  // Computed from the ones above:
  int64_t pixels, out_pixels, taps;
  int64_t group_in, group_out;  // channels of a weight group
  int64_t deform_in;            // channels of a deform group
  int64_t tile, tiles;          // output pixels handled at a time, and how often that is
};

// A (B, ., H, W) tensor, channels last or dense.
struct Map {
  const void* data;
  DType dtype;
  bool channels_last;
};

struct ForwardArgs {
  Sizes sizes;
  Map input;
  Operand offset, mask, weight, bias;  // mask and bias may be null
  void* output;                        // in the format of the input
  const void* packed_input;            // the input itself where it is packed already
  void* input_copy;                    // where to pack it; null if not needed
  void* packed_weight;
  int64_t taps_at_once;  // sampled before they are multiplied: a product wants some depth
};

// A run of input channels of one weight group, one deform group and one block.
struct Segment {
  int64_t channel, count;
  int64_t padded;  // count rounded up to whole vectors
  int64_t width;   // K * padded rounded up to the row block of the matrix product
  int64_t begin;   // sum of `width` before this segment
  int64_t group, deform_group;
  int64_t slot;         // where its sums over channels go
  bool first_in_slot;   // whether it is the first one to write there
  bool first_in_group;  // whether it is the first one of its weight group
};

// Gradients are computed in units of a run of images and a block of channels, each of which owns
// its part of every array it writes; what several of them share is added up in fixed order.
struct BackwardArgs {
  ForwardArgs forward;  // output, bias unused
  Map grad_output;
  const Segment* segments;
  int64_t segment_count;
  const int64_t* block_begin;  // segments of block i: [block_begin[i], block_begin[i + 1])
  int64_t blocks;
  const int64_t* slot_begin;  // slots of deform group g: [slot_begin[g], slot_begin[g + 1])
  int64_t runs;               // of images
  int64_t columns;            // sum of `width` of all segments
  int64_t widest;             // the largest `width`
  int64_t row;                // output channels of a weight group, rounded up to whole vectors
  void* packed_grad_input;    // null if not wanted; zeroed by the kernel
  void* point_sums;           // (slots, B, K, 3 as y x mask, out_pixels); null if not wanted
  void* weight_sums;          // (runs, columns, row); null if not wanted
  void* bias_sums;            // (runs, O); null if not wanted
  Result grad_input, grad_offset, grad_mask, grad_weight, grad_bias;
};

}  // namespace dcn
}  // namespace isda
