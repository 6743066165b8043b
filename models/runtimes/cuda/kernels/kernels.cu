// The kernels by name, for bfloat16 and for float16.
#include "attention.cuh"
#include "rows.cuh"

// Heads of 64 are held to registers of which a multiprocessor has enough for four blocks; the others fit as
// they are.
#define ATTENTION(kernel, name, type, head, bias, ...)                                                                           \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                                      \
      kernel##_##name##_##head(const type* qkv, const attention::Tile* tiles, type* out, int heads, int key_heads,               \
                               float scale_log2, int before, int behind, int longest, const float* biases,                       \
                               const type* position_keys, const type* position_queries, const int* row_of) {                     \
    attention::run<type, head, attention::Bias::bias>(                                                                           \
        qkv, tiles, out, heads, key_heads, scale_log2,                                                                           \
        {before, behind, longest, biases, position_keys, position_queries, row_of});                                             \
  }

// Rows of up to 128 `quads` numbers.
#define WIDTHS(name, type, width, quads)                                                                                         \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      embed_##name##_##width(const uint32_t* ids, const uint32_t* positions, const type* word, const type* position,             \
                             const type* second, const type* weight, const type* bias, type* to, float* residual, int tokens,    \
                             int hidden, float epsilon, bool is_centred) {                                                       \
    rows::embed<quads>(ids, positions, word, position, second, weight, bias, to, residual, tokens, hidden, epsilon, is_centred); \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      add_normalise_##name##_##width(const type* product, const type* offset, const type* weight, const type* bias, type* state, \
                                     float* residual, int tokens, int hidden, float epsilon, bool is_centred) {                  \
    rows::add_normalise<quads>(product, offset, weight, bias, state, residual, tokens, hidden, epsilon, is_centred);             \
  }

#define HEADS(name, type)                                                                                                        \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      classify_##name(const type* from, const float* weight, const float* bias, float* result, int count, int inputs,            \
                      int classes, int activation) {                                                                             \
    rows::classify(from, weight, bias, result, count, inputs, classes, activation);                                              \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      scale_##name(const type* from, const float* weight, const float* bias, float* to, int count, int width, float epsilon) {   \
    rows::scale(from, weight, bias, to, count, width, epsilon);                                                                  \
  }

#define KERNELS(name, type)                                                                                                      \
  ATTENTION(attention, name, type, 32, NONE, attention::THREADS)                                                                 \
  ATTENTION(attention, name, type, 64, NONE, attention::THREADS, 4)                                                              \
  ATTENTION(attention, name, type, 96, NONE, attention::THREADS)                                                                 \
  ATTENTION(attention, name, type, 128, NONE, attention::THREADS)                                                                \
  ATTENTION(attention_distance, name, type, 32, DISTANCE, attention::THREADS)                                                    \
  ATTENTION(attention_distance, name, type, 64, DISTANCE, attention::THREADS)                                                    \
  ATTENTION(attention_distance, name, type, 96, DISTANCE, attention::THREADS)                                                    \
  ATTENTION(attention_distance, name, type, 128, DISTANCE, attention::THREADS)                                                   \
  ATTENTION(attention_positions, name, type, 32, POSITIONS, attention::THREADS)                                                  \
  ATTENTION(attention_positions, name, type, 64, POSITIONS, attention::THREADS)                                                  \
  WIDTHS(name, type, 1024, 8)                                                                                                    \
  WIDTHS(name, type, 4096, 32)                                                                                                   \
  HEADS(name, type)                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      turn_##name(type* qkv, const uint32_t* positions, const float* angles, const type* query_norm, const type* key_norm,       \
                  int tokens, int heads, int key_heads, int head, int numbers, int pairs, float query_epsilon,                   \
                  float key_epsilon) {                                                                                           \
    rows::turn(qkv, positions, angles, query_norm, key_norm, tokens, heads, key_heads, head, numbers, pairs, query_epsilon,      \
               key_epsilon);                                                                                                     \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      activate_##name(const type* offset, type* values, int width, int activation, bool is_gated) {                              \
    rows::activate(offset, values, width, activation, is_gated);                                                                 \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      pool_##name(const type* state, const uint32_t* cu_seqlens, const uint32_t* unpooled, float* pooled, int hidden,            \
                  int stride, int way) {                                                                                         \
    rows::pool(state, cu_seqlens, unpooled, pooled, hidden, stride, way);                                                        \
  }

KERNELS(bf16, __nv_bfloat16)
KERNELS(f16, __half)
HEADS(f32, float)
