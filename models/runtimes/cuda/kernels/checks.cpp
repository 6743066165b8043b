// Holds every kernel against float64: random ragged batches, edge lengths, outputs full of nonsense
// beforehand, and nothing written beyond them.
//
//   checks FATBIN [ROUNDS]    ROUNDS random batches for each kernel of attention
//
// Talks to the driver alone, found at run time: with the emulated one in its place (emulation/driver.cpp) it
// runs on a CPU, built and started by models/runtimes/cuda/tests/kernels.rs; on a GPU benches/gpu/run.sh
// starts it. Declarations are written from the documentation of the CUDA driver API.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "emulation/formats.h"

namespace {

// ---- The driver ----

// As attention.cuh and rows.cuh have them.
constexpr int TILE_ROWS = 64, TILE_KEYS = 64, THREADS = 128, WARPS = 4;

struct Tile {
  int start, length, query, unused;
};

void* library() {
  static void* const opened = [] {
    void* found = dlopen("libcuda.so.1", RTLD_NOW);
    if (found == nullptr) found = dlopen("libcuda.so", RTLD_NOW);
    if (found == nullptr) {
      std::fprintf(stderr, "there is no CUDA driver: %s\n", dlerror());
      std::exit(2);
    }
    return found;
  }();
  return opened;
}

// Calls a function of the driver, and ends the program if it fails.
template <typename... A>
void call(const char* name, A... arguments) {
  const auto function = reinterpret_cast<int (*)(A...)>(dlsym(library(), name));
  const int error = function == nullptr ? -1 : function(arguments...);
  if (error == 0) return;
  std::fprintf(stderr, "%s: error %d\n", name, error);
  std::exit(2);
}

void* stream;
void* module;

// Numbers in device memory.
template <typename T>
struct Memory {
  uint64_t address = 0;
  size_t count;

  explicit Memory(const std::vector<T>& values) : count(values.size()) {
    call("cuMemAllocAsync", &address, count * sizeof(T), stream);
    call("cuMemcpyHtoDAsync_v2", address, static_cast<const void*>(values.data()), count * sizeof(T), stream);
  }
  Memory(const Memory&) = delete;
  ~Memory() { call("cuMemFreeAsync", address, stream); }

  std::vector<T> values() const {
    std::vector<T> result(count);
    call("cuMemcpyDtoHAsync_v2", static_cast<void*>(result.data()), address, count * sizeof(T), stream);
    call("cuStreamSynchronize", stream);
    return result;
  }
};

template <typename T>
const uint64_t& argument(const Memory<T>& memory) {
  return memory.address;
}
template <typename T>
const T& argument(const T& value) {
  return value;
}

template <typename... A>
void launch(const std::string& name, int columns, int rows, int shared_bytes, const A&... arguments) {
  constexpr int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
  void* function;
  call("cuModuleGetFunction", &function, module, name.c_str());
  call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes);
  void* addresses[] = {const_cast<void*>(static_cast<const void*>(&argument(arguments)))...};
  call("cuLaunchKernel", function, unsigned(columns), unsigned(rows), 1u, unsigned(THREADS), 1u, 1u, unsigned(shared_bytes), stream,
       static_cast<void**>(addresses), static_cast<void**>(nullptr));
}

// ---- Numbers ----

std::mt19937 numbers(1);

float normal(float deviation = 1.0f) { return std::normal_distribution<float>(0.0f, deviation)(numbers); }

template <typename T>
T rounded(float value) {
  T result;
  from_float(value, result);
  return result;
}
template <>
float rounded<float>(float value) {
  return value;
}

template <typename T>
std::vector<T> random_numbers(size_t count, float deviation = 1.0f, float mean = 0.0f) {
  std::vector<T> result(count);
  for (auto& value : result) value = rounded<T>(mean + normal(deviation));
  return result;
}

// Room for `count` numbers and some that must stay as they are, all nonsense.
constexpr size_t GUARD = 256;
template <typename T>
std::vector<T> nonsense(size_t count) {
  std::vector<T> result(count + GUARD);
  std::memset(static_cast<void*>(result.data()), 0xff, result.size() * sizeof(T));
  return result;
}

