// What happens to the rows of a batch between its products, each in one pass over memory, accumulated in
// float32.
#pragma once

#include "warp.cuh"

namespace rows {

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
// Groups of four numbers that a lane holds of a row: hidden sizes up to 1,024 that are multiples of four.
constexpr int QUADS_MAX = 8;

DEVICE float sum_of_warp(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += exchange_xor(value, mask);
  return value;
}

DEVICE float2 unpack(uint32_t pair, __nv_bfloat16) {
  const __nv_bfloat162 two = *reinterpret_cast<__nv_bfloat162*>(&pair);
  return make_float2(__bfloat162float(two.x), __bfloat162float(two.y));
}

DEVICE float2 unpack(uint32_t pair, __half) {
  const __half2 two = *reinterpret_cast<__half2*>(&pair);
  return make_float2(__half2float(two.x), __half2float(two.y));
}

template <typename T>
DEVICE float2 pair_at(const T* row, int pair) {
  return unpack(reinterpret_cast<const uint32_t*>(row)[pair], T());
}

template <typename T>
DEVICE float4 quad_at(const T* row, int quad) {
  const uint2 pairs = reinterpret_cast<const uint2*>(row)[quad];
  const float2 low = unpack(pairs.x, T()), high = unpack(pairs.y, T());
  return make_float4(low.x, low.y, high.x, high.y);
}

DEVICE float4 operator+(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

// One row, of which each lane of a warp holds the groups of four `lane`, `lane + 32`, ...
struct Row {
  float4 held[QUADS_MAX];
  int quads, lane;

  // Fills it with what `at` says of each group.
  template <typename F>
  DEVICE void fill(int hidden, F at) {
    quads = hidden / 4;
    lane = threadIdx.x % 32;
#pragma unroll
    for (int index = 0; index < QUADS_MAX; ++index) {
      const int quad = lane + 32 * index;
      held[index] = quad < quads ? at(quad) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }

  // Writes it normalised (Ba et al., "Layer Normalization", 2016). The variance is of the differences, in a
  // second pass over what is held, so that nothing cancels.
  template <typename T>
  DEVICE void normalise(const T* weight, const T* bias, float epsilon, T* to) {
    float sum = 0.0f;
#pragma unroll
    for (int index = 0; index < QUADS_MAX; ++index) sum += held[index].x + held[index].y + held[index].z + held[index].w;
    const float mean = sum_of_warp(sum) / (4 * quads);
    float squares = 0.0f;
#pragma unroll
    for (int index = 0; index < QUADS_MAX; ++index) {
      if (lane + 32 * index >= quads) continue;
      held[index] = held[index] + make_float4(-mean, -mean, -mean, -mean);
      squares += held[index].x * held[index].x + held[index].y * held[index].y + held[index].z * held[index].z +
                 held[index].w * held[index].w;
    }
    const float scale = rsqrtf(sum_of_warp(squares) / (4 * quads) + epsilon);
#pragma unroll
    for (int index = 0; index < QUADS_MAX; ++index) {
      const int quad = lane + 32 * index;
      if (quad >= quads) continue;
      const float4 x = held[index], w = quad_at(weight, quad), b = quad_at(bias, quad);
      uint2 pairs;
      pairs.x = pack(x.x * scale * w.x + b.x, x.y * scale * w.y + b.y, T());
      pairs.y = pack(x.z * scale * w.z + b.z, x.w * scale * w.w + b.w, T());
      reinterpret_cast<uint2*>(to)[quad] = pairs;
    }
  }
};

// to [T, hidden] = LayerNorm(word[id] + position[p]). One warp a row.
template <typename T>
DEVICE void embed(const uint32_t* ids, const uint32_t* positions, const T* word, const T* position, const T* weight, const T* bias,
                  T* to, int tokens, int hidden, float epsilon) {
  const int token = blockIdx.x * WARPS + threadIdx.x / 32;
  if (token >= tokens) return;
  const T* of_word = word + int64_t(ids[token]) * hidden;
  const T* of_position = position + int64_t(positions[token]) * hidden;
  Row row;
  row.fill(hidden, [&](int quad) { return quad_at(of_word, quad) + quad_at(of_position, quad); });
  row.normalise(weight, bias, epsilon, to + int64_t(token) * hidden);
}

// state [T, hidden] = LayerNorm(product + offset + state), in place. One warp a row.
template <typename T>
DEVICE void add_normalise(const T* product, const T* offset, const T* weight, const T* bias, T* state, int tokens, int hidden,
                          float epsilon) {
  const int token = blockIdx.x * WARPS + threadIdx.x / 32;
  if (token >= tokens) return;
  const T* of_product = product + int64_t(token) * hidden;
  T* of_state = state + int64_t(token) * hidden;
  Row row;
  row.fill(hidden, [&](int quad) { return quad_at(of_product, quad) + quad_at(offset, quad) + quad_at(of_state, quad); });
  row.normalise(weight, bias, epsilon, of_state);
}

// GELU with the error function, as BERT has it (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016): x
// - x erfc(z) / 2 above zero and x erfc(z) / 2 below, z = |x| / sqrt 2, so that nothing cancels. erfc is
// Abramowitz and Stegun's 7.1.26 ("Handbook of Mathematical Functions", 1964), off by 1.5e-7 at most, in a
// third of the instructions of the library's.
DEVICE float gelu(float x) {
  const float z = fabsf(x) * 0.70710678f;
  const float t = reciprocal(fmaf(0.3275911f, z, 1.0f));
  float sum = fmaf(1.061405429f, t, -1.453152027f);
  sum = fmaf(sum, t, 1.421413741f);
  sum = fmaf(sum, t, -0.284496736f);
  sum = fmaf(sum, t, 0.254829592f);
  // e^(-z z), to base 2.
  const float tail = 0.5f * x * sum * t * exponential(-1.44269504f * z * z);
  return x < 0.0f ? tail : x - tail;
}

template <typename T>
DEVICE uint32_t gelu_of_pair(uint32_t value, uint32_t offset) {
  const float2 x = unpack(value, T()), add = unpack(offset, T());
  return pack(gelu(x.x + add.x), gelu(x.y + add.y), T());
}

// values [T, width] = GELU(values + offset), in place. One block a row, eight numbers a thread at a time.
template <typename T>
DEVICE void add_gelu(const T* offset, T* values, int width) {
  T* row = values + int64_t(blockIdx.x) * width;
  for (int index = threadIdx.x; index < width / 8; index += THREADS) {
    uint4* at = reinterpret_cast<uint4*>(row) + index;
    const uint4 add = reinterpret_cast<const uint4*>(offset)[index];
    uint4 value = *at;
    value.x = gelu_of_pair<T>(value.x, add.x);
    value.y = gelu_of_pair<T>(value.y, add.y);
    value.z = gelu_of_pair<T>(value.z, add.z);
    value.w = gelu_of_pair<T>(value.w, add.w);
    *at = value;
  }
}

// pooled [B, hidden] = the mean of each sequence's rows. One block a sequence.
template <typename T>
DEVICE void mean(const T* state, const uint32_t* cu_seqlens, float* pooled, int hidden) {
  const uint32_t start = cu_seqlens[blockIdx.x], end = cu_seqlens[blockIdx.x + 1];
  const float share = 1.0f / (end - start);
  for (int pair = threadIdx.x; pair < hidden / 2; pair += THREADS) {
    float x = 0.0f, y = 0.0f;
    // Loads of several rows are under way at a time.
#pragma unroll 8
    for (uint32_t token = start; token < end; ++token) {
      const float2 value = pair_at(state + int64_t(token) * hidden, pair);
      x += value.x;
      y += value.y;
    }
    float* to = pooled + int64_t(blockIdx.x) * hidden + 2 * pair;
    to[0] = x * share;
    to[1] = y * share;
  }
}

// result [R, classes] = from weight^T + bias, with tanh if asked for, in float32. One warp a row.
template <typename R>
DEVICE void classify(const R* from, const float* weight, const float* bias, float* result, int count, int hidden, int classes,
                     bool has_tanh) {
  const int row = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= count) return;
  for (int label = 0; label < classes; ++label) {
    float sum = 0.0f;
    for (int column = lane; column < hidden; column += 32)
      sum += to_float(from[int64_t(row) * hidden + column]) * weight[int64_t(label) * hidden + column];
    sum = sum_of_warp(sum);
    sum += bias[label];
    if (lane == 0) result[int64_t(row) * classes + label] = has_tanh ? tanhf(sum) : sum;
  }
}

}  // namespace rows
