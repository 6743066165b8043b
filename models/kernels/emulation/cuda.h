// Runs kernels on a CPU, to prove what they read and write and when. A block's threads are fibers that switch where they wait for
// each other, in an order drawn by seed; matrix fragments are taken apart and put together as the PTX ISA has it; a copy into shared
// memory happens when it is waited for and not before, and until then there is nonsense in its place.
#pragma once

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
#define __launch_bounds__(threads)
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
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// The two formats of 16 bits, rounded to the nearest, ties to even.
struct __nv_bfloat16 {
  uint16_t bits = 0;
};
struct __half {
  uint16_t bits = 0;
};

inline float to_float(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}
inline float to_float(__half value) {
  _Float16 half;
  std::memcpy(&half, &value.bits, 2);
  return float(half);
}
inline float to_float(float value) { return value; }

inline void from_float(float value, __nv_bfloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  to.bits = std::isnan(value) ? 0x7fff : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void from_float(float value, __half& to) {
  const _Float16 half = _Float16(value);
  std::memcpy(&to.bits, &half, 2);
}

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

namespace emulation {

struct Copy {
  void* to;
  const void* from;
  bool is_there;
};

struct Thread {
  // Where it goes on. Contexts start threads, but ask the system at every switch; jumps do not.
  jmp_buf place;
  bool is_started = false;
  Index index;
  bool is_done = false;
  // Groups of copies, the last one open.
  std::vector<std::vector<Copy>> copies{1};
  // What it shows the other lanes of its warp.
  uint32_t shown[4];
  const void* row;
};

// Where some wait until all have come.
struct Barrier {
  int count = 0, generation = 0;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<unsigned char> shared;
  Barrier barrier;
  std::vector<Barrier> warps;
  int now = 0;
  jmp_buf scheduler;
};

constexpr int STACK = 64 * 1024;

inline Block* block;
inline std::mt19937 order;
inline std::function<void()> body;
inline Index blockIdx_now;
// Of the threads of a block, used again by the next one.
inline std::vector<std::unique_ptr<char[]>> stacks;

inline Thread& self() { return block->threads[block->now]; }

inline void yield() {
  if (_setjmp(self().place) == 0) _longjmp(block->scheduler, 1);
}

inline void wait(Barrier& barrier, int members) {
  const int generation = barrier.generation;
  if (++barrier.count == members) {
    barrier.count = 0;
    ++barrier.generation;
  }
  while (barrier.generation == generation) yield();
}

inline void wait_for_warp() { wait(block->warps[block->now / 32], 32); }

inline Thread& lane(int number) { return block->threads[block->now / 32 * 32 + number]; }

inline void enter() {
  body();
  self().is_done = true;
  yield();
}

// Lets a thread go on until it yields.
inline void resume(Thread& thread, char* stack) {
  if (_setjmp(block->scheduler) != 0) return;
  if (thread.is_started) _longjmp(thread.place, 1);
  thread.is_started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
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
      while (int(stacks.size()) < threads) stacks.emplace_back(new char[STACK]);
      std::vector<int> running(threads);
      for (int index = 0; index < threads; ++index) running[index] = index;
      while (!running.empty()) {
        const size_t drawn = order() % running.size();
        one.now = running[drawn];
        resume(self(), stacks[one.now].get());
        if (self().is_done) {
          running[drawn] = running.back();
          running.pop_back();
        }
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

inline void synchronise() { emulation::wait(emulation::block->barrier, int(emulation::block->threads.size())); }

inline float exchange_xor(float value, int mask) {
  using namespace emulation;
  std::memcpy(self().shown, &value, 4);
  wait_for_warp();
  float result;
  std::memcpy(&result, lane((block->now % 32) ^ mask).shown, 4);
  wait_for_warp();
  return result;
}

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

template <typename T>
inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T) {
  using namespace emulation;
  const auto number = [](uint32_t pair, int which) {
    T value;
    value.bits = uint16_t(pair >> 16 * which);
    return to_float(value);
  };
  std::memcpy(self().shown, a, 16);
  wait_for_warp();
  float left[2][16];
  const int lane_now = block->now % 32;
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 16; ++k) {
      const Thread& owner = lane(lane_now / 4 * 4 + k % 8 / 2);
      left[half][k] = number(owner.shown[half + 2 * (k / 8)], k % 2);
    }
  wait_for_warp();
  self().shown[0] = b0;
  self().shown[1] = b1;
  wait_for_warp();
  for (int index = 0; index < 4; ++index) {
    const int column = lane_now % 4 * 2 + index % 2;
    for (int k = 0; k < 16; ++k) {
      const Thread& owner = lane(column * 4 + k % 8 / 2);
      sums[index] += left[index / 2][k] * number(owner.shown[k / 8], k % 2);
    }
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
