// The kernels by name, for bfloat16 and for float16.
#include "attention.cuh"
#include "rows.cuh"

// Heads of 64 are held to registers of which a multiprocessor has enough for four blocks; the others fit as
// they are.
#define ATTENTION(name, type, head, ...)                                                                                 \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                              \
      attention_##name##_##head(const type* qkv, const attention::Tile* tiles, type* out, int heads, float scale_log2) { \
    attention::run<type, head>(qkv, tiles, out, heads, scale_log2);                                                      \
  }

#define KERNELS(name, type)                                                                                                      \
  ATTENTION(name, type, 32, attention::THREADS)                                                                                  \
  ATTENTION(name, type, 64, attention::THREADS, 4)                                                                               \
  ATTENTION(name, type, 96, attention::THREADS)                                                                                  \
  ATTENTION(name, type, 128, attention::THREADS)                                                                                 \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      embed_##name(const uint32_t* ids, const uint32_t* positions, const type* word, const type* position,                        \
                   const type* weight, const type* bias, type* to, int tokens, int hidden, float epsilon) {                      \
    rows::embed(ids, positions, word, position, weight, bias, to, tokens, hidden, epsilon);                                \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      add_normalise_##name(const type* product, const type* offset, const type* weight, const type* bias, type* state,           \
                           int tokens, int hidden, float epsilon) {                                                              \
    rows::add_normalise(product, offset, weight, bias, state, tokens, hidden, epsilon);                                          \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      add_gelu_##name(const type* offset, type* values, int width) {                                                             \
    rows::add_gelu(offset, values, width);                                                                                       \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      mean_##name(const type* state, const uint32_t* cu_seqlens, float* pooled, int hidden) {                                    \
    rows::mean(state, cu_seqlens, pooled, hidden);                                                                               \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(rows::THREADS)                                                                    \
      classify_##name(const type* from, const float* weight, const float* bias, float* result, int count, int hidden,            \
                      int classes, bool has_tanh) {                                                                                             \
    rows::classify(from, weight, bias, result, count, hidden, classes, has_tanh);                                                          \
  }

KERNELS(bf16, __nv_bfloat16)
KERNELS(f16, __half)

extern "C" __global__ void __launch_bounds__(rows::THREADS)
    classify_f32(const float* from, const float* weight, const float* bias, float* result, int count, int hidden, int classes,
                 bool has_tanh) {
  rows::classify(from, weight, bias, result, count, hidden, classes, has_tanh);
}
