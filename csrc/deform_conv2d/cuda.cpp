// The operator on CUDA tensors: current stream, no synchronisation.
#include <ATen/Context.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "cuda_kernels.h"
#include "slices.h"

namespace isda {
namespace dcn {
namespace {

void check_launch(int error) {
  TORCH_CHECK(error == 0,
              "deform_conv2d: launching the CUDA kernel failed: ", cuda_error_text(error));
}

void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

constexpr ColumnKernels kKernels = {
    [](const ColumnArgs& args) { check_launch(launch_columns(args, current_stream())); },
    [](const ColumnGradientArgs& args) { check_launch(launch_gradients(args, current_stream())); },
    [](const FusedArgs& args) { check_launch(launch_fused(args, current_stream())); },
};

at::Tensor deform_conv2d_cuda(const at::Tensor& input, const at::Tensor& offset,
                              const std::optional<at::Tensor>& mask, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                              int64_t deform_groups) {
  const c10::cuda::CUDAGuard guard(input.device());
  const Operands operands = prepare(input, offset, mask, weight, bias,
                                    {stride, padding, dilation, groups, deform_groups});
  // Tensor cores are faster where single precision is not asked for; the kernel has them for 16
  // bits.
  const bool single = operands.input.scalar_type() == at::kFloat;
  return can_fuse(operands) && !(single && at::globalContext().allowTF32CuBLAS())
             ? forward_fused(kKernels, operands)
             : forward_in_slices(kKernels, operands, kWorkspace);
}

Gradients deform_conv2d_backward_cuda(const at::Tensor& grad_output, const at::Tensor& input,
                                      const at::Tensor& offset,
                                      const std::optional<at::Tensor>& mask,
                                      const at::Tensor& weight, at::IntArrayRef stride,
                                      at::IntArrayRef padding, at::IntArrayRef dilation,
                                      int64_t groups, int64_t deform_groups,
                                      std::array<bool, 5> output_mask) {
  const c10::cuda::CUDAGuard guard(input.device());
  const Operands operands = prepare(input, offset, mask, weight, std::nullopt,
                                    {stride, padding, dilation, groups, deform_groups});
  // The order of atomic additions is not fixed, so floating-point sums are not either.
  const bool deterministic = at::globalContext().deterministicAlgorithms();
  return backward_in_slices(kKernels, operands, grad_output, output_mask, deterministic,
                            kWorkspace);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CUDA, m) {
  m.impl("deform_conv2d", &deform_conv2d_cuda);
  m.impl("deform_conv2d_backward", &deform_conv2d_backward_cuda);
}

}  // namespace dcn
}  // namespace isda
