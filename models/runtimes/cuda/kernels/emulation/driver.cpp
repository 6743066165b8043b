// The parts of the CUDA driver that this project calls, over the emulated kernels and an emulated GPU.
#define EMULATED
#include "../kernels.cu"

#include "device.h"

#include <tuple>

namespace {

struct Module {};

// A kernel by name: copies its arguments when it is launched, and runs it when it is its turn.
struct Kernel {
  std::function<Work(void** arguments, int columns, int rows, int threads, int shared)> bind;
  int shared_max = 48 * 1024;
};

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
#define OF_FORMAT(format)                                                                                                  \
  OF(attention_##format##_32), OF(attention_##format##_64), OF(attention_##format##_96), OF(attention_##format##_128),     \
      OF(attention_distance_##format##_32), OF(attention_distance_##format##_64), OF(attention_distance_##format##_96),    \
      OF(attention_distance_##format##_128), OF(attention_positions_##format##_32), OF(attention_positions_##format##_64), \
      OF(embed_##format##_1024), OF(embed_##format##_4096), OF(add_normalise_##format##_1024),                             \
      OF(add_normalise_##format##_4096), OF(turn_##format), OF(activate_##format), OF(pool_##format), OF(classify_##format), \
      OF(scale_##format)
  static std::map<std::string, Kernel> all = {OF_FORMAT(bf16), OF_FORMAT(f16), OF(classify_f32), OF(scale_f32)};
  return all;
}

}  // namespace

// ---- Devices and contexts ----

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
