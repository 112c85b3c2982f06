// Schemas of every operator, and what the library says about itself. Kernels register themselves
// in their own files; fake kernels, autograd and autocast are registered in isda_suite/ops/.
#include <torch/library.h>

#include <string>

#include "cpu_isa.h"

#define ISDA_TEXT_(words) #words
#define ISDA_TEXT(words) ISDA_TEXT_(words)

// Read from the file before it is loaded: a library built for another torch must not be loaded, nor
// one with other schemas; that number rises with every change of theirs, in ops/library.py too.
extern "C" __attribute__((visibility("default"), used)) const char isda_suite_build_record[] =
    "isda_suite build record "
    "{\"torch\": \"" ISDA_TEXT(ISDA_TORCH_VERSION) "\", \"cuda\": \"" ISDA_TEXT(ISDA_CUDA_VERSION)
    "\", \"cuda_archs\": \"" ISDA_TEXT(ISDA_CUDA_ARCHS) "\", \"compiler\": \"" __VERSION__
    "\", \"schemas\": 3}";

namespace {

std::string cpu_isa() { return isda::cpu_isa_name(isda::chosen_cpu_isa()); }

std::string use_cpu_isa(std::string name) { return isda::choose_cpu_isa(name); }

}  // namespace

TORCH_LIBRARY(isda_suite, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  // value (B, S, M, C), spatial_shapes (L, 2) as (h, w), level_start_index (L,),
  // sampling_locations (B, Q, M, L, P, 2) as (x, y), 0..1 across the level,
  // attention_weights (B, Q, M, L, P) -> (B, Q, M * C)
  m.def(
      "ms_deform_attn(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor",
      tags);
  // The same with the sizes as a flat list of h, w; levels follow one another.
  m.def(
      "ms_deform_attn.list(Tensor value, SymInt[] spatial_shapes, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor",
      tags);
  // Gradients of value, sampling_locations, attention_weights; empty where the mask is false.
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights, "
      "bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
      tags);
  m.def(
      "ms_deform_attn_backward.list(Tensor grad_output, Tensor value, SymInt[] spatial_shapes, "
      "Tensor sampling_locations, Tensor attention_weights, "
      "bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
      tags);
  // The same from what the linear layers give: reference_points (B, Q, L or 1, 2 or 4) as
  // (x, y) or (x, y, width, height), sampling_offsets (B, Q, M, L, P, 2), attention_logits
  // (B, Q, M, L, P), whose softmax over L and P is the weights -> (B, Q, M * C)
  m.def(
      "ms_deform_attn_fused(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor reference_points, Tensor sampling_offsets, Tensor attention_logits) -> Tensor",
      tags);
  m.def(
      "ms_deform_attn_fused.list(Tensor value, SymInt[] spatial_shapes, "
      "Tensor reference_points, Tensor sampling_offsets, Tensor attention_logits) -> Tensor",
      tags);
  // Gradients of value, reference_points, sampling_offsets, attention_logits; empty where the
  // mask is false.
  m.def(
      "ms_deform_attn_fused_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor reference_points, Tensor sampling_offsets, "
      "Tensor attention_logits, bool[4] output_mask) -> (Tensor, Tensor, Tensor, Tensor)",
      tags);
  m.def(
      "ms_deform_attn_fused_backward.list(Tensor grad_output, Tensor value, "
      "SymInt[] spatial_shapes, Tensor reference_points, Tensor sampling_offsets, "
      "Tensor attention_logits, bool[4] output_mask) -> (Tensor, Tensor, Tensor, Tensor)",
      tags);
  // For tests: the body of the CUDA kernels, compiled for the host and run serially. limits:
  // threads of a block, bytes of shared memory for its points, blocks of the grid; empty for small
  // ones.
  m.def(
      "_ms_deform_attn_cuda_body_on_host(Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights, "
      "int[] limits=[]) -> Tensor");
  m.def(
      "_ms_deform_attn_backward_cuda_body_on_host(Tensor grad_output, Tensor value, "
      "Tensor spatial_shapes, Tensor level_start_index, Tensor sampling_locations, "
      "Tensor attention_weights, bool[3] output_mask, bool deterministic=False, "
      "int[] limits=[]) -> (Tensor, Tensor, Tensor)");
  m.def(
      "_ms_deform_attn_fused_cuda_body_on_host(Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor reference_points, Tensor sampling_offsets, "
      "Tensor attention_logits, int[] limits=[]) -> Tensor");
  m.def(
      "_ms_deform_attn_fused_backward_cuda_body_on_host(Tensor grad_output, Tensor value, "
      "Tensor spatial_shapes, Tensor level_start_index, Tensor reference_points, "
      "Tensor sampling_offsets, Tensor attention_logits, bool[4] output_mask, "
      "bool deterministic=False, int[] limits=[]) -> (Tensor, Tensor, Tensor, Tensor)");
  // input (B, C, H, W), offset (B, 2 * G * K, Ho, Wo) as (y, x) for every group and tap,
  // mask (B, G * K, Ho, Wo), weight (O, C / groups, kh, kw), bias (O,) -> (B, O, Ho, Wo)
  m.def(
      "deform_conv2d(Tensor input, Tensor offset, Tensor? mask, Tensor weight, Tensor? bias, "
      "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, "
      "SymInt deform_groups) -> Tensor",
      tags);
  // Gradients of input, offset, mask, weight, bias; empty where the output mask is false.
  m.def(
      "deform_conv2d_backward(Tensor grad_output, Tensor input, Tensor offset, Tensor? mask, "
      "Tensor weight, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, "
      "SymInt deform_groups, bool[5] output_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
      tags);
  // For tests: the bodies of the CUDA kernels, compiled for the host and run serially, with slices
  // of at most so many bytes.
  m.def(
      "_deform_conv2d_cuda_body_on_host(Tensor input, Tensor offset, Tensor? mask, Tensor weight, "
      "Tensor? bias, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, "
      "SymInt deform_groups, int workspace=67108864, bool fused=True) -> Tensor");
  m.def(
      "_deform_conv2d_backward_cuda_body_on_host(Tensor grad_output, Tensor input, Tensor offset, "
      "Tensor? mask, Tensor weight, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, "
      "SymInt groups, SymInt deform_groups, bool[5] output_mask, bool deterministic=False, "
      "int workspace=67108864) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  // The variant of the CPU kernels in use, and a way to choose another ('' is the best one).
  m.def("_cpu_isa() -> str", &cpu_isa);
  m.def("_use_cpu_isa(str name) -> str", &use_cpu_isa);
}
