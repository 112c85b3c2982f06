// The bodies of the CUDA kernels run serially on the CPU, for tests on machines without a GPU.
#include <torch/library.h>

#include <cstring>
#include <memory>

#include "cuda_body.h"
#include "slices.h"

namespace isda {
namespace dcn {
namespace {

// One block of one thread does everything.
struct HostPolicy {
  int64_t first_unit() const { return 0; }
  int64_t unit_step() const { return 1; }
  int thread() const { return 0; }
  int threads() const { return 1; }
  void wait() const {}
  template <int kWidth, class A>
  void add(A* at, const A* x) const {
    for (int i = 0; i < kWidth; ++i) at[i] += x[i];
  }
  void add(int64_t* at, int64_t x) const { *at += x; }
};

// Shared memory as a block finds it: with anything in it, here with what is a NaN in every type.
template <class Scratch>
std::unique_ptr<Scratch> shared_memory() {
  auto scratch = std::make_unique<Scratch>();
  std::memset(static_cast<void*>(scratch.get()), 0xff, sizeof(Scratch));
  return scratch;
}

constexpr ColumnKernels kKernels = {
    [](const ColumnArgs& args) {
      for_types(args, [&](auto t, auto width) {
        using T = decltype(t);
        auto scratch = shared_memory<ColumnScratch<typename Number<T>::Arithmetic>>();
        columns_body<T, decltype(width)::value>(args, cut_work(args, kColumnPairs, width), *scratch,
                                                HostPolicy());
      });
    },
    [](const ColumnGradientArgs& args) {
      for_types(args.slice, [&](auto t, auto width) {
        using T = decltype(t);
        auto scratch = shared_memory<GradientScratch<typename Number<T>::Arithmetic>>();
        const Cut cut = cut_work(args.slice, kGradientPairs, width);
        gradients_body<T, decltype(width)::value>(args, cut, *scratch, HostPolicy());
      });
    },
};

at::Tensor forward_on_host(const at::Tensor& input, const at::Tensor& offset,
                           const std::optional<at::Tensor>& mask, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                           int64_t deform_groups, int64_t workspace) {
  const Operands operands = prepare(input, offset, mask, weight, bias,
                                    {stride, padding, dilation, groups, deform_groups});
  return forward_in_slices(kKernels, operands, workspace);
}

Gradients backward_on_host(const at::Tensor& grad_output, const at::Tensor& input,
                           const at::Tensor& offset, const std::optional<at::Tensor>& mask,
                           const at::Tensor& weight, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                           int64_t deform_groups, std::array<bool, 5> output_mask,
                           bool deterministic, int64_t workspace) {
  const Operands operands = prepare(input, offset, mask, weight, std::nullopt,
                                    {stride, padding, dilation, groups, deform_groups});
  return backward_in_slices(kKernels, operands, grad_output, output_mask, deterministic, workspace);
}

}  // namespace

TORCH_LIBRARY_IMPL(isda_suite, CPU, m) {
  m.impl("_deform_conv2d_cuda_body_on_host", &forward_on_host);
  m.impl("_deform_conv2d_backward_cuda_body_on_host", &backward_on_host);
}

}  // namespace dcn
}  // namespace isda