int failures = 0;

template <typename T>
void compare(const std::string& name, const Memory<T>& memory, const std::vector<double>& expected, double tolerance) {
  const std::vector<T> found = memory.values();
  double worst = 0.0;
  for (size_t index = 0; index < expected.size(); ++index) {
    const double difference = std::abs(to_float(found[index]) - expected[index]) / (1.0 + std::abs(expected[index]));
    // Not a number is worse than anything.
    worst = difference <= worst ? worst : difference;
  }
  bool is_kept = true;
  const auto* guard = reinterpret_cast<const unsigned char*>(found.data() + expected.size());
  for (size_t index = 0; index < GUARD * sizeof(T); ++index) is_kept &= guard[index] == 0xff;
  const bool is_good = worst <= tolerance && is_kept;
  failures += !is_good;
  std::printf("%s %-44s worst %.2e of %.0e%s\n", is_good ? "ok  " : "FAIL", name.c_str(), worst, tolerance,
              is_kept ? "" : ", written beyond its end");
}

template <typename T>
constexpr const char* NAME = "bf16";
template <>
constexpr const char* NAME<float> = "f32";
template <>
constexpr const char* NAME<__half> = "f16";
template <typename T>
constexpr double ROUNDING = 1.0 / 256;
template <>
constexpr double ROUNDING<__half> = 1.0 / 2048;

// What a check of attention is about, beside lengths.
struct Case {
  int heads = 1, key_heads = 1;
  float deviation = 1.0f;
  // Tokens seen on each side; far beyond any length there is no window.
  int before = 1000, behind = 1000;
  const char* bias = "";
  // Products with positions that there are: of queries, of keys.
  bool has_keys = true, has_queries = true;
};

// Rows of positions and the longest sequence of the checks; distances beyond half the rows share the outer.
constexpr int POSITIONS = 40, LONGEST = 600;

