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
constexpr const char* NAME<__half> = "f16";
template <typename T>
constexpr double ROUNDING = 1.0 / 256;
template <>
constexpr double ROUNDING<__half> = 1.0 / 2048;

template <typename T, int D>
void check_attention(const std::vector<int>& lengths, int heads, float deviation) {
  std::vector<Tile> tiles;
  int tokens = 0;
  for (const int length : lengths) {
    for (int query = 0; query < length; query += TILE_ROWS) tiles.push_back({tokens, length, query, 0});
    tokens += length;
  }
  // As a batch that is rounded up has them: of no sequence.
  tiles.push_back({0, 0, 0, 0});
  const auto qkv = random_numbers<T>(size_t(tokens) * 3 * heads * D, deviation);
  const Memory out(nonsense<T>(size_t(tokens) * heads * D));
  const double scale = 1.0 / std::sqrt(double(D));
  const std::string kernel = std::string("attention_") + NAME<T> + "_" + std::to_string(D);
  launch(kernel, int(tiles.size()), heads, (TILE_ROWS + 4 * TILE_KEYS) * D * 2, Memory(qkv), Memory(tiles), out, heads,
         float(scale * 1.4426950408889634));
  std::vector<double> expected(size_t(tokens) * heads * D);
  const auto at = [&](int token, int which, int head, int column) {
    return double(to_float(qkv[((size_t(token) * 3 + which) * heads + head) * D + column]));
  };
  int start = 0;
  for (const int length : lengths) {
    for (int head = 0; head < heads; ++head) {
      for (int query = 0; query < length; ++query) {
        std::vector<double> scores(length);
        double highest = -INFINITY, total = 0.0;
        for (int key = 0; key < length; ++key) {
          double score = 0.0;
          for (int column = 0; column < D; ++column)
            score += at(start + query, 0, head, column) * at(start + key, 1, head, column);
          scores[key] = score * scale;
          highest = std::max(highest, scores[key]);
        }
        for (auto& score : scores) total += score = std::exp(score - highest);
        for (int column = 0; column < D; ++column) {
          double sum = 0.0;
          for (int key = 0; key < length; ++key) sum += scores[key] / total * at(start + key, 2, head, column);
          expected[(size_t(start + query) * heads + head) * D + column] = sum;
        }
      }
    }
    start += length;
  }
  std::string name = std::string("attention ") + NAME<T> + " " + std::to_string(D) + ", lengths";
  for (const int length : lengths) name += " " + std::to_string(length);
  compare(name, out, expected, 2.5 * ROUNDING<T>);
}

template <typename T>
std::vector<double> normalised(const std::vector<double>& rows, const std::vector<T>& weight, const std::vector<T>& bias,
                               int hidden, double epsilon) {
  std::vector<double> result(rows.size());
  for (size_t row = 0; row < rows.size() / hidden; ++row) {
    const double* of = rows.data() + row * hidden;
    double mean = 0.0, variance = 0.0;
    for (int column = 0; column < hidden; ++column) mean += of[column] / hidden;
    for (int column = 0; column < hidden; ++column) variance += (of[column] - mean) * (of[column] - mean) / hidden;
    for (int column = 0; column < hidden; ++column)
      result[row * hidden + column] =
          (of[column] - mean) / std::sqrt(variance + epsilon) * to_float(weight[column]) + to_float(bias[column]);
  }
  return result;
}

int blocks(int rows) { return (rows + WARPS - 1) / WARPS; }

