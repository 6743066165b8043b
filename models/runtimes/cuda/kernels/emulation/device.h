// An emulated GPU for tests of whatever launches kernels: its memory and its streams. Over it stand the parts
// of the CUDA driver (driver.cpp), of cublasLt (cublas.cpp) and of NVML (nvml.cpp) that this project calls:
// one library under the names of all three (models/runtimes/cuda/tests/common/emulation.rs). Streams do
// nothing until somebody waits for them, and then go on in an order drawn by seed within what events allow,
// so that a missing wait shows; copies read and write when it is their turn; memory is nonsense until it is
// written, has guards, and there is only so much of it.
//
// Declarations are written from NVIDIA's documentation of the three interfaces. The environment says what the
// GPU is like:
//   EMULATED_GPUS=n            how many there are (1)
//   EMULATED_GPU_MEMORY=bytes  of each (16 GiB)
//   EMULATED_GPU_DIES=n        the nth kernel that is launched reads an address that is not there
//   EMULATED_GPU_OLD=1         there is no machine code for it
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

// Of all three: what one changes, the others see.
namespace gpu {

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

inline long setting(const char* name, long otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atol(value);
}

[[noreturn]] inline void die(const std::string& why) {
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

inline std::recursive_mutex lock;
inline std::mt19937 chance(11);
inline std::vector<Device> devices;
inline thread_local Device* current = nullptr;
inline std::map<void*, size_t> pinned;
inline long launches = 0;

// Does the next operation of a stream if it may come now.
inline bool step(Stream& stream) {
  if (stream.operations.empty()) return false;
  Operation& operation = stream.operations.front();
  if (operation.event != nullptr && operation.event->reached < operation.time) return false;
  const Work work = std::move(operation.work);
  stream.operations.pop_front();
  if (work && stream.device->error == SUCCESS) work();
  return true;
}

// Lets some stream of a device go on; false if none can.
inline bool step(Device& device) {
  std::vector<Stream*> order = device.streams;
  std::shuffle(order.begin(), order.end(), chance);
  for (Stream* stream : order)
    if (step(*stream)) return true;
  return false;
}

inline void push(Stream& stream, Work work) {
  if (stream.captured != nullptr)
    stream.captured->works.push_back(std::move(work));
  else
    stream.operations.push_back({std::move(work)});
}

template <typename F>
inline int finish(Device& device, F is_done) {
  while (device.error == SUCCESS && !is_done())
    if (!step(device)) die("waiting for what never comes");
  return device.error;
}

inline void check_guard(uintptr_t address, size_t bytes) {
  const auto* guard = reinterpret_cast<const unsigned char*>(address + bytes);
  for (size_t index = 0; index < GUARD; ++index)
    if (guard[index] != 0xff) die("something was written beyond the end of an allocation of " + std::to_string(bytes));
}

inline Device& of(Stream* stream) { return *stream->device; }

inline bool is_capturing(Device& device) {
  for (Stream* stream : device.streams)
    if (stream->captured != nullptr) return true;
  return false;
}

inline size_t capacity() { return size_t(setting("EMULATED_GPU_MEMORY", 16L << 30)); }

inline int allocate(Stream& stream, uint64_t* address, size_t bytes) {
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

inline int release(Device& device, uint64_t address) {
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
inline void check_memory(Device& device, uint64_t address, size_t bytes) {
  auto next = device.memory.upper_bound(address);
  if (next == device.memory.begin()) die("an address of no allocation");
  --next;
  if (address + bytes > next->first + next->second.bytes) die("a copy beyond the end of an allocation");
  if (!next->second.is_there) die("memory is used before its stream has come to its allocation");
}

inline bool is_pinned(const void* address) {
  auto next = pinned.upper_bound(const_cast<void*>(address));
  if (next == pinned.begin()) return false;
  --next;
  return static_cast<const char*>(address) < static_cast<const char*>(next->first) + next->second;
}

// What a kernel that is launched does to a device that is to die of it.
inline Work mortal(Device& device, Work work) {
  const long last = setting("EMULATED_GPU_DIES", 0);
  if (last == 0) return work;
  return [&device, work, last] {
    if (++launches == last)
      device.error = ILLEGAL_ADDRESS;
    else
      work();
  };
}

}  // namespace gpu

using namespace gpu;