template <typename T, int D>
void check_attention(const std::vector<int>& lengths, const Case& is) {
  std::vector<Tile> tiles;
  int tokens = 0;
  for (const int length : lengths) {
    for (int query = 0; query < length; query += TILE_ROWS) tiles.push_back({tokens, length, query, 0});
    tokens += length;
  }
  // As a batch that is rounded up has them: of no sequence.
  tiles.push_back({0, 0, 0, 0});
  const int heads = is.heads, parts = heads + 2 * is.key_heads;
  const auto qkv = random_numbers<T>(size_t(tokens) * parts * D, is.deviation);
  const auto biases = random_numbers<float>(size_t(heads) * (2 * LONGEST - 1), 2.0f);
  const auto keys = random_numbers<T>(size_t(POSITIONS) * heads * D), queries = random_numbers<T>(size_t(POSITIONS) * heads * D);
  std::vector<int> row_of(2 * LONGEST - 1);
  for (int place = 0; place < int(row_of.size()); ++place)
    row_of[place] = std::min(std::max(place - (LONGEST - 1) + POSITIONS / 2, 0), POSITIONS - 1);
  const bool by_distance = std::string(is.bias) == "_distance", by_position = std::string(is.bias) == "_positions";
  const bool has_keys = by_position && is.has_keys, has_queries = by_position && is.has_queries;
  const Memory out(nonsense<T>(size_t(tokens) * heads * D));
  const Memory biases_there(biases), keys_there(keys), queries_there(queries);
  const Memory rows_there(row_of);
  const double scale = 1.0 / std::sqrt(double(D)), log2 = 1.4426950408889634;
  const int distances = 2 * TILE_ROWS;
  int shared = (TILE_ROWS + 4 * TILE_KEYS) * D * 2;
  if (by_distance) shared += 4 * distances;
  if (by_position) shared += 2 * distances * D * 2 + TILE_ROWS * (distances + 4) * 4;
  const std::string kernel = std::string("attention") + is.bias + "_" + NAME<T> + "_" + std::to_string(D);
  launch(kernel, int(tiles.size()), heads, shared, Memory(qkv), Memory(tiles), out, heads, is.key_heads, float(scale * log2), is.before,
         is.behind, LONGEST, biases_there, has_keys ? keys_there.address : 0, has_queries ? queries_there.address : 0, rows_there);
  std::vector<double> expected(size_t(tokens) * heads * D);
  const auto at = [&](int token, int part, int column) { return double(to_float(qkv[(size_t(token) * parts + part) * D + column])); };
  int start = 0;
  for (const int length : lengths) {
    for (int head = 0; head < heads; ++head) {
      const int key_head = heads + head / (heads / is.key_heads), value_head = key_head + is.key_heads;
      for (int query = 0; query < length; ++query) {
        const int first = std::max(0, query - is.before), end = std::min(length, query + is.behind + 1);
        std::vector<double> scores(length);
        double highest = -INFINITY, total = 0.0;
        for (int key = first; key < end; ++key) {
          const size_t row = (size_t(row_of[query - key + LONGEST - 1]) * heads + head) * D;
          double score = 0.0;
          for (int column = 0; column < D; ++column) {
            const double of_query = at(start + query, head, column), of_key = at(start + key, key_head, column);
            score += of_query * of_key;
            if (has_keys) score += of_query * to_float(keys[row + column]);
            if (has_queries) score += of_key * to_float(queries[row + column]);
          }
          scores[key] = score * scale;
          // In units of log 2.
          if (by_distance) scores[key] += biases[size_t(head) * (2 * LONGEST - 1) + key - query + LONGEST - 1] / log2;
          highest = std::max(highest, scores[key]);
        }
        for (int key = first; key < end; ++key) total += scores[key] = std::exp(scores[key] - highest);
        for (int column = 0; column < D; ++column) {
          double sum = 0.0;
          for (int key = first; key < end; ++key) sum += scores[key] / total * at(start + key, value_head, column);
          expected[(size_t(start + query) * heads + head) * D + column] = sum;
        }
      }
    }
    start += length;
  }
  std::string name = kernel + ", " + std::to_string(is.before) + " to " + std::to_string(is.behind) + ", lengths";
  for (const int length : lengths) name += " " + std::to_string(length);
  compare(name, out, expected, 2.5 * ROUNDING<T>);
}

template <typename T>
std::vector<double> normalised(const std::vector<double>& rows, const std::vector<T>& weight, const std::vector<T>& bias,
                               int hidden, double epsilon, bool is_centred) {
  std::vector<double> result(rows.size());
  for (size_t row = 0; row < rows.size() / hidden; ++row) {
    const double* of = rows.data() + row * hidden;
    double mean = 0.0, variance = 0.0;
    for (int column = 0; is_centred && column < hidden; ++column) mean += of[column] / hidden;
    for (int column = 0; column < hidden; ++column) variance += (of[column] - mean) * (of[column] - mean) / hidden;
    for (int column = 0; column < hidden; ++column)
      result[row * hidden + column] =
          (of[column] - mean) / std::sqrt(variance + epsilon) * to_float(weight[column]) + to_float(bias[column]);
  }
  return result;
}

int blocks(int rows) { return (rows + WARPS - 1) / WARPS; }

std::vector<double> exactly(const auto& values) {
  std::vector<double> result(values.size());
  for (size_t index = 0; index < result.size(); ++index) result[index] = to_float(values[index]);
  return result;
}

// As rows::Activation numbers them.
constexpr const char* ACTIVATIONS[] = {"identity", "gelu", "gelu_tanh", "relu", "silu", "tanh", "sigmoid"};

double activated(double x, int activation) {
  switch (activation) {
    case 1:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case 2:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
    case 3:
      return std::max(x, 0.0);
    case 4:
      return x / (1.0 + std::exp(-x));
    case 5:
      return std::tanh(x);
    case 6:
      return 1.0 / (1.0 + std::exp(-x));
    default:
      return x;
  }
}

constexpr uint64_t NOTHING = 0;

