// The parts of the CUDA driver, of cublasLt and of NVML that this project calls, over the emulated kernels: a GPU for tests of whatever
// launches them. One library under the names of all three (models/runtimes/cuda/tests/common/emulation.rs). Streams do nothing until somebody waits for them, and
// then go on in an order drawn by seed within what events allow, so that a missing wait shows; copies read and write when
// it is their turn; memory is nonsense until it is written, has guards, and there is only so much of it.
//
// Declarations are written from NVIDIA's documentation of the three interfaces. The environment says what the GPU is like:
//   EMULATED_GPUS=n            how many there are (1)
//   EMULATED_GPU_MEMORY=bytes  of each (16 GiB)
//   EMULATED_GPU_DIES=n        the nth kernel that is launched reads an address that is not there
//   EMULATED_GPU_OLD=1         there is no machine code for it
#define EMULATED
#include "../kernels.cu"

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  NO_BINARY_FOR_GPU = 209,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_ISOLATION = 905,
};

long setting(const char* name, long otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atol(value);
}

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "emulated GPU: %s\n", why.c_str());
  std::abort();
}

using Work = std::function<void()>;

struct Event {
  // Times it was recorded, and times the stream has come to that.
  uint64_t recorded = 0, reached = 0;
};

struct Operation {
  Work work;
  // What has to be reached before it.
  Event* event = nullptr;
  uint64_t time = 0;
};

struct Device;

struct Graph {
  std::vector<Work> works;
  // Launches that have not run, and where; on a device that is lost they never will.
  int pending = 0;
  Device* device = nullptr;
};

struct Stream {
  Device* device;
  std::deque<Operation> operations;
  Graph* captured = nullptr;
};

constexpr size_t GUARD = 512;

struct Allocation {
  size_t bytes;
  // Its stream has come to it: before that no other stream may use it.
  bool is_there;
};

struct Device {
  int number;
  std::map<uintptr_t, Allocation> memory;
  size_t used = 0;
  std::vector<Stream*> streams;
  // Once something went wrong, everything does.
  int error = SUCCESS;
};

struct Module {};

// A kernel by name: copies its arguments when it is launched, and runs it when it is its turn.
struct Kernel {
  std::function<Work(void** arguments, int columns, int rows, int threads, int shared)> bind;
  int shared_max = 48 * 1024;
};

std::recursive_mutex lock;
std::mt19937 chance(11);
std::vector<Device> devices;
thread_local Device* current = nullptr;
std::map<void*, size_t> pinned;
long launches = 0;

template <typename... A, size_t... index>
std::tuple<A...> copied(void** arguments, std::index_sequence<index...>) {
  return {*static_cast<A*>(arguments[index])...};
}

template <typename... A>
Kernel kernel(void (*function)(A...)) {
  return {[function](void** arguments, int columns, int rows, int threads, int shared) -> Work {
    const auto values = copied<A...>(arguments, std::index_sequence_for<A...>());
    return [=] { emulation::launch(columns, rows, threads, shared, [&] { std::apply(function, values); }); };
  }};
}

