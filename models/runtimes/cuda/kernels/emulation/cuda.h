// Runs kernels on a CPU, to prove what they read and write and when. A block's threads are fibers that switch
// where they wait for each other, in an order drawn by seed; matrix fragments are taken apart and put
// together as the PTX ISA has it; a copy into shared memory happens when it is waited for and not before, and
// until then there is nonsense in its place.
#pragma once

#include "formats.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define DEVICE inline

struct Index {
  int x, y;
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  uint32_t x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct __half2 {
  __half x, y;
};
inline float __bfloat162float(__nv_bfloat16 value) { return to_float(value); }
inline float __half2float(__half value) { return to_float(value); }

template <typename T>
inline uint32_t pack(float low, float high, T) {
  T pair[2];
  from_float(low, pair[0]);
  from_float(high, pair[1]);
  uint32_t result;
  std::memcpy(&result, pair, 4);
  return result;
}

template <typename T>
inline T rounded(float value, T) {
  T result;
  from_float(value, result);
  return result;
}

namespace emulation {

struct Copy {
  void* to;
  const void* from;
  bool is_there;
};

struct Thread {
  Index index;
  bool is_done = false;
  // Groups of copies, the last one open.
  std::vector<std::vector<Copy>> copies{1};
  // What it shows the other lanes of its warp.
  uint32_t shown[6];
  float* sums;
  const void* row;
};

// Where some wait until all have come.
struct Barrier {
  std::vector<int> waiting;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<unsigned char> shared;
  Barrier barrier;
  std::vector<Barrier> warps;
  // Threads that can go on, and the one that does.
  std::vector<int> ready;
  int now = 0;
  jmp_buf scheduler;
};

constexpr int STACK = 64 * 1024;

// What runs the threads of the same number of one block after the other. A context starts it, but asks the
// system at every switch; jumps do not.
struct Fiber {
  jmp_buf place;
  bool is_started = false;
  char stack[STACK];
};

inline Block* block;
inline std::minstd_rand order;
inline std::function<void()> body;
inline Index blockIdx_now;
inline std::vector<std::unique_ptr<Fiber>> fibers;

inline Thread& self() { return block->threads[block->now]; }

inline void yield() {
  if (_setjmp(fibers[block->now]->place) == 0) _longjmp(block->scheduler, 1);
}

inline void wait(Barrier& barrier, size_t members) {
  barrier.waiting.push_back(block->now);
  if (barrier.waiting.size() == members) {
    block->ready.insert(block->ready.end(), barrier.waiting.begin(), barrier.waiting.end());
    barrier.waiting.clear();
  }
  yield();
}

inline void wait_for_warp() { wait(block->warps[block->now / 32], 32); }

inline Thread& lane(int number) { return block->threads[block->now / 32 * 32 + number]; }

[[noreturn]] inline void enter() {
  for (;;) {
    body();
    self().is_done = true;
    yield();
  }
}

// Lets a thread go on until it yields.
inline void resume(Fiber& fiber) {
  if (_setjmp(block->scheduler) != 0) return;
  if (fiber.is_started) _longjmp(fiber.place, 1);
  fiber.is_started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack;
  context.uc_stack.ss_size = STACK;
  context.uc_link = nullptr;
  makecontext(&context, enter, 0);
  setcontext(&context);
}

// Runs a grid of blocks one after the other.
template <typename F>
void launch(int columns, int rows, int threads, int shared_bytes, F kernel) {
  body = kernel;
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      Block one;
      block = &one;
      blockIdx_now = {x, y};
      // Not a number in either format.
      one.shared.assign(shared_bytes + 128, 0xff);
      one.warps.resize(threads / 32);
      one.threads.resize(threads);
      for (int index = 0; index < threads; ++index) {
        one.threads[index].index = {index, 0};
      }
      while (int(fibers.size()) < threads) fibers.emplace_back(new Fiber);
      one.ready.resize(threads);
      for (int index = 0; index < threads; ++index) one.ready[index] = index;
      while (!one.ready.empty()) {
        std::swap(one.ready[order() % one.ready.size()], one.ready.back());
        one.now = one.ready.back();
        one.ready.pop_back();
        resume(*fibers[one.now]);
      }
      for (const Thread& thread : one.threads)
        if (!thread.is_done) {
          std::fprintf(stderr, "some threads wait for others that never come\n");
          std::exit(1);
        }
      for (const Thread& thread : one.threads)
        for (const auto& group : thread.copies)
          if (!group.empty()) {
            std::fprintf(stderr, "a copy was never waited for\n");
            std::exit(1);
          }
    }
  }
}

}  // namespace emulation