// Embedding, and what adds a product and normalises, in every form.
template <typename T>
void check_sums(int tokens, int hidden) {
  const float epsilon = 1e-6f;
  const std::string room = hidden <= 1024 ? "_1024" : "_4096", suffix = std::string("_") + NAME<T> + room;
  const std::string of = suffix + ", " + std::to_string(tokens) + " x " + std::to_string(hidden);
  const auto weight = random_numbers<T>(hidden, 0.2f, 1.0f), bias = random_numbers<T>(hidden, 0.1f);
  const Memory weights(weight), biases(bias);
  const int vocabulary = 50;
  const auto word = random_numbers<T>(size_t(vocabulary) * hidden, 1.0f, 3.0f), position = random_numbers<T>(512 * size_t(hidden));
  const auto second = random_numbers<T>(hidden);
  const Memory word_there(word), position_there(position), second_there(second);
  for (const int form : {0, 1, 2, 3}) {
    const bool has_positions = form != 1, has_segments = form == 0 || form == 3, has_norm = form != 2, is_centred = form != 1;
    const bool is_kept = form >= 2;
    std::vector<uint32_t> ids(tokens), positions(tokens);
    std::vector<double> sums(size_t(tokens) * hidden);
    for (int token = 0; token < tokens; ++token) {
      ids[token] = numbers() % vocabulary;
      const uint32_t at = uint32_t(token * 7 % 512);
      const bool is_second = has_segments && token % 3 == 1;
      positions[token] = at | uint32_t(is_second) << 31;
      for (int column = 0; column < hidden; ++column) {
        double& sum = sums[size_t(token) * hidden + column];
        sum = to_float(word[size_t(ids[token]) * hidden + column]);
        if (has_positions) sum += to_float(position[size_t(at) * hidden + column]);
        if (is_second) sum += to_float(second[column]);
      }
    }
    const Memory state(nonsense<T>(size_t(tokens) * hidden));
    const Memory residual(nonsense<float>(size_t(tokens) * hidden));
    launch("embed" + suffix, blocks(tokens), 1, 0, Memory(ids), Memory(positions), word_there,
           has_positions ? position_there.address : NOTHING, has_segments ? second_there.address : NOTHING,
           has_norm ? weights.address : NOTHING, has_norm ? biases.address : NOTHING, state, is_kept ? residual.address : NOTHING, tokens,
           hidden, epsilon, is_centred);
    const auto expected = has_norm ? normalised(sums, weight, bias, hidden, epsilon, is_centred) : sums;
    if (is_kept)
      compare("embed" + of + ", form " + std::to_string(form), residual, expected, 1e-5);
    else
      compare("embed" + of + ", form " + std::to_string(form), state, expected, 1.5 * ROUNDING<T>);
  }
  const auto product = random_numbers<T>(size_t(tokens) * hidden, 2.0f), offset = random_numbers<T>(hidden);
  const Memory products(product), offsets(offset);
  for (const int form : {0, 1, 2, 3}) {
    const bool has_product = form != 3, has_norm = form != 1, is_centred = form != 2, is_kept = form >= 2;
    auto before = nonsense<T>(size_t(tokens) * hidden);
    auto kept = nonsense<float>(size_t(tokens) * hidden);
    std::vector<double> sums(size_t(tokens) * hidden);
    for (size_t index = 0; index < sums.size(); ++index) {
      before[index] = rounded<T>(normal());
      kept[index] = normal(30.0f);
      sums[index] = is_kept ? double(kept[index]) : double(to_float(before[index]));
      if (has_product) sums[index] += double(to_float(product[index])) + to_float(offset[index % hidden]);
    }
    const Memory state(before);
    const Memory residual(kept);
    launch("add_normalise" + suffix, blocks(tokens), 1, 0, has_product ? products.address : NOTHING,
           has_product ? offsets.address : NOTHING, has_norm ? weights.address : NOTHING, has_norm ? biases.address : NOTHING, state,
           is_kept ? residual.address : NOTHING, tokens, hidden, epsilon, is_centred);
    const std::string name = "add_normalise" + of + ", form " + std::to_string(form);
    compare(name, state, has_norm ? normalised(sums, weight, bias, hidden, epsilon, is_centred) : sums, 1.5 * ROUNDING<T>);
    if (is_kept) compare(name + ", what is kept", residual, sums, 1e-6);
  }
}

