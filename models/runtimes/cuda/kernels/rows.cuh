// What happens to the rows of a batch between its products, each in one pass over memory, accumulated in
// float32.
#pragma once

#include "warp.cuh"

namespace rows {

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;

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
DEVICE float4 quad_at(const T* row, int quad) {
  const uint2 pairs = reinterpret_cast<const uint2*>(row)[quad];
  const float2 low = unpack(pairs.x, T()), high = unpack(pairs.y, T());
  return make_float4(low.x, low.y, high.x, high.y);
}

DEVICE float4 quad_at(const float* row, int quad) { return reinterpret_cast<const float4*>(row)[quad]; }

template <typename T>
DEVICE void put_quad(T* row, int quad, float4 x) {
  uint2 pairs;
  pairs.x = pack(x.x, x.y, T());
  pairs.y = pack(x.z, x.w, T());
  reinterpret_cast<uint2*>(row)[quad] = pairs;
}

DEVICE void put_quad(float* row, int quad, float4 x) { reinterpret_cast<float4*>(row)[quad] = x; }

DEVICE float4 operator+(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }
DEVICE float sum_of_squares(float4 a) { return a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w; }

// One row, of which each lane of a warp holds the groups of four `lane`, `lane + 32`, ..., QUADS at most:
// widths are multiples of four up to 128 QUADS.
template <int QUADS>
struct Row {
  float4 held[QUADS];
  int quads, lane;