#define threadIdx (emulation::self().index)
#define blockIdx (emulation::blockIdx_now)

inline void synchronise() { emulation::wait(emulation::block->barrier, emulation::block->threads.size()); }

inline float exchange_xor(float value, int mask) {
  using namespace emulation;
  std::memcpy(self().shown, &value, 4);
  wait_for_warp();
  float result;
  std::memcpy(&result, lane((block->now % 32) ^ mask).shown, 4);
  wait_for_warp();
  return result;
}

inline float exponential(float x) { return std::exp2(x); }
inline float reciprocal(float x) { return 1.0f / x; }

inline unsigned char* shared_memory() {
  const auto address = reinterpret_cast<uintptr_t>(emulation::block->shared.data());
  return reinterpret_cast<unsigned char*>((address + 127) & ~uintptr_t(127));
}

// Element `column` of row `row` of matrix `matrix`, whose rows the lanes named.
inline uint16_t element(int matrix, int row, int column) {
  const auto* numbers = static_cast<const uint16_t*>(emulation::lane(8 * matrix + row).row);
  if (reinterpret_cast<uintptr_t>(numbers) % 16 != 0) {
    std::fprintf(stderr, "a row of a matrix is not aligned\n");
    std::exit(1);
  }
  return numbers[column];
}

inline void load_fragment(uint32_t (&fragment)[4], const void* row, bool is_transposed) {
  using namespace emulation;
  self().row = row;
  wait_for_warp();
  const int lane = block->now % 32;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const int major = lane / 4, minor = lane % 4 * 2;
    const uint32_t low = is_transposed ? element(matrix, minor, major) : element(matrix, major, minor);
    const uint32_t high = is_transposed ? element(matrix, minor + 1, major) : element(matrix, major, minor + 1);
    fragment[matrix] = low | high << 16;
  }
  wait_for_warp();
}

inline void load_matrices(uint32_t (&fragment)[4], const void* row) { load_fragment(fragment, row, false); }
inline void load_matrices_transposed(uint32_t (&fragment)[4], const void* row) { load_fragment(fragment, row, true); }

// One lane adds up for all of its warp, with the matrices put together from what each lane shows.
template <typename T>
inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T) {
  using namespace emulation;
  std::memcpy(self().shown, a, 16);
  self().shown[4] = b0;
  self().shown[5] = b1;
  self().sums = sums;
  wait_for_warp();
  if (block->now % 32 == 0) {
    const auto number = [](uint32_t pair, int which) {
      T value;
      value.bits = uint16_t(pair >> 16 * which);
      return to_float(value);
    };
    float left[16][16], right[8][16];
    for (int k = 0; k < 16; ++k) {
      for (int row = 0; row < 16; ++row)
        left[row][k] = number(lane(row % 8 * 4 + k % 8 / 2).shown[row / 8 + 2 * (k / 8)], k % 2);
      for (int column = 0; column < 8; ++column)
        right[column][k] = number(lane(column * 4 + k % 8 / 2).shown[4 + k / 8], k % 2);
    }
    for (int owner = 0; owner < 32; ++owner)
      for (int index = 0; index < 4; ++index)
        for (int k = 0; k < 16; ++k)
          lane(owner).sums[index] += left[owner / 4 + index / 2 * 8][k] * right[owner % 4 * 2 + index % 2][k];
  }
  wait_for_warp();
}

inline void copy_16(void* to, const void* from, bool is_there) {
  std::memset(to, 0xff, 16);
  emulation::self().copies.back().push_back({to, from, is_there});
}

inline void copy_group() { emulation::self().copies.emplace_back(); }

template <int groups>
inline void copy_wait() {
  auto& copies = emulation::self().copies;
  while (int(copies.size()) > groups + 1) {
    for (const auto& copy : copies.front()) {
      if (copy.is_there)
        std::memcpy(copy.to, copy.from, 16);
      else
        std::memset(copy.to, 0, 16);
    }
    copies.erase(copies.begin());
  }
}