template <typename T>
void check_turn(int tokens, int heads, int key_heads, int head, int size, int pairs, bool has_norm) {
  const int parts = heads + 2 * key_heads;
  auto qkv = nonsense<T>(size_t(tokens) * parts * head);
  for (size_t index = 0; index < size_t(tokens) * parts * head; ++index) qkv[index] = rounded<T>(normal());
  const auto query_norm = random_numbers<T>(head, 0.2f, 1.0f), key_norm = random_numbers<T>(head, 0.2f, 1.0f);
  const auto angles = random_numbers<float>(size_t(512) * 2 * pairs);
  const float query_epsilon = 1e-6f, key_epsilon = 1e-2f;
  std::vector<uint32_t> positions(tokens);
  std::vector<double> expected(size_t(tokens) * parts * head);
  for (int token = 0; token < tokens; ++token) {
    const uint32_t at = uint32_t(token * 11 % 512);
    positions[token] = at | uint32_t(token % 2) << 31;
    for (int part = 0; part < parts; ++part) {
      const size_t row = (size_t(token) * parts + part) * head;
      for (int column = 0; column < head; ++column) expected[row + column] = to_float(qkv[row + column]);
      if (part >= heads + key_heads) continue;
      if (has_norm) {
        double squares = 0.0;
        for (int column = 0; column < size; ++column) squares += expected[row + column] * expected[row + column] / size;
        const double scale = 1.0 / std::sqrt(squares + (part < heads ? query_epsilon : key_epsilon));
        for (int column = 0; column < size; ++column)
          expected[row + column] *= scale * to_float((part < heads ? query_norm : key_norm)[column]);
      }
      for (int pair = 0; pair < pairs; ++pair) {
        const double x = expected[row + pair], y = expected[row + pair + pairs];
        const double cosine = angles[size_t(at) * 2 * pairs + pair], sine = angles[size_t(at) * 2 * pairs + pairs + pair];
        expected[row + pair] = x * cosine - y * sine;
        expected[row + pair + pairs] = y * cosine + x * sine;
      }
    }
  }
  const Memory values(qkv), query_norms(query_norm), key_norms(key_norm);
  const std::string kernel = std::string("turn_") + NAME<T>;
  launch(kernel, blocks(tokens), heads + key_heads, 0, values, Memory(positions), Memory(angles),
              has_norm ? query_norms.address : NOTHING, has_norm ? key_norms.address : NOTHING, tokens, heads, key_heads, head, size, pairs,
              query_epsilon, key_epsilon);
  compare(kernel + ", " + std::to_string(pairs) + " pairs of " + std::to_string(size) + (has_norm ? ", normalised" : ""), values, expected,
          1.0 * ROUNDING<T>);
}

template <typename T>
void check_activate(int tokens, int width) {
  const std::string kernel = std::string("activate_") + NAME<T>;
  for (const bool is_gated : {false, true})
    for (const int activation : {1, 2, 3, 4}) {
      const int stride = is_gated ? 2 * width : width;
      const auto offset = random_numbers<T>(stride);
      auto values = nonsense<T>(size_t(tokens) * stride);
      std::vector<double> expected(size_t(tokens) * stride);
      for (size_t index = 0; index < expected.size(); ++index) values[index] = rounded<T>(normal(3.0f));
      for (size_t index = 0; index < expected.size(); ++index) {
        const size_t column = index % stride;
        expected[index] = to_float(values[index]);
        if (column >= size_t(width)) continue;
        expected[index] = activated(expected[index] + to_float(offset[column]), activation);
        if (is_gated) expected[index] *= double(to_float(values[index + width])) + to_float(offset[column + width]);
      }
      const Memory there(values);
      launch(kernel, tokens, 1, 0, Memory(offset), there, width, activation, is_gated);
      compare(kernel + ", " + ACTIVATIONS[activation] + (is_gated ? ", gated" : ""), there, expected, 1.0 * ROUNDING<T>);
    }
}

