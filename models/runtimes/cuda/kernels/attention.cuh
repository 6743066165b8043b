// Attention over sequences of any lengths side by side, nothing padded (Dao, "FlashAttention-2", 2023: one
// pass over the keys with a running maximum and sum; mathematics in section 3.1).
//
// qkv [T, 3, heads, D] and out [T, heads, D] are packed. One block computes 64 queries of one sequence and
// one head: four warps of 16 rows each. Keys and values come by 64, the next ones while these are used.
#pragma once

#include "warp.cuh"

namespace attention {

constexpr int ROWS = 64;
constexpr int KEYS = 64;
constexpr int WARPS = ROWS / 16;
constexpr int THREADS = 32 * WARPS;

// 64 queries of one sequence.
struct Tile {
  int start;   // first token of the sequence in the batch
  int length;  // its tokens; none: there is nothing to do
  int query;   // first of the queries in it
  int unused;
};

// Bytes of shared memory: queries, and keys and values twice.
template <int D>
constexpr int shared_bytes() {
  return (ROWS + 4 * KEYS) * D * 2;
}

// Where 8 numbers of a row stand in shared memory, so that the 8 rows that are read at once are in different
// banks: rows of 128 bytes or multiples begin in the same bank, rows of 64 or 192 bytes every other one.
template <int D>
DEVICE int place(int row, int chunk) {
  const int turn = D % 64 == 0 ? row & 7 : (row >> 1) & 3;
  return row * D + ((chunk ^ turn) << 3);
}

// Copies 64 rows of D numbers, `stride` numbers apart, of which `rows` are there.
template <typename T, int D>
DEVICE void load(T* to, const T* from, int stride, int rows) {
  constexpr int CHUNKS = D / 8;
#pragma unroll
  for (int round = 0; round < ROWS * CHUNKS / THREADS; ++round) {
    const int index = threadIdx.x + round * THREADS;
    const int row = index / CHUNKS, chunk = index % CHUNKS;
    const bool is_there = row < rows;
    copy_16(to + place<D>(row, chunk), from + (is_there ? row * stride + chunk * 8 : 0), is_there);
  }
}

template <typename T, int D>
DEVICE void run(const T* __restrict__ qkv, const Tile* __restrict__ tiles, T* __restrict__ out, int heads, float scale_log2) {
  constexpr int STEPS = D / 16;       // products of 16 along a head
  constexpr int COLUMNS = D / 8;      // fragments of the output
  constexpr int SCORES = KEYS / 8;    // fragments of the scores
  const Tile tile = tiles[blockIdx.x];
  if (tile.length == 0) return;
  const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // A sequence's numbers are counted in 32 bits; where it begins is not.
  const int stride = 3 * heads * D;
  const T* queries_from = qkv + int64_t(tile.start) * stride + head * D;
  const T* keys_from = queries_from + heads * D;
  const T* values_from = keys_from + heads * D;

  T* queries = reinterpret_cast<T*>(shared_memory());
  T* keys = queries + ROWS * D;
  T* values = keys + 2 * KEYS * D;

  load<T, D>(queries, queries_from + tile.query * stride, stride, tile.length - tile.query);
  load<T, D>(keys, keys_from, stride, tile.length);
  load<T, D>(values, values_from, stride, tile.length);
  copy_group();

  uint32_t query[STEPS][4];
  float sums[COLUMNS][4] = {};
  // Of rows lane / 4 and lane / 4 + 8.
  float maxima[2] = {-INFINITY, -INFINITY}, totals[2] = {0.0f, 0.0f};

  const int blocks = (tile.length + KEYS - 1) / KEYS;
  for (int block = 0; block < blocks; ++block) {
    const int first = block * KEYS, now = block % 2;
    if (block + 1 < blocks) {
      const int next = first + KEYS;
      load<T, D>(keys + (1 - now) * KEYS * D, keys_from + next * stride, stride, tile.length - next);
      load<T, D>(values + (1 - now) * KEYS * D, values_from + next * stride, stride, tile.length - next);
      copy_group();
      copy_wait<1>();
    } else {
      copy_wait<0>();
    }
    synchronise();
    const T* key = keys + now * KEYS * D;
    const T* value = values + now * KEYS * D;
    if (block == 0) {
#pragma unroll
      for (int step = 0; step < STEPS; ++step)
        load_matrices(query[step], queries + place<D>(warp * 16 + lane % 16, step * 2 + lane / 16));
    }

    float scores[SCORES][4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
#pragma unroll
      for (int pair = 0; pair < SCORES / 2; ++pair) {
        uint32_t b[4];
        const int row = pair * 16 + lane % 8 + lane / 16 * 8;
        load_matrices(b, key + place<D>(row, step * 2 + lane / 8 % 2));
        multiply_add(scores[2 * pair], query[step], b[0], b[1], T());
        multiply_add(scores[2 * pair + 1], query[step], b[2], b[3], T());
      }
    }

    const int left = tile.length - first;
    if (left < KEYS) {
#pragma unroll
      for (int index = 0; index < SCORES; ++index)
#pragma unroll
        for (int element = 0; element < 4; ++element)
          if (index * 8 + lane % 4 * 2 + element % 2 >= left) scores[index][element] = -INFINITY;
    }
    float highest[2] = {maxima[0], maxima[1]};
#pragma unroll
    for (int index = 0; index < SCORES; ++index)
#pragma unroll
      for (int element = 0; element < 4; ++element) highest[element / 2] = fmaxf(highest[element / 2], scores[index][element]);
    float scaled[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      highest[half] = fmaxf(highest[half], exchange_xor(highest[half], 1));
      highest[half] = fmaxf(highest[half], exchange_xor(highest[half], 2));
      // There is a key in every block, so the maximum is a number.
      const float shrink = exponential((maxima[half] - highest[half]) * scale_log2);
      maxima[half] = highest[half];
      scaled[half] = highest[half] * scale_log2;
      totals[half] *= shrink;
#pragma unroll
      for (int index = 0; index < COLUMNS; ++index) {
        sums[index][2 * half] *= shrink;
        sums[index][2 * half + 1] *= shrink;
      }
    }
#pragma unroll
    for (int index = 0; index < SCORES; ++index) {
#pragma unroll
      for (int element = 0; element < 4; ++element) {
        float& score = scores[index][element];
        // The scale and the maximum in one operation.
        score = exponential(fmaf(score, scale_log2, -scaled[element / 2]));
        totals[element / 2] += score;
      }
    }

#pragma unroll
    for (int step = 0; step < KEYS / 16; ++step) {
      const float(&low)[4] = scores[2 * step];
      const float(&high)[4] = scores[2 * step + 1];
      const uint32_t share[4] = {pack(low[0], low[1], T()), pack(low[2], low[3], T()), pack(high[0], high[1], T()),
                                 pack(high[2], high[3], T())};
#pragma unroll
      for (int pair = 0; pair < COLUMNS / 2; ++pair) {
        uint32_t b[4];
        const int row = step * 16 + lane % 16;
        load_matrices_transposed(b, value + place<D>(row, pair * 2 + lane / 16));
        multiply_add(sums[2 * pair], share, b[0], b[1], T());
        multiply_add(sums[2 * pair + 1], share, b[2], b[3], T());
      }
    }
    // Nobody reads what the next round overwrites.
    synchronise();
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    totals[half] += exchange_xor(totals[half], 1);
    totals[half] += exchange_xor(totals[half], 2);
    const int row = tile.query + warp * 16 + lane / 4 + half * 8;
    if (row >= tile.length) continue;
    const float share = 1.0f / totals[half];
    T* to = out + (int64_t(tile.start + row) * heads + head) * D + lane % 4 * 2;
#pragma unroll
    for (int index = 0; index < COLUMNS; ++index)
      *reinterpret_cast<uint32_t*>(to + index * 8) = pack(sums[index][2 * half] * share, sums[index][2 * half + 1] * share, T());
  }
}

}  // namespace attention
