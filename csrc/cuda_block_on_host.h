// A block of threads run serially on the host, for tests of kernel bodies without a GPU.
//
// It watches the shared memory: what one thread wrote, another may touch only after a barrier, and
// nothing may be read before it was written. So a missing barrier is an error here too.
#pragma once

#include <stdint.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_block.h"

namespace isda {

class HostBlock {
 public:
  template <class State>
  struct PerThread {
    explicit PerThread(const HostBlock& block) : states(block.threads()) {}
    State& operator[](int thread) { return states[thread]; }
    std::vector<State> states;
  };

  template <class T>
  struct Shared {
    HostBlock* block;
    int offset;
    T read(int thread, int i) const {
      block->touch(thread, offset + i * int(sizeof(T)), sizeof(T), false);
      T x;
      std::memcpy(&x, block->bytes_.data() + offset + i * int(sizeof(T)), sizeof(T));
      return x;
    }
    void write(int thread, int i, const T& x) const {
      block->touch(thread, offset + i * int(sizeof(T)), sizeof(T), true);
      std::memcpy(block->bytes_.data() + offset + i * int(sizeof(T)), &x, sizeof(T));
    }
  };

  HostBlock(int64_t index, int64_t count, int threads, int shared_bytes)
      : index_(index), count_(count), threads_(threads), bytes_(shared_bytes, 0xff) {
    if (threads % kWarp != 0) throw std::logic_error("a block consists of whole warps");
    words_.resize(shared_bytes / kWord);
  }

  int64_t index() const { return index_; }
  int64_t count() const { return count_; }
  int threads() const { return threads_; }
  template <class Body>
  void each(const Body& body) const {
    for (int thread = 0; thread < threads_; ++thread) body(thread);
  }
  void barrier() { ++time_; }
  template <class T>
  Shared<T> shared(int offset) {
    return {this, offset};
  }
  template <class A>
  void shuffle_xor(PerThread<A>& x, int offset) const {
    if (offset >= kWarp) throw std::logic_error("a shuffle stays inside a warp");
    const std::vector<A> before = x.states;
    for (int thread = 0; thread < threads_; ++thread) x.states[thread] = before[thread ^ offset];
  }
  template <class A>
  void add(A* at, A x) const {
    *at += x;
  }
  template <class A, class Pack>
  void add_pack(A* at, const Pack& x) const {
    if (reinterpret_cast<uintptr_t>(at) % sizeof(Pack) != 0)
      throw std::logic_error("a pack is added where it is not aligned");
    for (size_t i = 0; i < sizeof(x.at) / sizeof(A); ++i) at[i] += x.at[i];
  }

 private:
  static constexpr int kWord = 4;
  static constexpr int kNobody = -1, kMany = -2;
  struct Word {
    int writer = kNobody, reader = kNobody;
    int64_t written = 0, read = 0;  // when: the number of barriers so far
  };

  void touch(int thread, int begin, int size, bool write) {
    if (begin < 0 || begin + size > int(bytes_.size()))
      throw std::logic_error("shared memory ends before byte " + std::to_string(begin + size));
    for (int i = begin / kWord; i < (begin + size) / kWord; ++i) {
      Word& word = words_[i];
      const bool others_wrote = word.written == time_ && word.writer != thread;
      const bool others_read = word.read == time_ && word.reader != thread;
      if (word.writer == kNobody ? !write : others_wrote)
        fail(thread, i, word.writer == kNobody ? "nobody wrote" : "another wrote");
      if (write && word.reader != kNobody && others_read) fail(thread, i, "another reads");
      if (write) {
        word.writer = thread;
        word.written = time_;
      } else {
        word.reader = word.reader != kNobody && others_read ? kMany : thread;
        word.read = time_;
      }
    }
  }

  [[noreturn]] void fail(int thread, int word, const char* what) const {
    throw std::logic_error("thread " + std::to_string(thread) + " touches word " +
                           std::to_string(word) + " of shared memory, which " + what +
                           " without a barrier between");
  }

  int64_t index_, count_, time_ = 0;
  int threads_;
  std::vector<unsigned char> bytes_;  // NaN in every format of numbers until written
  std::vector<Word> words_;
};

}  // namespace isda
