// The bodies of the CUDA kernels of deformable convolution with real threads instead of those of a
// block, for a race detector: a wait that is missing, or that not all threads reach, shows without
// a GPU. Prints the largest difference to one thread doing everything.
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "deform_conv2d/cuda_fused_body.h"

using namespace isda;
using namespace isda::dcn;

namespace {

std::mutex adding;

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int round = round_;
    if (++here_ == count_) {
      here_ = 0;
      ++round_;
      all_.notify_all();
      return;
    }
    all_.wait(lock, [&] { return round_ != round; });
  }

 private:
  const int count_;
  int here_ = 0, round_ = 0;
  std::mutex mutex_;
  std::condition_variable all_;
};

constexpr int kMost = 8;

struct ThreadPolicy {
  int64_t first_unit() const { return 0; }
  int64_t unit_step() const { return 1; }
  int thread() const { return index; }
  int threads() const { return count; }
  void wait() const { barrier->wait(); }
  template <int kWidth, class A>
  void add(A* at, const A* x) const {
    const std::lock_guard<std::mutex> lock(adding);
    for (int i = 0; i < kWidth; ++i) at[i] += x[i];
  }
  void add(int64_t* at, int64_t x) const {
    const std::lock_guard<std::mutex> lock(adding);
    *at += x;
  }

  template <class T, int kOut>
  using Sums = ThreadSums<T, kOut>;

  // A thread here stands for several of the device.
  template <class X>
  struct OfThreads {
    template <class Body>
    void each(const Body& body) {
      for (int i = own.index; i < kTileThreads; i += own.count) body(all[i], i);
    }
    const ThreadPolicy& own = current;
    X all[kTileThreads];
  };

  int index, count;
  Barrier* barrier;
  static thread_local ThreadPolicy current;
};
thread_local ThreadPolicy ThreadPolicy::current = {};

template <class Scratch, class Body>
void run_block(int count, const Body& body) {
  auto scratch = std::make_unique<Scratch>();
  Barrier barrier(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      ThreadPolicy::current = {i, count, &barrier};
      body(*scratch, ThreadPolicy::current);
    });
  for (auto& thread : threads) thread.join();
}

std::vector<float> normal(int64_t count, float scale = 1) {
  static std::mt19937 generator(0);
  std::normal_distribution<float> distribution(0, scale);
  std::vector<float> numbers(count);
  for (float& x : numbers) x = distribution(generator);
  return numbers;
}

// Two images, 48 -> 24 channels, 3x3 taps in three deform groups: several units, with tails.
struct Case {
  Case() {
    Sizes& s = args.sizes;
    s = {2, 48, 9, 11, 24, 9, 11, 3, 3, 1, 1, 1, 1, 1, 1, 1, 3};
    s.pixels = s.out_pixels = 99;
    s.taps = 9;
    s.group_in = 48;
    s.group_out = 24;
    s.deform_in = 16;
    args.dtype = DType::kFloat;
    args.input = input.data();
    args.offset = {offset.data(), DType::kFloat};
    args.mask = {mask.data(), DType::kFloat};
    args.count = 198;
  }
  std::vector<float> input = normal(2 * 48 * 99), offset = normal(2 * 54 * 99, 1.5f),
                     mask = normal(2 * 27 * 99), weight = normal(9 * 48 * 32),
                     gradients = normal(198 * 9 * 48);
  ColumnArgs args = {};
};

using Results = std::vector<std::vector<float>>;

Results run(const Case& c, int threads) {
  Results results = {std::vector<float>(198 * 9 * 48),
                     std::vector<float>(198 * 24),
                     c.gradients,
                     std::vector<float>(c.input.size()),
                     std::vector<float>(c.offset.size()),
                     std::vector<float>(c.mask.size())};
  ColumnArgs columns = c.args;
  columns.columns = results[0].data();
  run_block<ColumnScratch<float>>(threads, [&](auto& scratch, const ThreadPolicy& policy) {
    columns_body<float, 4>(columns, cut_work(columns, kColumnPairs, 4), scratch, policy);
  });
  const FusedArgs fused = {c.args, c.weight.data(), 32, nullptr, results[1].data(), false};
  run_block<FusedScratch<float, 32>>(threads, [&](auto& scratch, const ThreadPolicy& policy) {
    fused_body<float, 32>(fused, cut_fused(fused), scratch, policy);
  });
  ColumnGradientArgs backward = {c.args,
                                 true,
                                 true,
                                 results[3].data(),
                                 nullptr,
                                 nullptr,
                                 {results[4].data(), DType::kFloat},
                                 {results[5].data(), DType::kFloat}};
  backward.slice.columns = results[2].data();
  const Cut cut = cut_work(backward.slice, kGradientPairs, 4);
  run_block<GradientScratch<float>>(threads, [&](auto& scratch, const ThreadPolicy& policy) {
    gradients_body<float, 4>(backward, cut, scratch, policy);
  });
  return results;
}

}  // namespace

int main() {
  const Case c;
  const Results alone = run(c, 1), together = run(c, kMost);
  double worst = 0;
  for (size_t i = 0; i < alone.size(); ++i) {
    for (size_t j = 0; j < alone[i].size(); ++j)
      worst = std::fmax(worst, std::fabs(double(alone[i][j]) - together[i][j]));
  }
  std::printf("%g\n", worst);
  return worst < 1e-4 ? 0 : 1;
}
