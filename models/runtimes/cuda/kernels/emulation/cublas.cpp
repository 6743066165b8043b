// The parts of cublasLt that this project calls, on the emulated GPU.
#include "device.h"
#include "formats.h"

#include <cmath>

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

// to [m x n] = left^T [m x k] right [k x n], column-major, and a bias along the columns, and GELU if asked
// for.
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
