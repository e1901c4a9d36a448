// What is convolved with what.

#pragma once

#include <algorithm>
#include <cstdint>

namespace {

struct Shape {
  int64_t images, height, width, channels, kernel_height, kernel_width, filters, rows, columns;
  int64_t stride, padding;

  int64_t positions() const { return images * rows * columns; }
  int64_t depth() const { return kernel_height * kernel_width * channels; }
  int64_t input_each() const { return height * width * channels; }  // of an image
  int64_t output_each() const { return rows * columns * filters; }
  int64_t input() const { return images * input_each(); }
  int64_t output() const { return images * output_each(); }
  int64_t kernel() const { return depth() * filters; }
  int64_t tiles_high() const { return (rows + 1) / 2; }
  int64_t tiles_wide() const { return (columns + 1) / 2; }
  int64_t tiles() const { return images * tiles_high() * tiles_wide(); }
  bool pointwise() const {  // patches are x itself
    return kernel_height == 1 && kernel_width == 1 && stride == 1 && padding == 0;
  }
  // Whether Winograd's form has clearly less to multiply than there are pixels under taps.
  bool winograd() const {
    return kernel_height == 3 && kernel_width == 3 && stride == 1 && channels >= 16 &&
           filters >= 16 &&
           115 * 16 * tiles_high() * tiles_wide() <
               100 * Under(rows, kernel_height, height) * Under(columns, kernel_width, width);
  }
  // Whether products of single taps are large enough, and gathering values of pixels too slow.
  bool deep() const { return !pointwise() && channels >= 16 && filters >= 4; }
  // Along one axis, how many pixels are under the taps of a window at all its positions.
  int64_t Under(int64_t positions, int64_t taps, int64_t pixels) const {
    int64_t count = 0;
    for (int64_t first = -padding; first < positions * stride - padding; first += stride)
      count += std::max<int64_t>(0, std::min(first + taps, pixels) - std::max<int64_t>(first, 0));
    return count;
  }
  // The convolution of y with the flipped kernel that gives the derivative in x, at stride 1.
  Shape flipped() const {
    return {images,  rows,         columns, filters, kernel_height,
            kernel_width, channels, height,  width,   1,
            kernel_height - 1 - padding};
  }
};

}  // namespace