template <typename T>
void check_pool(int hidden) {
  const std::vector<uint32_t> ends = {0, 1, 8, 30}, unpooled = {4, 3, 0};
  const auto state = random_numbers<T>(30 * size_t(hidden));
  const Memory there(state);
  const int stride = hidden + 6;
  for (const int way : {0, 1, 2, 3, 4, 5}) {
    std::vector<float> before(3 * size_t(stride) + GUARD, 5.0f);
    std::memset(static_cast<void*>(before.data() + 3 * stride), 0xff, GUARD * sizeof(float));
    const Memory pooled(before);
    std::vector<double> expected(3 * size_t(stride), 5.0);
    for (int sequence = 0; sequence < 3; ++sequence)
      for (int column = 0; column < hidden; ++column) {
        const uint32_t length = ends[sequence + 1] - ends[sequence], first = std::min(unpooled[sequence], length - 1);
        double sum = 0.0, most = -INFINITY, weights = 0.0, weighted = 0.0;
        const auto at = [&](uint32_t place) { return double(to_float(state[(ends[sequence] + place) * size_t(hidden) + column])); };
        for (uint32_t place = first; place < length; ++place) {
          sum += at(place);
          most = std::max(most, at(place));
          weights += place + 1;
          weighted += (place + 1) * at(place);
        }
        const double ways[] = {sum / (length - first), at(first), at(length - 1), most, sum / std::sqrt(double(length - first)),
                               weighted / weights};
        expected[size_t(sequence) * stride + column] = ways[way];
      }
    launch(std::string("pool_") + NAME<T>, 3, 1, 0, there, Memory(ends), Memory(unpooled), pooled, hidden, stride, way);
    compare(std::string("pool_") + NAME<T> + ", way " + std::to_string(way), pooled, expected, 1e-5);
  }
}

// What heads compute of rows in the encoder's format and in float32.
template <typename R>
void check_head(int rows, int width) {
  const std::string suffix = std::string("_") + NAME<R>;
  const int classes = 7;
  const auto from = random_numbers<R>(size_t(rows) * width);
  const auto exact = exactly(from);
  const auto head = random_numbers<float>(size_t(classes) * width, 0.05f), bias = random_numbers<float>(classes);
  const Memory there(from), heads(head), biases(bias);
  for (int activation = 0; activation < 7; ++activation) {
    std::vector<double> expected(size_t(rows) * classes);
    for (int row = 0; row < rows; ++row)
      for (int label = 0; label < classes; ++label) {
        double sum = bias[label];
        for (int column = 0; column < width; ++column) sum += exact[size_t(row) * width + column] * head[size_t(label) * width + column];
        expected[size_t(row) * classes + label] = activated(sum, activation);
      }
    const Memory logits(nonsense<float>(size_t(rows) * classes));
    launch("classify" + suffix, blocks(rows), 1, 0, there, heads, biases, logits, rows, width, classes, activation);
    compare("classify" + suffix + ", " + ACTIVATIONS[activation], logits, expected, 1e-4);
  }
  const auto weight = random_numbers<float>(width, 0.2f, 1.0f), offset = random_numbers<float>(width);
  const Memory scaled(nonsense<float>(size_t(rows) * width)), normed(nonsense<float>(size_t(rows) * width));
  const Memory weights(weight), offsets(offset);
  const float epsilon = 1e-5f;
  launch("scale" + suffix, blocks(rows), 1, 0, there, weights, offsets, normed, rows, width, epsilon);
  compare("scale" + suffix + ", normalised", normed, normalised(exact, weight, offset, width, epsilon, true), 1e-5);
  std::vector<double> lengths(exact.size());
  for (int row = 0; row < rows; ++row) {
    double squares = 0.0;
    for (int column = 0; column < width; ++column) squares += exact[size_t(row) * width + column] * exact[size_t(row) * width + column];
    for (int column = 0; column < width; ++column)
      lengths[size_t(row) * width + column] = exact[size_t(row) * width + column] / std::sqrt(squares);
  }
  launch("scale" + suffix, blocks(rows), 1, 0, there, NOTHING, NOTHING, scaled, rows, width, 0.0f);
  compare("scale" + suffix + ", to length one", scaled, lengths, 1e-5);
}

