// What kernels are made of that C++ has no words for: matrix fragments, shared memory and copies into it.
// Everything here has a second body in emulation/cuda.h, which runs the same kernels on a CPU.
#pragma once

#ifdef EMULATED
#include "emulation/cuda.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#define DEVICE __device__ __forceinline__

DEVICE void synchronise() { __syncthreads(); }

DEVICE float exchange_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// 2^x and 1 / x as the special function units have them: off by some 2^-22 of the result, denormal numbers
// are zero.
DEVICE float exponential(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

DEVICE float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The block's shared memory, as much as the launch asked for.
DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

// Two numbers of 16 bits side by side.
DEVICE uint32_t pack(float low, float high, __nv_bfloat16) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}

DEVICE uint32_t pack(float low, float high, __half) {
  __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}

DEVICE float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
DEVICE float to_float(__half value) { return __half2float(value); }
DEVICE float to_float(float value) { return value; }

DEVICE __nv_bfloat16 rounded(float value, __nv_bfloat16) { return __float2bfloat16_rn(value); }
DEVICE __half rounded(float value, __half) { return __float2half_rn(value); }

// Four matrices of 8 x 8 numbers of 16 bits; lane 8 i + j names row j of matrix i (PTX ISA, "ldmatrix").
DEVICE void load_matrices(uint32_t (&fragment)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(address));
}

// The same, each matrix transposed.
DEVICE void load_matrices_transposed(uint32_t (&fragment)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(address));
}

// sums [16 x 8] += a [16 x 16] b [16 x 8] (PTX ISA, "mma.m16n8k16").
DEVICE void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __nv_bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Copies 16 bytes into shared memory without waiting, or zeros if they are not there.
DEVICE void copy_16(void* to, const void* from, bool is_there) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = is_there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes));
}

// What was copied since the last call belongs together.
DEVICE void copy_group() { asm volatile("cp.async.commit_group;"); }

// Waits until all but the newest `groups` are there, for this thread's copies.
template <int groups>
DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups));
}

#endif