template <typename T>
void check_rows(int tokens, int hidden) {
  const float epsilon = 1e-12f;
  const std::string of = std::string(NAME<T>) + ", " + std::to_string(tokens) + " x " + std::to_string(hidden);
  const std::string suffix = std::string("_") + NAME<T>;
  const auto weight = random_numbers<T>(hidden, 0.2f, 1.0f), bias = random_numbers<T>(hidden, 0.1f);
  const int vocabulary = 50;
  const auto word = random_numbers<T>(size_t(vocabulary) * hidden, 1.0f, 3.0f), position = random_numbers<T>(512 * size_t(hidden));
  std::vector<uint32_t> ids(tokens), positions(tokens);
  std::vector<double> sums(size_t(tokens) * hidden);
  for (int token = 0; token < tokens; ++token) {
    ids[token] = numbers() % vocabulary;
    positions[token] = token % 512;
    for (int column = 0; column < hidden; ++column)
      sums[size_t(token) * hidden + column] = double(to_float(word[size_t(ids[token]) * hidden + column])) +
                                              to_float(position[size_t(positions[token]) * hidden + column]);
  }
  const Memory state(nonsense<T>(size_t(tokens) * hidden));
  const Memory weights(weight), biases(bias);
  launch("embed" + suffix, blocks(tokens), 1, 0, Memory(ids), Memory(positions), Memory(word), Memory(position), weights, biases,
         state, tokens, hidden, epsilon);
  compare("embed " + of, state, normalised(sums, weight, bias, hidden, epsilon), 1.5 * ROUNDING<T>);

  const auto product = random_numbers<T>(size_t(tokens) * hidden, 2.0f), offset = random_numbers<T>(hidden);
  const auto before = state.values();
  for (size_t index = 0; index < sums.size(); ++index)
    sums[index] = double(to_float(product[index])) + to_float(offset[index % hidden]) + to_float(before[index]);
  const Memory offsets(offset);
  launch("add_normalise" + suffix, blocks(tokens), 1, 0, Memory(product), offsets, weights, biases, state, tokens, hidden, epsilon);
  compare("add_normalise " + of, state, normalised(sums, weight, bias, hidden, epsilon), 1.5 * ROUNDING<T>);

  auto values = nonsense<T>(size_t(tokens) * hidden);
  std::vector<double> expected(size_t(tokens) * hidden);
  for (size_t index = 0; index < expected.size(); ++index) {
    values[index] = rounded<T>(normal(3.0f));
    const double x = double(to_float(values[index])) + to_float(offset[index % hidden]);
    expected[index] = 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  const Memory activated(values);
  launch("add_gelu" + suffix, tokens, 1, 0, offsets, activated, hidden);
  compare("add_gelu " + of, activated, expected, 1.0 * ROUNDING<T>);

  const std::vector<uint32_t> cu_seqlens = {0, 1, uint32_t(tokens / 3) + 1, uint32_t(tokens)};
  const auto after = state.values();
  const Memory pooled(nonsense<float>(3 * size_t(hidden)));
  std::vector<double> means(3 * size_t(hidden));
  for (int sequence = 0; sequence < 3; ++sequence)
    for (uint32_t token = cu_seqlens[sequence]; token < cu_seqlens[sequence + 1]; ++token)
      for (int column = 0; column < hidden; ++column)
        means[size_t(sequence) * hidden + column] +=
            double(to_float(after[size_t(token) * hidden + column])) / (cu_seqlens[sequence + 1] - cu_seqlens[sequence]);
  launch("mean" + suffix, 3, 1, 0, state, Memory(cu_seqlens), pooled, hidden);
  compare("mean " + of, pooled, means, 1e-5);

  const int classes = 7;
  const auto head = random_numbers<float>(size_t(classes) * hidden, 0.05f), head_bias = random_numbers<float>(classes);
  std::vector<double> exact(size_t(tokens) * classes);
  for (int token = 0; token < tokens; ++token)
    for (int label = 0; label < classes; ++label) {
      double sum = head_bias[label];
      for (int column = 0; column < hidden; ++column)
        sum += double(to_float(after[size_t(token) * hidden + column])) * head[size_t(label) * hidden + column];
      exact[size_t(token) * classes + label] = sum;
    }
  const Memory heads(head), head_biases(head_bias);
  for (const bool has_tanh : {false, true}) {
    const Memory logits(nonsense<float>(size_t(tokens) * classes));
    launch("classify" + suffix, blocks(tokens), 1, 0, state, heads, head_biases, logits, tokens, hidden, classes, has_tanh);
    if (has_tanh)
      for (auto& value : exact) value = std::tanh(value);
    compare((has_tanh ? "classify with tanh " : "classify ") + of, logits, exact, 1e-4);
  }
}

template <typename T>
void check_all(int rounds) {
  check_attention<T, 32>({1, 16, 63, 64, 65, 130}, 2, 1.0f);
  check_attention<T, 64>({200, 1, 37}, 2, 1.0f);
  check_attention<T, 96>({70, 5}, 1, 1.0f);
  check_attention<T, 128>({129, 2}, 1, 1.0f);
  // Scores of some hundred, where a running maximum matters.
  check_attention<T, 32>({150}, 1, 6.0f);
  check_attention<T, 64>({512}, 1, 1.0f);
  for (int round = 0; round < rounds; ++round) {
    std::vector<int> lengths(1 + numbers() % 4);
    for (auto& length : lengths) length = 1 + int(numbers() % 150);
    check_attention<T, 32>(lengths, 1, 1.0f);
  }
  check_rows<T>(5, 384);
  check_rows<T>(9, 768);
  check_rows<T>(33, 1024);
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
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