template <typename T>
void check_all(int rounds) {
  check_attention<T, 32>({1, 16, 63, 64, 65, 130}, {.heads = 2, .key_heads = 2});
  check_attention<T, 64>({200, 1, 37}, {.heads = 2, .key_heads = 2});
  check_attention<T, 96>({70, 5}, {});
  check_attention<T, 128>({129, 2}, {});
  // Scores of some hundred, where a running maximum matters.
  check_attention<T, 32>({150}, {.deviation = 6.0f});
  check_attention<T, 64>({512}, {});
  // Grouped heads; causal, with windows, at and around their edges.
  check_attention<T, 64>({130, 3}, {.heads = 4, .key_heads = 2, .behind = 0});
  for (const int window : {0, 1, 8, 63, 64, 65}) check_attention<T, 32>({1, 2, 64, 65, 200}, {.before = window, .behind = window});
  check_attention<T, 32>({1, 150}, {.heads = 2, .before = 9, .behind = 0});
  check_attention<T, 128>({190}, {.before = 70, .behind = 70});
  // With biases.
  for (const int window : {1000, 20}) {
    const Case distance{.heads = 2, .key_heads = 2, .before = window, .behind = window, .bias = "_distance"};
    check_attention<T, 32>({1, 2, 64, 65, 150}, distance);
    check_attention<T, 64>({130}, distance);
    check_attention<T, 96>({66}, distance);
    check_attention<T, 128>({66}, distance);
  }
  for (const int form : {1, 2, 3}) {
    const Case positions{.heads = 2, .key_heads = 2, .bias = "_positions", .has_keys = form != 2, .has_queries = form != 1};
    check_attention<T, 32>({1, 2, 64, 65, 200}, positions);
    check_attention<T, 64>({130, 7}, positions);
  }
  check_attention<T, 32>({130}, {.before = 30, .behind = 0, .bias = "_positions"});
  for (int round = 0; round < rounds; ++round) {
    std::vector<int> lengths(1 + numbers() % 4);
    for (auto& length : lengths) length = 1 + int(numbers() % 150);
    const int window = 1 + int(numbers() % 100);
    check_attention<T, 32>(lengths, {});
    check_attention<T, 32>(lengths, {.before = window, .behind = window});
    check_attention<T, 32>(lengths, {.before = window, .behind = window, .bias = "_positions"});
  }
  check_sums<T>(5, 24);
  check_sums<T>(9, 768);
  check_sums<T>(33, 1024);
  check_sums<T>(5, 1536);
  check_sums<T>(6, 4096);
  check_turn<T>(5, 2, 2, 64, 64, 32, false);
  check_turn<T>(6, 4, 2, 128, 128, 64, true);
  check_turn<T>(3, 2, 1, 32, 24, 5, true);
  check_turn<T>(3, 2, 1, 32, 24, 12, false);
  check_activate<T>(3, 1032);
  check_pool<T>(768);
  check_head<T>(33, 384);
}

}  // namespace

std::vector<char> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: checks FATBIN [ROUNDS]\n");
    return 2;
  }
  int device;
  void* context;
  call("cuInit", 0u);
  call("cuDeviceGet", &device, 0);
  call("cuDevicePrimaryCtxRetain", &context, device);
  call("cuCtxSetCurrent", context);
  constexpr unsigned NON_BLOCKING = 1;
  call("cuStreamCreate", &stream, NON_BLOCKING);
  const std::vector<char> kernels = read(arguments[1]);
  call("cuModuleLoadData", &module, static_cast<const void*>(kernels.data()));
  const int rounds = count > 2 ? std::atoi(arguments[2]) : 3;
  check_all<__nv_bfloat16>(rounds);
  check_all<__half>(rounds);
  check_head<float>(9, 390);
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