  // Fills it with what `at` says of each group.
  template <typename F>
  DEVICE void fill(int width, F at) {
    quads = width / 4;
    lane = threadIdx.x % 32;
#pragma unroll
    for (int index = 0; index < QUADS; ++index) {
      const int quad = lane + 32 * index;
      held[index] = quad < quads ? at(quad) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }

  // Normalises it (Ba et al., "Layer Normalization", 2016), or by its mean square alone (Zhang and Sennrich,
  // "Root Mean Square Layer Normalization", 2019). The variance is of the differences, in a second pass over
  // what is held, so that nothing cancels.
  template <typename T>
  DEVICE void normalise(const T* weight, const T* bias, float epsilon, bool is_centred) {
    if (is_centred) {
      float sum = 0.0f;
#pragma unroll
      for (int index = 0; index < QUADS; ++index) sum += held[index].x + held[index].y + held[index].z + held[index].w;
      const float mean = sum_of_warp(sum) / (4 * quads);
#pragma unroll
      for (int index = 0; index < QUADS; ++index)
        if (lane + 32 * index < quads) held[index] = held[index] + make_float4(-mean, -mean, -mean, -mean);
    }
    float squares = 0.0f;
#pragma unroll
    for (int index = 0; index < QUADS; ++index) squares += sum_of_squares(held[index]);
    const float scale = rsqrtf(sum_of_warp(squares) / (4 * quads) + epsilon);
#pragma unroll
    for (int index = 0; index < QUADS; ++index) {
      const int quad = lane + 32 * index;
      if (quad >= quads) continue;
      const float4 x = held[index], w = quad_at(weight, quad), b = quad_at(bias, quad);
      held[index] = make_float4(x.x * scale * w.x + b.x, x.y * scale * w.y + b.y, x.z * scale * w.z + b.z, x.w * scale * w.w + b.w);
    }
  }

  template <typename R>
  DEVICE void put(R* to) const {
#pragma unroll
    for (int index = 0; index < QUADS; ++index)
      if (lane + 32 * index < quads) put_quad(to, lane + 32 * index, held[index]);
  }
};

// Of a position: whether its token is of the second segment.
constexpr uint32_t SECOND = 1u << 31;

// [T, width] = what `weight` and `bias` normalise, of word[id] + position[p], and `second` for tokens of the
// second segment: tables and normalisations that there are not are null. Goes to `residual`, in float32,
// where there is one, else to `to`. One warp a row.
template <int QUADS, typename T>
DEVICE void embed(const uint32_t* ids, const uint32_t* positions, const T* word, const T* position, const T* second, const T* weight,
                  const T* bias, T* to, float* residual, int tokens, int width, float epsilon, bool is_centred) {
  const int token = blockIdx.x * WARPS + threadIdx.x / 32;
  if (token >= tokens) return;
  const uint32_t place = positions[token];
  const T* of_word = word + int64_t(ids[token]) * width;
  const T* of_position = position == nullptr ? nullptr : position + int64_t(place & ~SECOND) * width;
  const T* of_segment = (place & SECOND) == 0 ? nullptr : second;
  Row<QUADS> row;
  row.fill(width, [&](int quad) {
    float4 sum = quad_at(of_word, quad);
    if (of_position != nullptr) sum = sum + quad_at(of_position, quad);
    if (of_segment != nullptr) sum = sum + quad_at(of_segment, quad);
    return sum;
  });
  if (weight != nullptr) row.normalise(weight, bias, epsilon, is_centred);
  if (residual != nullptr)
    row.put(residual + int64_t(token) * width);
  else
    row.put(to + int64_t(token) * width);
}

// Adds product + offset, where there is a product, to the state [T, hidden], or to `residual` in its place,
// in float32, where there is one; then state = what is normalised of the sum, or the sum where nothing
// normalises it. One warp a row.
template <int QUADS, typename T>
DEVICE void add_normalise(const T* product, const T* offset, const T* weight, const T* bias, T* state, float* residual, int tokens,
                          int hidden, float epsilon, bool is_centred) {
  const int token = blockIdx.x * WARPS + threadIdx.x / 32;
  if (token >= tokens) return;
  const int64_t start = int64_t(token) * hidden;
  Row<QUADS> row;
  row.fill(hidden, [&](int quad) {
    float4 sum = residual == nullptr ? quad_at(state + start, quad) : quad_at(residual + start, quad);
    if (product != nullptr) sum = quad_at(product + start, quad) + quad_at(offset, quad) + sum;
    return sum;
  });
  if (residual != nullptr && product != nullptr) row.put(residual + start);
  if (weight != nullptr) row.normalise(weight, bias, epsilon, is_centred);
  row.put(state + start);
}

// Heads of queries and keys in qkv [T, heads + 2 heads of keys, head], in place: normalised by their mean
// square over `numbers` where there are weights, then turned (Su et al., "RoFormer", 2021): numbers i and i +
// pairs by the angle of the token's position, of which `angles` [positions, 2, pairs] has cosines and sines.
// One warp a head of a token.
template <typename T>
DEVICE void turn(T* qkv, const uint32_t* positions, const float* angles, const T* query_norm, const T* key_norm, int tokens, int heads,
                 int key_heads, int head, int numbers, int pairs, float query_epsilon, float key_epsilon) {
  const int token = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32, index = blockIdx.y;
  if (token >= tokens) return;
  T* row = qkv + (int64_t(token) * (heads + 2 * key_heads) + index) * head;
  const T* norm = index < heads ? query_norm : key_norm;
  float scale = 1.0f;
  if (norm != nullptr) {
    float squares = 0.0f;
    for (int column = lane; column < numbers; column += 32) squares += to_float(row[column]) * to_float(row[column]);
    scale = rsqrtf(sum_of_warp(squares) / numbers + (index < heads ? query_epsilon : key_epsilon));
  }
  const auto at = [&](int column) { return to_float(row[column]) * (norm == nullptr ? 1.0f : scale * to_float(norm[column])); };
  const float* cosines = angles + int64_t(positions[token] & ~SECOND) * 2 * pairs;
  for (int pair = lane; pair < pairs; pair += 32) {
    const float x = at(pair), y = at(pair + pairs), cosine = cosines[pair], sine = cosines[pairs + pair];
    row[pair] = rounded(x * cosine - y * sine, T());
    row[pair + pairs] = rounded(y * cosine + x * sine, T());
  }
  if (norm == nullptr) return;
  for (int column = 2 * pairs + lane; column < numbers; column += 32) row[column] = rounded(at(column), T());
}

// Activations, of encoders and of heads, as the host numbers them.
enum Activation { IDENTITY, GELU, GELU_TANH, RELU, SILU, TANH, SIGMOID };

DEVICE float sigmoid(float x) { return reciprocal(1.0f + exponential(-1.44269504f * x)); }

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

DEVICE float activated(float x, int activation) {
  switch (activation) {
    case GELU:
      return gelu(x);
    case GELU_TANH:
      // x (1 + tanh u) / 2 is x / (1 + e^(-2 u)).
      return x * sigmoid(1.5957691216f * fmaf(0.044715f * x * x, x, x));
    case RELU:
      return fmaxf(x, 0.0f);
    case SILU:
      return x * sigmoid(x);
    case TANH:
      return tanhf(x);
    case SIGMOID:
      return sigmoid(x);
    default:
      return x;
  }
}

template <typename T>
DEVICE float2 sum_of_pair(uint32_t value, uint32_t offset) {
  const float2 x = unpack(value, T()), add = unpack(offset, T());
  return make_float2(x.x + add.x, x.y + add.y);
}

// values [T, width] = act(values + offset), in place; or, gated, the first half of each row of values [T, 2
// width] = act(first half + offset) (second half + offset) (Shazeer, "GLU Variants Improve Transformer",
// 2020). One block a row, eight numbers a thread at a time.
template <typename T>
DEVICE void activate(const T* offset, T* values, int width, int activation, bool is_gated) {
  uint4* row = reinterpret_cast<uint4*>(values + int64_t(blockIdx.x) * width * (is_gated ? 2 : 1));
  const uint4* offsets = reinterpret_cast<const uint4*>(offset);
  const int half = width / 8;
  const auto one = [&](uint32_t value, uint32_t add, uint32_t other, uint32_t other_add) {
    float2 x = sum_of_pair<T>(value, add);
    x = make_float2(activated(x.x, activation), activated(x.y, activation));
    if (is_gated) {
      const float2 gate = sum_of_pair<T>(other, other_add);
      x = make_float2(x.x * gate.x, x.y * gate.y);
    }
    return pack(x.x, x.y, T());
  };
  for (int index = threadIdx.x; index < half; index += THREADS) {
    const uint4 add = offsets[index], other_add = is_gated ? offsets[half + index] : add;
    uint4 value = row[index];
    const uint4 other = is_gated ? row[half + index] : value;
    value.x = one(value.x, add.x, other.x, other_add.x);
    value.y = one(value.y, add.y, other.y, other_add.y);
    value.z = one(value.z, add.z, other.z, other_add.z);
    value.w = one(value.w, add.w, other.w, other_add.w);
    row[index] = value;
  }
}

// Ways to pool, as the host numbers them.
enum Pooling { MEAN, CLS, LAST, MAX, MEAN_SQRT, WEIGHTED };

// pooled [B, stride] = each sequence's rows from its `unpooled`th on, or its last one, pooled. One block a
// sequence.
template <typename T>
DEVICE void pool(const T* state, const uint32_t* cu_seqlens, const uint32_t* unpooled, float* pooled, int hidden, int stride, int way) {
  const uint32_t start = cu_seqlens[blockIdx.x], end = cu_seqlens[blockIdx.x + 1];
  const uint32_t length = end - start;
  const uint32_t skipped = length == 0 ? 0 : unpooled[blockIdx.x] < length - 1 ? unpooled[blockIdx.x] : length - 1;
  const uint32_t first = way == LAST && length > 0 ? end - 1 : start + skipped;
  const uint32_t behind = way == CLS && length > 0 ? first + 1 : end;
  float divisor = 1.0f;
  if (way == MEAN) divisor = float(length - skipped);
  if (way == MEAN_SQRT) divisor = sqrtf(float(length - skipped));
  // The sum of the weights, which are places from 1 on.
  if (way == WEIGHTED) divisor = 0.5f * (float(length) * (length + 1.0f) - float(skipped) * (skipped + 1.0f));
  for (int pair = threadIdx.x; pair < hidden / 2; pair += THREADS) {
    float x = way == MAX ? -INFINITY : 0.0f, y = x;
    // Loads of several rows are under way at a time.
#pragma unroll 8
    for (uint32_t token = first; token < behind; ++token) {
      const float2 value = unpack(reinterpret_cast<const uint32_t*>(state + int64_t(token) * hidden)[pair], T());
      const float weight = way == WEIGHTED ? float(token - start + 1) : 1.0f;
      x = way == MAX ? fmaxf(x, value.x) : fmaf(weight, value.x, x);
      y = way == MAX ? fmaxf(y, value.y) : fmaf(weight, value.y, y);
    }
    float* to = pooled + int64_t(blockIdx.x) * stride + 2 * pair;
    to[0] = x / divisor;
    to[1] = y / divisor;
  }
}

// result [R, classes] = act(from weight^T + bias) in float32. One warp a row.
template <typename R>
DEVICE void classify(const R* from, const float* weight, const float* bias, float* result, int count, int inputs, int classes,
                     int activation) {
  const int row = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= count) return;
  for (int label = 0; label < classes; ++label) {
    float sum = 0.0f;
    for (int column = lane; column < inputs; column += 32)
      sum += to_float(from[int64_t(row) * inputs + column]) * weight[int64_t(label) * inputs + column];
    sum = sum_of_warp(sum) + bias[label];
    if (lane == 0) result[int64_t(row) * classes + label] = activated(sum, activation);
  }
}

// to [R, width] = each row normalised, or scaled to length one where there is no weight; zeros stay as they
// are. One warp a row.
template <typename R>
DEVICE void scale(const R* from, const float* weight, const float* bias, float* to, int count, int width, float epsilon) {
  const int row = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= count) return;
  const R* of = from + int64_t(row) * width;
  float sum = 0.0f, squares = 0.0f;
  if (weight != nullptr)
    for (int column = lane; column < width; column += 32) sum += to_float(of[column]);
  const float mean = sum_of_warp(sum) / width;
  for (int column = lane; column < width; column += 32) squares += (to_float(of[column]) - mean) * (to_float(of[column]) - mean);
  squares = sum_of_warp(squares);
  const float factor = weight != nullptr ? rsqrtf(squares / width + epsilon) : squares > 0.0f ? rsqrtf(squares) : 0.0f;
  for (int column = lane; column < width; column += 32) {
    const float value = (to_float(of[column]) - mean) * factor;
    to[int64_t(row) * width + column] = weight == nullptr ? value : value * weight[column] + bias[column];
  }
}

}  // namespace rows
