// Convolution with kernels of 3×3 at stride 1 by Winograd's F(2×2, 3×3), which needs 16
// multiplications where the definition has 36 (Lavin & Gray 2016, arXiv:1509.09308).
//
// An output tile of 2×2 is Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A of an input tile of 4×4. G w Gᵀ and Bᵀ x B are
// 4×4: the transform domain has 16 elements. Summed over channels the ⊙ is a matrix product for
// each of them.

#pragma once

#include <algorithm>
#include <cstdint>

#include "products.h"
#include "shape.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int kElements = 16;  // of the transform domain
constexpr int64_t kTiles = 48;  // tiles in memory at once

// How far apart two elements are of which each has so many values: one cache line more, or all
// elements of a value would compete for the same few lines of the cache.
template <typename T>
int64_t Step(int64_t values) {
  return values + 64 / static_cast<int64_t>(sizeof(T));
}

// For the vectors of `count` channels: op(channel) with V a vector, then with V a scalar.
template <typename T, typename Op>
void Channels(int64_t count, const Op& op) {
  int64_t c = 0;
  for (; c + kLanes<T> <= count; c += kLanes<T>) op(c, Vector<T>{});
  for (; c < count; ++c) op(c, T{});
}

// G w Gᵀ: elements, 16 times [channels, filters], of w [3, 3, channels, filters]. With `flip`, of
// the kernel that gives the derivative in x: 16 times [filters, channels], of the same w.
template <typename T>
void TransformKernel(const T* w, int64_t channels, int64_t filters, bool flip, T* elements) {
  const int64_t area = channels * filters, step = Step<T>(area);
  T* ordered = nullptr;
  if (flip) {
    ordered = Scratch<T>(3, 9 * area);
    for (int64_t k = 0; k < 9; ++k)
      Transpose(w + k * area, channels, filters, ordered + (8 - k) * area);
    w = ordered;
  }
  Channels<T>(area, [&](int64_t at, auto zero) {
    using V = decltype(zero);
    const T half = T(0.5);
    V rows[4][3];
    for (int j = 0; j < 3; ++j) {
      const V a = Load<V>(w + j * area + at), b = Load<V>(w + (3 + j) * area + at),
              c = Load<V>(w + (6 + j) * area + at);
      rows[0][j] = a;
      rows[1][j] = half * (a + b + c);
      rows[2][j] = half * (a - b + c);
      rows[3][j] = c;
    }
    for (int i = 0; i < 4; ++i) {
      const V a = rows[i][0], b = rows[i][1], c = rows[i][2];
      T* to = elements + 4 * i * step + at;
      Store<V>(to, a);
      Store<V>(to + step, half * (a + b + c));
      Store<V>(to + 2 * step, half * (a - b + c));
      Store<V>(to + 3 * step, c);
    }
  });
}

// The transpose of TransformKernel: w [3, 3, channels, filters] of 16 times [channels, filters].
template <typename T>
void TransformKernelTransposed(const T* elements, int64_t area, T* w) {
  const int64_t step = Step<T>(area);
  Channels<T>(area, [&](int64_t at, auto zero) {
    using V = decltype(zero);
    const T half = T(0.5);
    V rows[3][4];
    for (int j = 0; j < 4; ++j) {
      const T* from = elements + j * step + at;
      const V a = Load<V>(from), b = Load<V>(from + 4 * step), c = Load<V>(from + 8 * step),
              d = Load<V>(from + 12 * step);
      rows[0][j] = a + half * (b + c);
      rows[1][j] = half * (b - c);
      rows[2][j] = half * (b + c) + d;
    }
    for (int i = 0; i < 3; ++i) {
      const V a = rows[i][0], b = rows[i][1], c = rows[i][2], d = rows[i][3];
      T* to = w + 3 * i * area + at;
      Store<V>(to, a + half * (b + c));
      Store<V>(to + area, half * (b - c));
      Store<V>(to + 2 * area, half * (b + c) + d);
    }
  });
}

struct Corner {
  int64_t image, top, left;  // of the output's 2×2 positions
};

inline Corner TileAt(const Shape& s, int64_t tile) {
  const int64_t per_image = s.tiles_high() * s.tiles_wide();
  return {tile / per_image, tile / s.tiles_wide() % s.tiles_high() * 2,
          tile % s.tiles_wide() * 2};
}

// Where in y the output tile's positions are, and `outside` for those beyond its border.
template <typename T>
void OutputPixels(const Shape& s, int64_t tile, T* y, T* outside, T* (&pixels)[2][2]) {
  const Corner corner = TileAt(s, tile);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      const int64_t row = corner.top + i, column = corner.left + j;
      const bool inside = row < s.rows && column < s.columns;
      pixels[i][j] =
          inside ? y + ((corner.image * s.rows + row) * s.columns + column) * s.filters : outside;
    }
}

// Bᵀ x B: elements, 16 times [kTiles, channels], of the input tiles from `first` on.
template <typename T>
void TransformInput(const Shape& s, const T* x, int64_t first, int64_t count, const T* zeros,
                    T* elements) {
  const int64_t step = Step<T>(kTiles * s.channels);
  for (int64_t m = 0; m < count; ++m, elements += s.channels) {
    const Corner corner = TileAt(s, first + m);
    const T* from[4][4];
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) {
        const int64_t row = corner.top + i - s.padding, column = corner.left + j - s.padding;
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        from[i][j] =
            inside ? x + ((corner.image * s.height + row) * s.width + column) * s.channels : zeros;
      }
    Channels<T>(s.channels, [&](int64_t c, auto zero) {
      using V = decltype(zero);
      V rows[4][4];
      for (int j = 0; j < 4; ++j) {
        const V a = Load<V>(from[0][j] + c), b = Load<V>(from[1][j] + c),
                d = Load<V>(from[2][j] + c), e = Load<V>(from[3][j] + c);
        rows[0][j] = a - d;
        rows[1][j] = b + d;
        rows[2][j] = d - b;
        rows[3][j] = b - e;
      }
      for (int i = 0; i < 4; ++i) {
        T* to = elements + 4 * i * step + c;
        Store<V>(to, rows[i][0] - rows[i][2]);
        Store<V>(to + step, rows[i][1] + rows[i][2]);
        Store<V>(to + 2 * step, rows[i][2] - rows[i][1]);
        Store<V>(to + 3 * step, rows[i][1] - rows[i][3]);
      }
    });
  }
}

