// The parts of NVML that this project calls, of the emulated GPUs.
#include "device.h"

// Of the driver.
API int cuInit(unsigned);

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
