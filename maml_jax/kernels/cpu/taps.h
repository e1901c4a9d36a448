// Convolution where there are many channels: a product for each tap, with nothing copied and
// nothing multiplied by the zeros beyond the border.
//
// A tap is one position in the window. The pixels under it, those beyond the border left out, are the
// rows of a product with the tap's w (indirect convolution, Dukhan 2019, arXiv:1907.02129).

#pragma once

#include <algorithm>
#include <cstdint>

#include "products.h"
#include "shape.h"
#include "threads.h"
#include "vectors.h"

namespace {

// For each position of y that has a pixel of x under the tap (i, j), where the two are.
struct Pairs {
  int count = 0;
  int64_t *x, *y;

  Pairs(const Shape& s, int64_t i, int64_t j)
      : x(Scratch<int64_t>(0, 2 * s.positions())), y(x + s.positions()) {
    for (int64_t m = 0; m < s.images * s.rows; ++m) {
      const int64_t row = m % s.rows * s.stride - s.padding + i;
      if (row < 0 || row >= s.height) continue;
      for (int64_t n = 0; n < s.columns; ++n) {
        const int64_t column = n * s.stride - s.padding + j;
        if (column < 0 || column >= s.width) continue;
        x[count] = ((m / s.rows * s.height + row) * s.width + column) * s.channels;
        y[count++] = (m * s.columns + n) * s.filters;
      }
    }
  }
};

// Calls work(pairs, where the tap's w begins) for each tap.
template <typename Work>
void Taps(const Shape& s, const Work& work) {
  for (int64_t i = 0; i < s.kernel_height; ++i)
    for (int64_t j = 0; j < s.kernel_width; ++j)
      work(Pairs(s, i, j), (i * s.kernel_width + j) * s.channels * s.filters);
}

// Adds a b to the rows of c that begin at `c_rows`, with the rows of a that begin at `a_rows`.
template <typename T>
void AddRows(int count, int columns, int depth, const T* a, const int64_t* a_rows, const T* b, T* c,
             const int64_t* c_rows) {
  Product<T>(
      count, columns, depth, [=](int i, int p) { return a + a_rows[i] + p; },
      [=](int p) { return b + p * columns; }, [=](int i) { return c + c_rows[i]; }, true);
}

template <typename T>
void TapOutput(const Shape& s, const T* x, const T* w, T* y) {
  std::fill_n(y, s.output(), T{});
  Taps(s, [&](const Pairs& pairs, int64_t tap) {
    AddRows(pairs.count, s.filters, s.channels, x, pairs.x, w + tap, y, pairs.y);
  });
}

template <typename T>
void TapInput(const Shape& s, const T* y, const T* w, T* x) {
  T* transposed = Scratch<T>(1, s.channels * s.filters);  // the tap's w transposed
  std::fill_n(x, s.input(), T{});
  Taps(s, [&](const Pairs& pairs, int64_t tap) {
    Transpose(w + tap, s.channels, s.filters, transposed);
    AddRows(pairs.count, s.channels, s.filters, y, pairs.y, transposed, x, pairs.x);
  });
}

template <typename T>
void TapKernel(const Shape& s, const T* x, const T* y, T* w) {
  Taps(s, [&](const Pairs& pairs, int64_t tap) {
    Product<T>(
        s.channels, s.filters, pairs.count, [&](int i, int p) { return x + pairs.x[p] + i; },
        [&](int p) { return y + pairs.y[p]; }, [&](int i) { return w + tap + i * s.filters; },
        false);
  });
}

}  // namespace