std::map<std::string, Kernel>& kernels() {
#define OF(name) {#name, kernel(name)}
#define OF_FORMAT(format)                                                                                                      \
  OF(attention_##format##_32), OF(attention_##format##_64), OF(attention_##format##_96), OF(attention_##format##_128), \
      OF(embed_##format), OF(add_normalise_##format), OF(add_gelu_##format), OF(mean_##format), OF(classify_##format)
  static std::map<std::string, Kernel> all = {OF_FORMAT(bf16), OF_FORMAT(f16), OF(classify_f32)};
  return all;
}

// Does the next operation of a stream if it may come now.
bool step(Stream& stream) {
  if (stream.operations.empty()) return false;
  Operation& operation = stream.operations.front();
  if (operation.event != nullptr && operation.event->reached < operation.time) return false;
  const Work work = std::move(operation.work);
  stream.operations.pop_front();
  if (work && stream.device->error == SUCCESS) work();
  return true;
}

// Lets some stream of a device go on; false if none can.
bool step(Device& device) {
  std::vector<Stream*> order = device.streams;
  std::shuffle(order.begin(), order.end(), chance);
  for (Stream* stream : order)
    if (step(*stream)) return true;
  return false;
}

void push(Stream& stream, Work work) {
  if (stream.captured != nullptr)
    stream.captured->works.push_back(std::move(work));
  else
    stream.operations.push_back({std::move(work)});
}

template <typename F>
int finish(Device& device, F is_done) {
  while (device.error == SUCCESS && !is_done())
    if (!step(device)) die("waiting for what never comes");
  return device.error;
}

void check_guard(uintptr_t address, size_t bytes) {
  const auto* guard = reinterpret_cast<const unsigned char*>(address + bytes);
  for (size_t index = 0; index < GUARD; ++index)
    if (guard[index] != 0xff) die("something was written beyond the end of an allocation of " + std::to_string(bytes));
}

Device& of(Stream* stream) { return *stream->device; }

bool is_capturing(Device& device) {
  for (Stream* stream : device.streams)
    if (stream->captured != nullptr) return true;
  return false;
}

size_t capacity() { return size_t(setting("EMULATED_GPU_MEMORY", 16L << 30)); }

int allocate(Stream& stream, uint64_t* address, size_t bytes) {
  Device& device = *stream.device;
  if (device.error != SUCCESS) return device.error;
  if (is_capturing(device)) return CAPTURE_UNSUPPORTED;
  if (bytes == 0) return INVALID_VALUE;
  if (device.used + bytes > capacity()) return OUT_OF_MEMORY;
  void* memory = std::aligned_alloc(256, (bytes + GUARD + 255) / 256 * 256);
  if (memory == nullptr) return OUT_OF_MEMORY;
  std::memset(memory, 0xff, bytes + GUARD);
  *address = reinterpret_cast<uintptr_t>(memory);
  device.memory[*address] = {bytes, false};
  device.used += bytes;
  push(stream, [&device, address = *address] { device.memory.at(address).is_there = true; });
  return SUCCESS;
}

int release(Device& device, uint64_t address) {
  const auto found = device.memory.find(address);
  if (found == device.memory.end()) return INVALID_VALUE;
  const size_t bytes = found->second.bytes;
  check_guard(address, bytes);
  std::memset(reinterpret_cast<void*>(address), 0xff, bytes);
  device.used -= bytes;
  std::free(reinterpret_cast<void*>(address));
  device.memory.erase(found);
  return SUCCESS;
}

// Whether that many bytes from there on are of one allocation, and it is there by now.
void check_memory(Device& device, uint64_t address, size_t bytes) {
  auto next = device.memory.upper_bound(address);
  if (next == device.memory.begin()) die("an address of no allocation");
  --next;
  if (address + bytes > next->first + next->second.bytes) die("a copy beyond the end of an allocation");
  if (!next->second.is_there) die("memory is used before its stream has come to its allocation");
}

bool is_pinned(const void* address) {
  auto next = pinned.upper_bound(const_cast<void*>(address));
  if (next == pinned.begin()) return false;
  --next;
  return static_cast<const char*>(address) < static_cast<const char*>(next->first) + next->second;
}

// What a kernel that is launched does to a device that is to die of it.
Work mortal(Device& device, Work work) {
  const long last = setting("EMULATED_GPU_DIES", 0);
  if (last == 0) return work;
  return [&device, work, last] {
    if (++launches == last)
      device.error = ILLEGAL_ADDRESS;
    else
      work();
  };
}

}  // namespace

#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

// ---- The driver: devices and contexts ----

API int cuInit(unsigned) {
  LOCKED;
  if (devices.empty()) {
    devices.resize(size_t(setting("EMULATED_GPUS", 1)));
    for (size_t index = 0; index < devices.size(); ++index) devices[index].number = int(index);
  }
  return SUCCESS;
}

API int cuDeviceGetCount(int* count) {
  *count = int(devices.size());
  return SUCCESS;
}

API int cuDeviceGet(int* device, int number) {
  if (number < 0 || number >= int(devices.size())) return INVALID_DEVICE;
  *device = number;
  return SUCCESS;
}

API int cuDeviceGetName(char* name, int length, int device) {
  std::snprintf(name, size_t(length), "emulated GPU %d", device);
  return SUCCESS;
}

API int cuDeviceGetUuid_v2(char* uuid, int device) {
  std::memset(uuid, 0, 16);
  uuid[15] = char(device);
  return SUCCESS;
}

API int cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int MAJOR = 75, MINOR = 76, MEMORY_POOLS = 115;
  *value = attribute == MAJOR ? 9 : attribute == MINOR ? 0 : attribute == MEMORY_POOLS ? 1 : 0;
  return SUCCESS;
}

API int cuDevicePrimaryCtxRetain(Device** context, int device) {
  *context = &devices[size_t(device)];
  return SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxGetCurrent(Device** context) {
  *context = current;
  return SUCCESS;
}
API int cuCtxSetCurrent(Device* context) {
  current = context;
  return SUCCESS;
}

API int cuMemGetInfo_v2(size_t* free, size_t* total) {
  LOCKED;
  *total = capacity();
  *free = capacity() - current->used;
  return SUCCESS;
}

API int cuGetErrorName(int error, const char** name) {
  *name = error == OUT_OF_MEMORY       ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == NO_BINARY_FOR_GPU ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
          : error == ILLEGAL_ADDRESS   ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                       : "CUDA_ERROR";
  return SUCCESS;
}
API int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }

