// What happens to the rows of a batch between its products, each in one pass over memory, accumulated in float32.
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

  // Writes it normalised (Ba et al., "Layer Normalization", 2016). The variance is of the differences, in a second pass over
  // what is held, so that nothing cancels.
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

// GELU with the error function, as BERT has it (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).
DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

// values [T, width] = GELU(values + offset), in place.
template <typename T>
DEVICE void add_gelu(const T* offset, T* values, int64_t pairs, int width) {
  const int64_t pair = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (pair >= pairs) return;
  const float2 value = pair_at(values, pair), add = pair_at(offset, pair % (width / 2));
  reinterpret_cast<uint32_t*>(values)[pair] = pack(gelu(value.x + add.x), gelu(value.y + add.y), T());
}

// pooled [B, hidden] = the mean of each sequence's rows. One block a sequence.
template <typename T>
DEVICE void mean(const T* state, const uint32_t* cu_seqlens, float* pooled, int hidden) {
  const uint32_t start = cu_seqlens[blockIdx.x], end = cu_seqlens[blockIdx.x + 1];
  const float share = 1.0f / (end - start);
  for (int pair = threadIdx.x; pair < hidden / 2; pair += THREADS) {
    float x = 0.0f, y = 0.0f;
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
