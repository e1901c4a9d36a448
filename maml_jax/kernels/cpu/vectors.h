// Vectors of numbers, of the size that this processor takes.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kWide = 4;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kWide = 2;
#else
constexpr int kVectorBytes = 16, kWide = 4;
#endif

template <typename T, int kBytes = kVectorBytes>
using Vector [[gnu::vector_size(kBytes)]] = T;
template <typename T>
constexpr int kLanes = kVectorBytes / sizeof(T);
template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Arrays whose elements shall be registers need loops that are unrolled whole.
#define UNROLL _Pragma("GCC unroll 16")

// By copies, which compile to one instruction, for no array need be aligned for vectors.
template <typename V, typename T>
V Load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename V, typename T>
void Store(T* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

// Of the elements of a and b from `first` on in turns as many as make a vector.
template <int first, typename V, size_t... k>
V Interleave(V a, V b, std::index_sequence<k...>) {
  return V{(k % 2 == 0 ? a : b)[first + k / 2]...};
}

// to[columns, rows] of from[rows, columns], by squares in registers: rounds of rows of the upper
// half interleaved with rows of the lower.
template <typename T>
void Transpose(const T* from, int64_t rows, int64_t columns, T* to) {
  constexpr int kSide = std::min(kVectorBytes, 32) / sizeof(T);
  using V = Vector<T, kSide * sizeof(T)>;
  constexpr std::make_index_sequence<kSide> kAll;
  int64_t i = 0;
  for (; i + kSide <= rows; i += kSide) {
    int64_t j = 0;
    for (; j + kSide <= columns; j += kSide) {
      V square[kSide], next[kSide];
      UNROLL for (int k = 0; k < kSide; ++k) square[k] = Load<V>(from + (i + k) * columns + j);
      UNROLL for (int round = 1; round < kSide; round *= 2) {
        UNROLL for (int k = 0; k < kSide; ++k)
          next[k] = k % 2 == 0 ? Interleave<0>(square[k / 2], square[(k + kSide) / 2], kAll)
                               : Interleave<kSide / 2>(square[k / 2], square[(k + kSide) / 2], kAll);
        UNROLL for (int k = 0; k < kSide; ++k) square[k] = next[k];
      }
      UNROLL for (int k = 0; k < kSide; ++k) Store<V>(to + (j + k) * rows + i, square[k]);
    }
    for (; j < columns; ++j)
      for (int k = 0; k < kSide; ++k) to[j * rows + i + k] = from[(i + k) * columns + j];
  }
  for (; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
}

}  // namespace