// ---- Streams and events ----

API int cuStreamCreate(Stream** stream, unsigned) {
  LOCKED;
  *stream = new Stream{current, {}, nullptr};
  current->streams.push_back(*stream);
  return SUCCESS;
}

API int cuStreamSynchronize(Stream* stream) {
  LOCKED;
  if (stream->captured != nullptr) return CAPTURE_UNSUPPORTED;
  return finish(of(stream), [&] { return stream->operations.empty(); });
}

API int cuStreamDestroy_v2(Stream* stream) {
  LOCKED;
  Device& device = of(stream);
  const int error = cuStreamSynchronize(stream);
  device.streams.erase(std::find(device.streams.begin(), device.streams.end(), stream));
  delete stream;
  return error;
}

API int cuCtxSynchronize() {
  LOCKED;
  for (Stream* stream : current->streams)
    if (const int error = cuStreamSynchronize(stream)) return error;
  return current->error;
}

API int cuEventCreate(Event** event, unsigned) {
  *event = new Event;
  return SUCCESS;
}

// Streams may still name it, so it stays.
API int cuEventDestroy_v2(Event*) { return SUCCESS; }

API int cuEventRecord(Event* event, Stream* stream) {
  LOCKED;
  if (stream->captured != nullptr) die("an event of this project is recorded in a capture");
  const uint64_t time = ++event->recorded;
  push(*stream, [event, time] { event->reached = time; });
  return of(stream).error;
}

API int cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
  LOCKED;
  if (stream->captured != nullptr) return CAPTURE_ISOLATION;
  stream->operations.push_back({nullptr, event, event->recorded});
  return of(stream).error;
}

API int cuEventQuery(Event* event) {
  LOCKED;
  // Time passes: every look finds the device a little further.
  for (int steps = int(chance() % 4); steps > 0; --steps) step(*current);
  if (current->error != SUCCESS) return current->error;
  return event->reached >= event->recorded ? SUCCESS : NOT_READY;
}

API int cuEventSynchronize(Event* event) {
  LOCKED;
  return finish(*current, [&] { return event->reached >= event->recorded; });
}

// ---- Memory ----

API int cuMemAllocAsync(uint64_t* address, size_t bytes, Stream* stream) {
  LOCKED;
  return allocate(*stream, address, bytes);
}

API int cuMemFreeAsync(uint64_t address, Stream* stream) {
  LOCKED;
  Device& device = of(stream);
  push(*stream, [&device, address] {
    if (release(device, address) != SUCCESS) die("what is freed was never allocated");
  });
  return device.error;
}

API int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  LOCKED;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*memory, 0xff, bytes);
  pinned[*memory] = bytes;
  return SUCCESS;
}

API int cuMemFreeHost(void* memory) {
  LOCKED;
  std::memset(memory, 0xff, pinned.at(memory));
  pinned.erase(memory);
  std::free(memory);
  return SUCCESS;
}

// From memory that may move the driver copies before it returns; from pinned memory when it is time.
API int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
  LOCKED;
  Device& device = of(stream);
  const auto* start = static_cast<const char*>(from);
  const std::vector<char> copied = is_pinned(from) ? std::vector<char>() : std::vector<char>(start, start + bytes);
  push(*stream, [=, &device] {
    check_memory(device, to, bytes);
    std::memcpy(reinterpret_cast<void*>(to), copied.empty() ? from : copied.data(), bytes);
  });
  return device.error;
}

API int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
  LOCKED;
  Device& device = of(stream);
  push(*stream, [=, &device] {
    check_memory(device, from, bytes);
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  });
  return is_pinned(to) ? device.error : cuStreamSynchronize(stream);
}

// ---- Kernels and graphs ----

API int cuModuleLoadData(Module** module, const void*) {
  if (setting("EMULATED_GPU_OLD", 0) != 0) return NO_BINARY_FOR_GPU;
  *module = new Module;
  return SUCCESS;
}
API int cuModuleUnload(Module* module) {
  delete module;
  return SUCCESS;
}

API int cuModuleGetFunction(Kernel** function, Module*, const char* name) {
  const auto found = kernels().find(name);
  if (found == kernels().end()) return NOT_FOUND;
  *function = &found->second;
  return SUCCESS;
}

