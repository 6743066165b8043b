// Attention over sequences of any lengths side by side, nothing padded (Dao, "FlashAttention-2", 2023: one
// pass over the keys with a running maximum and sum; mathematics in section 3.1).
//
// qkv [T, heads + 2 heads of keys, D] and out [T, heads, D] are packed. One block computes 64 queries of one
// sequence and one head: four warps of 16 rows each. Keys and values come by 64, the next ones while these
// are used; those that none of the queries sees are never read. What is added to scores for how far query and
// key are from one another is read or computed here too, for the 127 distances of 64 queries and 64 keys.
#pragma once

#include "warp.cuh"

namespace attention {

constexpr int ROWS = 64;
constexpr int KEYS = 64;
constexpr int WARPS = ROWS / 16;
constexpr int THREADS = 32 * WARPS;
// Distances between 64 queries and 64 keys, and one that fills up.
constexpr int DISTANCES = ROWS + KEYS;
// Products with positions that a row of 64 has room for: those of all distances, in other banks than the
// row's before.
constexpr int PRODUCTS = DISTANCES + 4;

// 64 queries of one sequence.
struct Tile {
  int start;   // first token of the sequence in the batch
  int length;  // its tokens; none: there is nothing to do
  int query;   // first of the queries in it
  int unused;
};

// What is added to the scores of a head.
enum class Bias {
  NONE,
  // A number for each distance.
  DISTANCE,
  // Products of queries and of keys with positions (He et al., "DeBERTa", 2020, section 3.1).
  POSITIONS,
};

// Which keys are seen, and what is added.
struct Sight {
  // Tokens on each side of a query's own.
  int before, behind;
  // Tokens of the longest sequence: tables by distance have 2 longest - 1 rows.
  int longest;
  // DISTANCE: [heads, 2 longest - 1] in units of log 2, by the key's place less the query's.
  const float* biases;
  // POSITIONS: tables [rows, heads, D], none where there is no such product.
  const void* position_keys;
  const void* position_queries;
  // Their rows, [2 longest - 1], by the query's place less the key's.
  const int* row_of;
};

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

// The place in a table by distance.
DEVICE int place_of(int distance, int longest) {
  return (distance < -(longest - 1) ? -(longest - 1) : distance > longest - 1 ? longest - 1 : distance) + longest - 1;
}

// Copies the positions of 128 distances, of which `lowest` is the first, as a head has them.
template <typename T, int D>
DEVICE void load_positions(T* to, const T* table, const int* row_of, int head, int heads, int lowest, int longest) {
  constexpr int CHUNKS = D / 8;
#pragma unroll
  for (int round = 0; round < DISTANCES * CHUNKS / THREADS; ++round) {
    const int index = threadIdx.x + round * THREADS;
    const int row = index / CHUNKS, chunk = index % CHUNKS;
    const int of_table = row_of[place_of(lowest + row, longest)];
    copy_16(to + place<D>(row, chunk), table + (int64_t(of_table) * heads + head) * D + chunk * 8, true);
  }
}

// products [64, 128] of this warp's 16 rows with the 80 positions from `first` on, which are all that the 16
// meet within a block.
template <typename T, int D>
DEVICE void multiply_positions(float* products, const T* left, const T* positions, int first) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int pair = 0; pair < 5; ++pair) {
    float sums[2][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t a[4], b[4];
      load_matrices(a, left + place<D>(warp * 16 + lane % 16, step * 2 + lane / 16));
      load_matrices(b, positions + place<D>(first + pair * 16 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
      multiply_add(sums[0], a, b[0], b[1], T());
      multiply_add(sums[1], a, b[2], b[3], T());
    }
#pragma unroll
    for (int element = 0; element < 8; ++element)
      products[(warp * 16 + lane / 4 + element % 4 / 2 * 8) * PRODUCTS + first + pair * 16 + element / 4 * 8 + lane % 4 * 2 +
               element % 2] = sums[element / 4][element % 4];
  }
}

template <typename T, int D, Bias BIAS>
DEVICE void run(const T* __restrict__ qkv, const Tile* __restrict__ tiles, T* __restrict__ out, int heads, int key_heads,
                float scale_log2, Sight sight) {
  constexpr int STEPS = D / 16;       // products of 16 along a head
  constexpr int COLUMNS = D / 8;      // fragments of the output
  constexpr int SCORES = KEYS / 8;    // fragments of the scores
  const Tile tile = tiles[blockIdx.x];
  if (tile.length == 0) return;
  const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // A sequence's numbers are counted in 32 bits; where it begins is not.
  const int stride = (heads + 2 * key_heads) * D;
  const T* queries_from = qkv + int64_t(tile.start) * stride + head * D;
  const T* keys_from = qkv + int64_t(tile.start) * stride + (heads + head / (heads / key_heads)) * D;
  const int values_from = key_heads * D;
  // The keys that some query sees.
  const int begin = tile.query > sight.before ? tile.query - sight.before : 0;
  const int end = tile.length < tile.query + ROWS + sight.behind ? tile.length : tile.query + ROWS + sight.behind;

  T* queries = reinterpret_cast<T*>(shared_memory());
  T* keys = queries + ROWS * D;
  T* values = keys + 2 * KEYS * D;
  // With biases by distance these 128, with positions their 128 rows for queries, those for keys, and products.
  float* biases = reinterpret_cast<float*>(values + 2 * KEYS * D);
  T* position_keys = values + 2 * KEYS * D;
  T* position_queries = position_keys + DISTANCES * D;
  float* products = reinterpret_cast<float*>(position_queries + DISTANCES * D);
  const T* position_keys_from = static_cast<const T*>(sight.position_keys);
  const T* position_queries_from = static_cast<const T*>(sight.position_queries);
  // Those of the keys from `first` on.
  const auto load_all_positions = [&](int first) {
    const int lowest = tile.query - first - (KEYS - 1);
    if (position_keys_from != nullptr)
      load_positions<T, D>(position_keys, position_keys_from, sight.row_of, head, heads, lowest, sight.longest);
    if (position_queries_from != nullptr)
      load_positions<T, D>(position_queries, position_queries_from, sight.row_of, head, heads, lowest, sight.longest);
  };

  load<T, D>(queries, queries_from + tile.query * stride, stride, tile.length - tile.query);
  load<T, D>(keys, keys_from + begin * stride, stride, end - begin);
  load<T, D>(values, keys_from + values_from + begin * stride, stride, end - begin);
  if constexpr (BIAS == Bias::POSITIONS) load_all_positions(begin);
  copy_group();

  uint32_t query[STEPS][4];
  float sums[COLUMNS][4] = {};
  // Of rows lane / 4 and lane / 4 + 8.
  float maxima[2] = {-INFINITY, -INFINITY}, totals[2] = {0.0f, 0.0f};

  // Scores with biases are in units of log 2 already.
  const float factor = BIAS == Bias::DISTANCE ? 1.0f : scale_log2;
  int now = 0;
  for (int first = begin; first < end; first += KEYS) {
    if constexpr (BIAS == Bias::DISTANCE) {
      const int distance = first - tile.query - (ROWS - 1) + int(threadIdx.x);
      biases[threadIdx.x] = sight.biases[int64_t(head) * (2 * sight.longest - 1) + place_of(distance, sight.longest)];
    }
    const int next = first + KEYS;
    if (next < end) {
      load<T, D>(keys + (1 - now) * KEYS * D, keys_from + next * stride, stride, end - next);
      load<T, D>(values + (1 - now) * KEYS * D, keys_from + values_from + next * stride, stride, end - next);
      copy_group();
      copy_wait<1>();
    } else {
      copy_wait<0>();
    }
    synchronise();
    const T* key = keys + now * KEYS * D;
    const T* value = values + now * KEYS * D;
    if (first == begin) {
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

    // Within the block: this thread's first query and key.
    const int query_row = warp * 16 + lane / 4, key_row = lane % 4 * 2;
    if constexpr (BIAS == Bias::DISTANCE) {
#pragma unroll
      for (int index = 0; index < SCORES; ++index)
#pragma unroll
        for (int element = 0; element < 4; ++element) {
          const float bias = biases[key_row + index * 8 + element % 2 - query_row - element / 2 * 8 + ROWS - 1];
          scores[index][element] = fmaf(scores[index][element], scale_log2, bias);
        }
    }
    if constexpr (BIAS == Bias::POSITIONS) {
      if (position_keys_from != nullptr) {
        multiply_positions<T, D>(products, queries, position_keys, warp * 16);
        synchronise();
#pragma unroll
        for (int index = 0; index < SCORES; ++index)
#pragma unroll
          for (int element = 0; element < 4; ++element) {
            const int of_query = query_row + element / 2 * 8, of_key = key_row + index * 8 + element % 2;
            scores[index][element] += products[of_query * PRODUCTS + of_query - of_key + KEYS - 1];
          }
        synchronise();
      }
      if (position_queries_from != nullptr) {
        multiply_positions<T, D>(products, key, position_queries, KEYS - 16 - warp * 16);
        synchronise();
#pragma unroll
        for (int index = 0; index < SCORES; ++index)
#pragma unroll
          for (int element = 0; element < 4; ++element) {
            const int of_query = query_row + element / 2 * 8, of_key = key_row + index * 8 + element % 2;
            scores[index][element] += products[of_key * PRODUCTS + of_query - of_key + KEYS - 1];
          }
        synchronise();
      }
      if (next < end) {
        load_all_positions(next);
        copy_group();
      }
    }

    const int last_query = tile.query + ROWS - 1;
    if (first + KEYS > end || first < last_query - sight.before || first + KEYS - 1 > tile.query + sight.behind) {
#pragma unroll
      for (int index = 0; index < SCORES; ++index)
#pragma unroll
        for (int element = 0; element < 4; ++element) {
          // Within the block, and to this thread's first query.
          const int of_key = key_row + index * 8 + element % 2;
          const int distance = of_key + first - tile.query - query_row - element / 2 * 8;
          if (of_key >= end - first || distance < -sight.before || distance > sight.behind) scores[index][element] = -INFINITY;
        }
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
      // A query may see no key of a block, and none of those before.
      const float base = highest[half] == -INFINITY ? 0.0f : highest[half];
      const float shrink = exponential((maxima[half] - base) * factor);
      maxima[half] = highest[half];
      scaled[half] = base * factor;
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
        score = exponential(fmaf(score, factor, -scaled[element / 2]));
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
    now = 1 - now;
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
