// The bodies of the CUDA kernels run serially on the CPU, for tests on machines without a GPU.
#include <torch/library.h>

#include <cstring>
#include <memory>

#include "cuda_body.h"
#include "cuda_fused_body.h"
#include "slices.h"

namespace isda {
namespace dcn {
namespace {

constexpr int64_t kBlocks = 3;

// Blocks of one thread, one after the other.
struct HostPolicy {
  int64_t first_unit() const { return block; }
  int64_t unit_step() const { return kBlocks; }
  int thread() const { return 0; }
  int threads() const { return 1; }
  void wait() const {}
  template <class T, int kOut>
  using Sums = ThreadSums<T, kOut>;

  // The numbers of all threads of a block, one after the other.
  template <class X>
  class OfThreads {
   public:
    template <class Body>
    void each(const Body& body) {
      for (int i = 0; i < kTileThreads; ++i) body(all_[i], i);
    }

   private:
    X all_[kTileThreads];
  };
  template <int kWidth, class A>
  void add(A* at, const A* x) const {
    for (int i = 0; i < kWidth; ++i) at[i] += x[i];
  }
  void add(int64_t* at, int64_t x) const { *at += x; }

  int64_t block;
};

// Shared memory as a block finds it: with anything in it, here with what is a NaN in every type.
template <class Scratch, class Body>
void run_blocks(const Body& body) {
  const auto scratch = std::make_unique<Scratch>();
  for (int64_t block = 0; block < kBlocks; ++block) {
    std::memset(static_cast<void*>(scratch.get()), 0xff, sizeof(Scratch));
    body(*scratch, HostPolicy{block});
  }
}

constexpr ColumnKernels kKernels = {
    [](const ColumnArgs& args) {
      for_types(args, [&](auto t, auto width) {
        using T = decltype(t);
        const Cut cut = cut_work(args, kColumnPairs, width);
        run_blocks<ColumnScratch<typename Number<T>::Arithmetic>>([&](auto& scratch, auto policy) {
          columns_body<T, decltype(width)::value>(args, cut, scratch, policy);
        });
      });
    },
    [](const ColumnGradientArgs& args) {
      for_types(args.slice, [&](auto t, auto width) {
        using T = decltype(t);
        const Cut cut = cut_work(args.slice, kGradientPairs, width);
        run_blocks<GradientScratch<typename Number<T>::Arithmetic>>(
            [&](auto& scratch, auto policy) {
              gradients_body<T, decltype(width)::value>(args, cut, scratch, policy);
            });
      });
    },
    [](const FusedArgs& args) {
      for_fused(args, [&](auto t, auto out) {
        using T = decltype(t);
        constexpr int kOut = decltype(out)::value;
        run_blocks<FusedScratch<T, kOut>>([&](auto& scratch, auto policy) {
          fused_body<T, kOut>(args, cut_fused(args), scratch, policy);
        });
      });
    },
};

at::Tensor forward_on_host(const at::Tensor& input, const at::Tensor& offset,
                           const std::optional<at::Tensor>& mask, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                           int64_t deform_groups, int64_t workspace, bool fused) {
  const Operands operands = prepare(input, offset, mask, weight, bias,
                                    {stride, padding, dilation, groups, deform_groups});
  return fused && can_fuse(operands) ? forward_fused(kKernels, operands)
                                     : forward_in_slices(kKernels, operands, workspace);
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