API int cuFuncSetAttribute(Kernel* function, int attribute, int value) {
  constexpr int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
  if (attribute == MAX_DYNAMIC_SHARED_SIZE_BYTES) function->shared_max = value;
  return SUCCESS;
}

API int cuLaunchKernel(Kernel* function, unsigned columns, unsigned rows, unsigned, unsigned threads, unsigned, unsigned,
                       unsigned shared, Stream* stream, void** arguments, void**) {
  LOCKED;
  if (columns == 0 || rows == 0 || rows > 65535 || threads > 1024 || int(shared) > function->shared_max) return INVALID_VALUE;
  push(*stream, mortal(of(stream), function->bind(arguments, int(columns), int(rows), int(threads), int(shared))));
  return of(stream).error;
}

API int cuStreamBeginCapture_v2(Stream* stream, int) {
  LOCKED;
  if (stream->captured != nullptr) return INVALID_VALUE;
  stream->captured = new Graph;
  return of(stream).error;
}

API int cuStreamEndCapture(Stream* stream, Graph** graph) {
  LOCKED;
  *graph = stream->captured;
  stream->captured = nullptr;
  return *graph == nullptr ? INVALID_VALUE : of(stream).error;
}

API int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
  *executable = new Graph(*graph);
  return SUCCESS;
}

API int cuGraphLaunch(Graph* executable, Stream* stream) {
  LOCKED;
  ++executable->pending;
  executable->device = stream->device;
  push(*stream, [executable] {
    for (const Work& work : executable->works) work();
    --executable->pending;
  });
  return of(stream).error;
}

API int cuGraphDestroy(Graph* graph) {
  delete graph;
  return SUCCESS;
}
API int cuGraphExecDestroy(Graph* executable) {
  LOCKED;
  if (executable->pending != 0 && executable->device->error == SUCCESS) die("a graph is destroyed before it has run");
  delete executable;
  return SUCCESS;
}

// ---- cublasLt ----

namespace {
struct Product {
  int transposed_left = 0;
  int epilogue = 1;
  uint64_t bias = 0;
};

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
};

// What is taken apart in to_float.
float number(int type, const uint16_t* at) {
  constexpr int BF16 = 14;
  if (type == BF16) return to_float(__nv_bfloat16{*at});
  return to_float(__half{*at});
}

void put(int type, float value, uint16_t* at) {
  constexpr int BF16 = 14;
  __nv_bfloat16 bfloat;
  __half half;
  from_float(value, bfloat);
  from_float(value, half);
  *at = type == BF16 ? bfloat.bits : half.bits;
}

std::vector<float> unpacked(const Layout& layout, const void* from) {
  std::vector<float> result(layout.rows * layout.columns);
  const auto* numbers = static_cast<const uint16_t*>(from);
  for (uint64_t column = 0; column < layout.columns; ++column)
    for (uint64_t row = 0; row < layout.rows; ++row)
      result[column * layout.rows + row] = number(layout.type, numbers + int64_t(column) * layout.stride + int64_t(row));
  return result;
}

constexpr int BIAS = 4, GELU_BIAS = 36;

// to [m x n] = left^T [m x k] right [k x n], column-major, and a bias along the columns, and GELU if asked for.
void multiply(const Product& product, const Layout& left, const void* a, const Layout& right, const void* b, const Layout& to,
              void* d) {
  const std::vector<float> weights = unpacked(left, a), values = unpacked(right, b);
  const auto* bias = reinterpret_cast<const uint16_t*>(product.bias);
  for (uint64_t column = 0; column < to.columns; ++column) {
    for (uint64_t row = 0; row < to.rows; ++row) {
      float sum = bias == nullptr ? 0.0f : number(to.type, bias + row);
      const float *x = &weights[row * left.rows], *y = &values[column * right.rows];
#pragma omp simd reduction(+ : sum)
      for (uint64_t k = 0; k < left.rows; ++k) sum += x[k] * y[k];
      if (product.epilogue == GELU_BIAS) sum = 0.5f * sum * (1.0f + std::tanh(0.7978845608f * (sum + 0.044715f * sum * sum * sum)));
      put(to.type, sum, static_cast<uint16_t*>(d) + int64_t(column) * to.stride + int64_t(row));
    }
  }
}
}  // namespace

