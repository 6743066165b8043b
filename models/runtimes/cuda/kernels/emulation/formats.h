// The two formats of 16 bits on a CPU, with the names that CUDA has for them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

// Rounded to the nearest, ties to even.
struct __nv_bfloat16 {
  uint16_t bits = 0;
};
struct __half {
  uint16_t bits = 0;
};

inline float to_float(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}
inline float to_float(__half value) {
  static const std::vector<float> all = [] {
    std::vector<float> numbers(1 << 16);
    for (uint32_t bits = 0; bits < numbers.size(); ++bits) {
      const uint16_t half_bits = uint16_t(bits);
      _Float16 half;
      std::memcpy(&half, &half_bits, 2);
      numbers[bits] = float(half);
    }
    return numbers;
  }();
  return all[value.bits];
}
inline float to_float(float value) { return value; }

inline void from_float(float value, __nv_bfloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  to.bits = std::isnan(value) ? 0x7fff : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void from_float(float value, __half& to) {
  const _Float16 half = _Float16(value);
  std::memcpy(&to.bits, &half, 2);
}