// Aᵀ m A: y's tiles from `first` on, of elements m, 16 times [kTiles, filters].
template <typename T>
void TransformOutput(const Shape& s, const T* elements, int64_t first, int64_t count, T* unused,
                     T* y) {
  const int64_t step = Step<T>(kTiles * s.filters);
  for (int64_t m = 0; m < count; ++m, elements += s.filters) {
    T* to[2][2];
    OutputPixels(s, first + m, y, unused, to);
    Channels<T>(s.filters, [&](int64_t f, auto zero) {
      using V = decltype(zero);
      V rows[2][4];
      for (int j = 0; j < 4; ++j) {
        const T* from = elements + j * step + f;
        const V a = Load<V>(from), b = Load<V>(from + 4 * step), c = Load<V>(from + 8 * step),
                d = Load<V>(from + 12 * step);
        rows[0][j] = a + b + c;
        rows[1][j] = b - c - d;
      }
      for (int i = 0; i < 2; ++i) {
        Store<V>(to[i][0] + f, rows[i][0] + rows[i][1] + rows[i][2]);
        Store<V>(to[i][1] + f, rows[i][1] - rows[i][2] - rows[i][3]);
      }
    });
  }
}

// The transpose of TransformOutput: elements, 16 times [kTiles, filters], of y's tiles.
template <typename T>
void TransformOutputTransposed(const Shape& s, const T* y, int64_t first, int64_t count,
                               const T* zeros, T* elements) {
  const int64_t step = Step<T>(kTiles * s.filters);
  for (int64_t m = 0; m < count; ++m, elements += s.filters) {
    const T* from[2][2];
    OutputPixels(s, first + m, y, zeros, from);
    Channels<T>(s.filters, [&](int64_t f, auto zero) {
      using V = decltype(zero);
      V rows[4][2];
      for (int j = 0; j < 2; ++j) {
        const V a = Load<V>(from[0][j] + f), b = Load<V>(from[1][j] + f);
        rows[0][j] = a;
        rows[1][j] = a + b;
        rows[2][j] = a - b;
        rows[3][j] = -b;
      }
      for (int i = 0; i < 4; ++i) {
        T* to = elements + 4 * i * step + f;
        Store<V>(to, rows[i][0]);
        Store<V>(to + step, rows[i][0] + rows[i][1]);
        Store<V>(to + 2 * step, rows[i][0] - rows[i][1]);
        Store<V>(to + 3 * step, -rows[i][1]);
      }
    });
  }
}

template <typename T>
const T* Zeros(int64_t count) {
  T* zeros = Scratch<T>(2, 2 * count);
  std::fill_n(zeros, count, T{});
  return zeros;
}

// y of x and of the transformed kernel.
template <typename T>
void WinogradOutput(const Shape& s, const T* x, const T* kernel, T* y) {
  const int64_t in_step = Step<T>(kTiles * s.channels), out_step = Step<T>(kTiles * s.filters);
  T* in = Scratch<T>(0, kElements * (in_step + out_step));
  T* out = in + kElements * in_step;
  const int64_t kernel_step = Step<T>(s.channels * s.filters);
  const int64_t widest = std::max(s.channels, s.filters);
  const T* zeros = Zeros<T>(widest);
  T* unused = const_cast<T*>(zeros) + widest;
  for (int64_t m = 0; m < s.tiles(); m += kTiles) {
    const int64_t block = std::min(kTiles, s.tiles() - m);
    TransformInput(s, x, m, block, zeros, in);
    for (int p = 0; p < kElements; ++p)
      Multiply<T>(block, s.filters, s.channels, in + p * in_step, s.channels, 1,
                  kernel + p * kernel_step, s.filters, out + p * out_step, s.filters, false);
    TransformOutput(s, out, m, block, unused, y);
  }
}

template <typename T>
void WinogradKernel(const Shape& s, const T* x, const T* y, T* w) {
  const int64_t in_step = Step<T>(kTiles * s.channels), out_step = Step<T>(kTiles * s.filters);
  T* in = Scratch<T>(0, kElements * (in_step + out_step));
  T* out = in + kElements * in_step;
  const int64_t area = s.channels * s.filters, kernel_step = Step<T>(area);
  T* kernel = Scratch<T>(1, kElements * kernel_step);
  const T* zeros = Zeros<T>(std::max(s.channels, s.filters));
  for (int64_t m = 0; m < s.tiles(); m += kTiles) {
    const int64_t block = std::min(kTiles, s.tiles() - m);
    TransformInput(s, x, m, block, zeros, in);
    TransformOutputTransposed(s, y, m, block, zeros, out);
    for (int p = 0; p < kElements; ++p)
      Multiply<T>(s.channels, s.filters, block, in + p * in_step, 1, s.channels,
                  out + p * out_step, s.filters, kernel + p * kernel_step, s.filters, m > 0);
  }
  TransformKernelTransposed(kernel, area, w);
}

}  // namespace