API int cublasLtCreate(void** handle) {
  *handle = new int;
  return 0;
}
API int cublasLtDestroy(void* handle) {
  delete static_cast<int*>(handle);
  return 0;
}
API int cublasLtMatmulDescCreate(Product** product, int, int) {
  *product = new Product;
  return 0;
}
API int cublasLtMatmulDescDestroy(Product* product) {
  delete product;
  return 0;
}
API int cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, size_t) {
  constexpr int TRANSPOSED_LEFT = 3, EPILOGUE = 7, BIAS_POINTER = 8;
  if (attribute == TRANSPOSED_LEFT) std::memcpy(&product->transposed_left, value, 4);
  if (attribute == EPILOGUE) std::memcpy(&product->epilogue, value, 4);
  if (attribute == BIAS_POINTER) std::memcpy(&product->bias, value, 8);
  return 0;
}
API int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  *layout = new Layout{type, rows, columns, stride};
  return 0;
}
API int cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return 0;
}
API int cublasLtMatmulPreferenceCreate(void** preference) { return cublasLtCreate(preference); }
API int cublasLtMatmulPreferenceDestroy(void* preference) { return cublasLtDestroy(preference); }
API int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return 0; }

namespace {
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
}  // namespace

API int cublasLtMatmulAlgoGetHeuristic(void*, Product*, Layout* left, Layout*, Layout*, Layout* to, void*, int, Heuristic* found,
                                       int* count) {
  *found = {};
  // The algorithm is of these sizes alone.
  found->algorithm[0] = left->rows;
  found->algorithm[1] = to->rows;
  found->algorithm[2] = to->columns;
  *count = 1;
  return 0;
}

API int cublasLtMatmul(void*, Product* product, const void* alpha, const void* a, Layout* left, const void* b, Layout* right,
                       const void* beta, const void*, Layout*, void* d, Layout* to, const uint64_t* algorithm, void* workspace,
                       size_t workspace_bytes, Stream* stream) {
  LOCKED;
  constexpr int INVALID = 7;
  float one, zero;
  std::memcpy(&one, alpha, 4);
  std::memcpy(&zero, beta, 4);
  const bool is_known = one == 1.0f && zero == 0.0f && product->transposed_left == 1 && left->rows == right->rows &&
                        to->rows == left->columns && to->columns == right->columns &&
                        (product->bias != 0) == (product->epilogue == BIAS || product->epilogue == GELU_BIAS);
  const bool is_chosen = algorithm[0] == left->rows && algorithm[1] == to->rows && algorithm[2] == to->columns;
  if (!is_known || !is_chosen) return INVALID;
  Device& device = of(stream);
  const auto work = [=, &device, product = *product, left = *left, right = *right, to = *to] {
    check_memory(device, reinterpret_cast<uint64_t>(workspace), workspace_bytes);
    check_memory(device, reinterpret_cast<uint64_t>(d), size_t(to.stride) * to.columns * 2);
    check_memory(device, reinterpret_cast<uint64_t>(b), size_t(right.stride) * right.columns * 2);
    multiply(product, left, a, right, b, to, d);
  };
  push(*stream, mortal(device, work));
  return device.error == SUCCESS ? 0 : 14;
}

// ---- NVML ----

API int nvmlInit_v2() { return cuInit(0); }
API int nvmlShutdown() { return 0; }
API int nvmlSystemGetDriverVersion(char* version, unsigned length) {
  std::snprintf(version, length, "580.0");
  return 0;
}

API int nvmlDeviceGetHandleByUUID(const char* uuid, Device** device) {
  constexpr int NOT_FOUND_BY_NVML = 6;
  const int number = int(std::strtol(uuid + std::strlen(uuid) - 2, nullptr, 16));
  if (std::strncmp(uuid, "GPU-", 4) != 0 || number >= int(devices.size())) return NOT_FOUND_BY_NVML;
  *device = &devices[size_t(number)];
  return 0;
}

API int nvmlDeviceGetUtilizationRates(Device*, unsigned* gpu_and_memory) {
  gpu_and_memory[0] = 42;
  gpu_and_memory[1] = 7;
  return 0;
}

namespace {
struct Memory {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
}  // namespace

API int nvmlDeviceGetMemoryInfo_v2(Device* device, Memory* memory) {
  LOCKED;
  memory->total = capacity();
  memory->reserved = 0;
  memory->used = device->used;
  memory->free = capacity() - device->used;
  return 0;
}

API int nvmlDeviceGetPowerUsage(Device*, unsigned* milliwatts) {
  *milliwatts = 123456;
  return 0;
}

API int nvmlDeviceGetClockInfo(Device*, int clock, unsigned* megahertz) {
  constexpr int SM = 1;
  *megahertz = clock == SM ? 1980 : 3201;
  return 0;
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(Device*, unsigned long long* reasons) {
  constexpr unsigned long long SOFTWARE_POWER_CAP = 4;
  *reasons = SOFTWARE_POWER_CAP;
  return 0;
}
