// Convolution where there are few channels: patches are gathered a block at a time, never as a
// whole, and multiplied.

#pragma once

#include <algorithm>
#include <cstdint>

#include "products.h"
#include "shape.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int64_t kBlock = 96;  // positions whose patches are in memory at once

// Calls run(pixel, entry, count) for each value of the window and for the positions of each row of
// y: under that value is first `pixel` of x and then every `stride * channels`th; they belong, side
// by side, at `entry` in patches [depth, kBlock], whose columns are the positions from `first` on.
// Positions are in order of images, rows and columns. What is beyond the border is left out.
template <typename T, typename Entry, typename Run>
void Runs(const Shape& s, T* x, int64_t first, int64_t count, Entry* patches, const Run& run) {
  for (int64_t m = 0, n; m < count; m += n) {
    const int64_t column = (first + m) % s.columns, line = (first + m) / s.columns;
    n = std::min(count - m, s.columns - column);
    for (int64_t i = 0; i < s.kernel_height; ++i) {
      const int64_t row = line % s.rows * s.stride - s.padding + i;
      if (row < 0 || row >= s.height) continue;
      for (int64_t j = 0; j < s.kernel_width; ++j) {
        // The columns of the run's positions are left, left + stride, …; some are not in x.
        const int64_t left = column * s.stride - s.padding + j;
        const int64_t from = left < 0 ? (s.stride - 1 - left) / s.stride : 0;
        const int64_t to = left < s.width ? std::min(n, (s.width - 1 - left) / s.stride + 1) : 0;
        const int64_t pixel = (line / s.rows * s.height + row) * s.width + left + from * s.stride;
        Entry* entries = patches + (i * s.kernel_width + j) * s.channels * kBlock + m;
        for (int64_t c = 0; c < s.channels && from < to; ++c)
          run(x + pixel * s.channels + c, entries + c * kBlock + from, to - from);
      }
    }
  }
}

// patches[depth, kBlock], of which the first columns are the positions from `first` on.
template <typename T>
void Gather(const Shape& s, const T* x, int64_t first, int64_t count, T* patches) {
  const int64_t step = s.stride * s.channels;
  std::fill_n(patches, s.depth() * kBlock, T{});
  Runs(s, x, first, count, patches, [=](const T* pixel, T* entry, int64_t n) {
    if (step == 1) std::copy_n(pixel, n, entry);
    else for (int64_t k = 0; k < n; ++k) entry[k] = pixel[k * step];
  });
}

// The transpose of Gather: adds the patches to x.
template <typename T>
void Scatter(const Shape& s, const T* patches, int64_t first, int64_t count, T* x) {
  const int64_t step = s.stride * s.channels;
  Runs(s, x, first, count, patches, [=](T* __restrict pixel, const T* __restrict entry, int64_t n) {
    if (step == 1) for (int64_t k = 0; k < n; ++k) pixel[k] += entry[k];
    else for (int64_t k = 0; k < n; ++k) pixel[k * step] += entry[k];
  });
}

// The patches of so many positions: value p of patch i is at data[i * row + p * step].
template <typename T>
struct Patches {
  const T* data;
  int64_t row = 1, step = kBlock;

  Patches(const Shape& s, const T* x, int64_t first, int64_t count) {
    if (s.pointwise()) {
      data = x + first * s.channels, row = s.channels, step = 1;
      return;
    }
    T* gathered = Scratch<T>(0, s.depth() * kBlock);
    Gather(s, x, first, count, gathered);
    data = gathered;
  }
};

template <typename T>
void DirectOutput(const Shape& s, const T* x, const T* w, T* y) {
  for (int64_t m = 0; m < s.positions(); m += kBlock) {
    const int64_t block = std::min(kBlock, s.positions() - m);
    const Patches<T> patches(s, x, m, block);
    Multiply<T>(block, s.filters, s.depth(), patches.data, patches.row, patches.step, w, s.filters,
                y + m * s.filters, s.filters, false);
  }
}

template <typename T>
void DirectInput(const Shape& s, const T* y, const T* w, T* x) {
  if (s.pointwise()) {
    T* transposed = Scratch<T>(1, s.kernel());  // w transposed, [filters, channels]
    Transpose(w, s.channels, s.filters, transposed);
    return Multiply<T>(s.positions(), s.channels, s.filters, y, s.filters, 1, transposed,
                       s.channels, x, s.channels, false);
  }
  T* patches = Scratch<T>(0, s.depth() * kBlock);
  T* transposed = Scratch<T>(1, s.filters * kBlock);  // a block of y transposed, [filters, block]
  std::fill_n(x, s.input(), T{});
  for (int64_t m = 0; m < s.positions(); m += kBlock) {
    const int64_t block = std::min(kBlock, s.positions() - m);
    Transpose(y + m * s.filters, block, s.filters, transposed);
    Multiply<T>(s.depth(), block, s.filters, w, s.filters, 1, transposed, block, patches, kBlock,
                false);
    Scatter(s, patches, m, block, x);
  }
}

template <typename T>
void DirectKernel(const Shape& s, const T* x, const T* y, T* w) {
  for (int64_t m = 0; m < s.positions(); m += kBlock) {
    const int64_t block = std::min(kBlock, s.positions() - m);
    const Patches<T> patches(s, x, m, block);
    Multiply<T>(s.depth(), s.filters, block, patches.data, patches.step, patches.row,
                y + m * s.filters, s.filters, w, s.filters, m > 0);
  }
}

}  // namespace
