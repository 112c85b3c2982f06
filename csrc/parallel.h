// One parallel region with several phases: `at::parallel_for` has one phase a region, and regions
// one after the other are slow where cores are busy.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace isda {

class Member {
 public:
  Member(int64_t index, int64_t count) : index(index), count(count) {}

  // Run body(begin, end) on this member's share of the units.
  template <class Body>
  void share(int64_t units, const Body& body) const {
    const int64_t begin = units * index / count, end = units * (index + 1) / count;
    if (begin < end) body(begin, end);
  }

  // Wait until every member has come here.
  void wait() const {
#ifdef _OPENMP
    if (count > 1) {
#pragma omp barrier
    }
#endif
  }

  const int64_t index, count;
};

// How many threads `nanoseconds` of work are worth: from 200 microseconds on two, and one more for
// every 100.
inline int64_t threads_for(double nanoseconds) {
  if (at::in_parallel_region()) return 1;
  const int64_t worth = static_cast<int64_t>(std::min(nanoseconds / 100e3, 1e6));
  return std::clamp<int64_t>(worth, 1, at::get_num_threads());
}

// Run body(member) on at most so many threads; it must not throw.
template <class Body>
void run_team(int64_t threads, const Body& body) {
#ifdef _OPENMP
  if (threads > 1) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    body(Member(omp_get_thread_num(), omp_get_num_threads()));
    return;
  }
#endif
  body(Member(0, 1));
}

}  // namespace isda
