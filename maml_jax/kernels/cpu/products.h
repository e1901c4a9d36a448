// Products of small matrices, which stay in cache.

#pragma once

#include <algorithm>
#include <cstdint>

#include "vectors.h"

namespace {

// c[kRows, kVectors vectors] (+)= a[kRows, depth] b[depth, vectors], held in registers throughout:
// a(i, p) is where an element is, b(p) and c(i) where a row begins.
template <typename T, typename V, int kRows, int kVectors, typename A, typename B, typename C>
void Tile(int depth, const A& a, const B& b, const C& c, bool add) {
  constexpr int kWidth = sizeof(V) / sizeof(T);
  T* rows[kRows];
  V sums[kRows][kVectors];
  UNROLL for (int i = 0; i < kRows; ++i) {
    rows[i] = c(i);
    UNROLL for (int j = 0; j < kVectors; ++j)
      sums[i][j] = add ? Load<V>(rows[i] + j * kWidth) : V{};
  }
  for (int p = 0; p < depth; ++p) {
    V row[kVectors];
    UNROLL for (int j = 0; j < kVectors; ++j) row[j] = Load<V>(b(p) + j * kWidth);
    UNROLL for (int i = 0; i < kRows; ++i) {
      const T factor = *a(i, p);
      UNROLL for (int j = 0; j < kVectors; ++j) sums[i][j] += factor * row[j];
    }
  }
  UNROLL for (int i = 0; i < kRows; ++i)
    UNROLL for (int j = 0; j < kVectors; ++j) Store<V>(rows[i] + j * kWidth, sums[i][j]);
}

// Of two rows of so many values, in sums that do not wait for one another.
template <typename T>
T Dot(int count, const T* a, const T* b) {
  using V = Vector<T, 16>;
  constexpr int kWidth = sizeof(V) / sizeof(T), kSums = 4;
  V sums[kSums] = {};
  int p = 0;
  for (; p + kSums * kWidth <= count; p += kSums * kWidth)
    for (int i = 0; i < kSums; ++i)
      sums[i] += Load<V>(a + p + i * kWidth) * Load<V>(b + p + i * kWidth);
  for (; p + kWidth <= count; p += kWidth) sums[0] += Load<V>(a + p) * Load<V>(b + p);
  const V all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  T sum{};
  for (int i = 0; i < kWidth; ++i) sum += all[i];
  for (; p < count; ++p) sum += a[p] * b[p];
  return sum;
}

// c[rows, columns] (+)= a b, by tiles; of no depth, zeros.
template <typename T, typename A, typename B, typename C>
void Product(int rows, int columns, int depth, const A& a, const B& b, const C& c, bool add) {
  constexpr int kDepth = 96;  // so much of b, a panel wide, stays in the first cache
  for (int p0 = 0; p0 == 0 || p0 < depth; p0 += kDepth) {
    const int deep = std::min(kDepth, depth - p0);
    int j = 0;
    // All panels that are `count` vectors V wide, in tiles of so many rows, then of fewer.
    auto panels = [&](auto vector, auto count, auto tall) {
      using V = decltype(vector);
      constexpr int kVectors = count(), width = kVectors * sizeof(V) / sizeof(T);
      for (; j + width <= columns; j += width) {
        int i = 0;
        auto take = [&](auto height) {
          for (; i + height() <= rows; i += height())
            Tile<T, V, height(), kVectors>(
                deep, [&](int r, int p) { return a(i + r, p0 + p); },
                [&](int p) { return b(p0 + p) + j; }, [&](int r) { return c(i + r) + j; },
                add || p0 > 0);
        };
        take(tall), take(Constant<4>{}), take(Constant<2>{}), take(Constant<1>{});
      }
    };
    panels(Vector<T>{}, Constant<kWide>{}, Constant<6>{});
    using Half = Vector<T, 32>;
    if (kVectorBytes == 64) {  // an odd number of halves left: together, for one alone is slow
      const int halves = (columns - j) * sizeof(T) / 32;
      if (halves == 7) panels(Half{}, Constant<7>{}, Constant<4>{});
      if (halves == 5) panels(Half{}, Constant<5>{}, Constant<5>{});
      if (halves == 3) panels(Half{}, Constant<3>{}, Constant<8>{});
    }
    panels(Vector<T>{}, Constant<2>{}, Constant<kWide == 4 ? 12 : 6>{});
    panels(Vector<T>{}, Constant<1>{}, Constant<12>{});
    panels(Half{}, Constant<1>{}, Constant<12>{});
    panels(Vector<T, 16>{}, Constant<1>{}, Constant<12>{});
    panels(T{}, Constant<1>{}, Constant<12>{});
  }
}

// c[rows, columns] (+)= a b, with element (i, p) of a at a[i * a_row + p * a_step].
template <typename T>
void Multiply(int rows, int columns, int depth, const T* a, int64_t a_row, int64_t a_step,
              const T* b, int64_t b_row, T* c, int64_t c_row, bool add) {
  if (columns == 1 && c_row == 1 && a_row == 1)  // aᵀ has its columns side by side
    return Multiply<T>(1, rows, depth, b, 0, b_row, a, a_step, c, rows, add);
  if (columns == 1 && b_row == 1 && a_step == 1) {
    for (int i = 0; i < rows; ++i) {
      const T before = add ? c[i * c_row] : T{};
      c[i * c_row] = before + Dot(depth, a + i * a_row, b);
    }
    return;
  }
  Product<T>(
      rows, columns, depth, [=](int i, int p) { return a + i * a_row + p * a_step; },
      [=](int p) { return b + p * b_row; }, [=](int i) { return c + i * c_row; }, add);
}

}  // namespace
