// Convolution and its two derivatives on a CPU, for weights that differ from task to task.
//
// All three are products of small matrices that stay in cache. Where there are few channels, patches
// are gathered a block at a time, never as a whole; else there is a product for each place of the
// window, with nothing copied and nothing multiplied by the zeros beyond the border. Kernels of 3×3
// at stride 1 are computed by Winograd's F(2×2, 3×3), which needs 16 multiplications where the
// definition has 36 (Lavin & Gray 2016, arXiv:1509.09308), but where that saves less than it costs.
//
// Arrays are dense: x [groups, images, height, width, channels], w [groups, kernel height, kernel
// width, channels, filters], y like x with the filters last. A group has its own w.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

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

// ---------------------------------------------------------------- products of small matrices

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

// ---------------------------------------------------------------- shapes, memory, threads

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
  // The convolution of y with the turned kernel that gives the derivative in x, at stride 1.
  Shape turned() const {
    return {images,  rows,         columns, filters, kernel_height,
            kernel_width, channels, height,  width,   1,
            kernel_height - 1 - padding};
  }
};

// Memory of a thread that is kept from call to call; aligned for vectors.
template <typename T>
T* Scratch(int which, size_t count) {
  thread_local std::vector<char> buffers[4];
  std::vector<char>& buffer = buffers[which];
  const size_t bytes = count * sizeof(T) + 64;
  if (buffer.size() < bytes) buffer.resize(bytes);
  const auto address = reinterpret_cast<uintptr_t>(buffer.data());
  return reinterpret_cast<T*>((address + 63) / 64 * 64);
}

// Calls work(0) … work(count - 1), each once, on this thread and on those of the pool that are
// free. This thread waits only for calls that have begun, so that a full pool cannot block it.
template <typename Work>
void Share(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  const int64_t threads = std::min<int64_t>(count, std::max<int64_t>(pool.num_threads(), 1));
  if (threads == 1) {
    for (int64_t i = 0; i < count; ++i) work(i);
    return;
  }
  auto state = std::make_shared<State>();
  // `work` is touched only by calls that the wait below is for.
  auto run = [state, count, &work] {
    for (int64_t i; (i = state->next.fetch_add(1)) < count;) {
      work(i);
      if (state->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->finished.notify_one();
      }
    }
  };
  for (int64_t i = 1; i < threads; ++i) pool.Schedule(std::function<void()>(run));
  run();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done.load() == count; });
}

// ---------------------------------------------------------------- by patches

constexpr int64_t kBlock = 96;  // positions whose patches are in memory at once

// Calls run(pixel, place, count) for each value of the window and for the positions of each row of
// y: under that value is first `pixel` of x and then every `stride * channels`th; they belong, side
// by side, at `place` in patches [depth, kBlock], whose columns are the positions from `first` on.
// Positions are in order of images, rows and columns. What is beyond the border is left out.
template <typename T, typename Place, typename Run>
void Runs(const Shape& s, T* x, int64_t first, int64_t count, Place* patches, const Run& run) {
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
        Place* places = patches + (i * s.kernel_width + j) * s.channels * kBlock + m;
        for (int64_t c = 0; c < s.channels && from < to; ++c)
          run(x + pixel * s.channels + c, places + c * kBlock + from, to - from);
      }
    }
  }
}

// patches[depth, kBlock], of which the first columns are the positions from `first` on.
template <typename T>
void Gather(const Shape& s, const T* x, int64_t first, int64_t count, T* patches) {
  const int64_t step = s.stride * s.channels;
  std::fill_n(patches, s.depth() * kBlock, T{});
  Runs(s, x, first, count, patches, [=](const T* pixel, T* place, int64_t n) {
    if (step == 1) std::copy_n(pixel, n, place);
    else for (int64_t k = 0; k < n; ++k) place[k] = pixel[k * step];
  });
}

// The transpose of Gather: adds the patches to x.
template <typename T>
void Scatter(const Shape& s, const T* patches, int64_t first, int64_t count, T* x) {
  const int64_t step = s.stride * s.channels;
  Runs(s, x, first, count, patches, [=](T* __restrict pixel, const T* __restrict place, int64_t n) {
    if (step == 1) for (int64_t k = 0; k < n; ++k) pixel[k] += place[k];
    else for (int64_t k = 0; k < n; ++k) pixel[k * step] += place[k];
  });
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
    T* turned = Scratch<T>(1, s.kernel());  // w transposed, [filters, channels]
    Transpose(w, s.channels, s.filters, turned);
    return Multiply<T>(s.positions(), s.channels, s.filters, y, s.filters, 1, turned, s.channels,
                       x, s.channels, false);
  }
  T* patches = Scratch<T>(0, s.depth() * kBlock);
  T* turned = Scratch<T>(1, s.filters * kBlock);  // a block of y transposed, [filters, block]
  std::fill_n(x, s.input(), T{});
  for (int64_t m = 0; m < s.positions(); m += kBlock) {
    const int64_t block = std::min(kBlock, s.positions() - m);
    Transpose(y + m * s.filters, block, s.filters, turned);
    Multiply<T>(s.depth(), block, s.filters, w, s.filters, 1, turned, block, patches, kBlock, false);
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

// ---------------------------------------------------------------- by taps
//
// A tap is one place of the window. The pixels under it, those beyond the border left out, are the
// rows of a product with the tap's w (indirect convolution, Dukhan 2019, arXiv:1907.02129).

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
  T* turned = Scratch<T>(1, s.channels * s.filters);  // the tap's w transposed
  std::fill_n(x, s.input(), T{});
  Taps(s, [&](const Pairs& pairs, int64_t tap) {
    Transpose(w + tap, s.channels, s.filters, turned);
    AddRows(pairs.count, s.channels, s.filters, y, pairs.y, turned, x, pairs.x);
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

// ---------------------------------------------------------------- Winograd F(2×2, 3×3)
//
// An output tile of 2×2 is Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A of an input tile of 4×4. Summed over channels
// the ⊙ is a matrix product for each of the 16 places of a tile.

constexpr int kPlaces = 16;
constexpr int64_t kTiles = 48;  // tiles in memory at once

// From one place to the next of so many values: a line more, or all places of a value would have
// the same few lines of the cache to themselves.
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

// The kernel's places, 16 times [channels, filters], of w [3, 3, channels, filters]. Turned: of the
// kernel that gives the derivative in x, 16 times [filters, channels], of the same w.
template <typename T>
void KernelPlaces(const T* w, int64_t channels, int64_t filters, bool turn, T* places) {
  const int64_t area = channels * filters, step = Step<T>(area);
  T* ordered = nullptr;
  if (turn) {
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
      T* to = places + 4 * i * step + at;
      Store<V>(to, a);
      Store<V>(to + step, half * (a + b + c));
      Store<V>(to + 2 * step, half * (a - b + c));
      Store<V>(to + 3 * step, c);
    }
  });
}

// The transpose of KernelPlaces: w [3, 3, channels, filters] of places.
template <typename T>
void KernelFromPlaces(const T* places, int64_t area, T* w) {
  const int64_t step = Step<T>(area);
  Channels<T>(area, [&](int64_t at, auto zero) {
    using V = decltype(zero);
    const T half = T(0.5);
    V rows[3][4];
    for (int j = 0; j < 4; ++j) {
      const T* from = places + j * step + at;
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

// places, 16 times [kTiles, channels], of the input tiles from `first` on.
template <typename T>
void InputPlaces(const Shape& s, const T* x, int64_t first, int64_t count, const T* zeros,
                 T* places) {
  const int64_t place = Step<T>(kTiles * s.channels);
  for (int64_t m = 0; m < count; ++m, places += s.channels) {
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
        T* to = places + 4 * i * place + c;
        Store<V>(to, rows[i][0] - rows[i][2]);
        Store<V>(to + place, rows[i][1] + rows[i][2]);
        Store<V>(to + 2 * place, rows[i][2] - rows[i][1]);
        Store<V>(to + 3 * place, rows[i][1] - rows[i][3]);
      }
    });
  }
}

// y's tiles from `first` on, of places, 16 times [kTiles, filters],.
template <typename T>
void OutputFromPlaces(const Shape& s, const T* places, int64_t first, int64_t count, T* unused,
                      T* y) {
  const int64_t place = Step<T>(kTiles * s.filters);
  for (int64_t m = 0; m < count; ++m, places += s.filters) {
    const Corner corner = TileAt(s, first + m);
    T* to[2][2];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        const int64_t row = corner.top + i, column = corner.left + j;
        to[i][j] = row < s.rows && column < s.columns
                       ? y + ((corner.image * s.rows + row) * s.columns + column) * s.filters
                       : unused;
      }
    Channels<T>(s.filters, [&](int64_t f, auto zero) {
      using V = decltype(zero);
      V rows[2][4];
      for (int j = 0; j < 4; ++j) {
        const T* from = places + j * place + f;
        const V a = Load<V>(from), b = Load<V>(from + 4 * place), c = Load<V>(from + 8 * place),
                d = Load<V>(from + 12 * place);
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

// The transpose of OutputFromPlaces: places, 16 times [kTiles, filters], of y's tiles.
template <typename T>
void OutputPlaces(const Shape& s, const T* y, int64_t first, int64_t count, const T* zeros,
                  T* places) {
  const int64_t place = Step<T>(kTiles * s.filters);
  for (int64_t m = 0; m < count; ++m, places += s.filters) {
    const Corner corner = TileAt(s, first + m);
    const T* from[2][2];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        const int64_t row = corner.top + i, column = corner.left + j;
        from[i][j] = row < s.rows && column < s.columns
                         ? y + ((corner.image * s.rows + row) * s.columns + column) * s.filters
                         : zeros;
      }
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
        T* to = places + 4 * i * place + f;
        Store<V>(to, rows[i][0]);
        Store<V>(to + place, rows[i][0] + rows[i][1]);
        Store<V>(to + 2 * place, rows[i][0] - rows[i][1]);
        Store<V>(to + 3 * place, -rows[i][1]);
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

// y of x and the kernel's places.
template <typename T>
void WinogradOutput(const Shape& s, const T* x, const T* kernel, T* y) {
  const int64_t in_step = Step<T>(kTiles * s.channels), out_step = Step<T>(kTiles * s.filters);
  T* in = Scratch<T>(0, kPlaces * (in_step + out_step));
  T* out = in + kPlaces * in_step;
  const int64_t kernel_step = Step<T>(s.channels * s.filters);
  const int64_t widest = std::max(s.channels, s.filters);
  const T* zeros = Zeros<T>(widest);
  T* unused = const_cast<T*>(zeros) + widest;
  for (int64_t m = 0; m < s.tiles(); m += kTiles) {
    const int64_t block = std::min(kTiles, s.tiles() - m);
    InputPlaces(s, x, m, block, zeros, in);
    for (int p = 0; p < kPlaces; ++p)
      Multiply<T>(block, s.filters, s.channels, in + p * in_step, s.channels, 1,
                  kernel + p * kernel_step, s.filters, out + p * out_step, s.filters, false);
    OutputFromPlaces(s, out, m, block, unused, y);
  }
}

template <typename T>
void WinogradKernel(const Shape& s, const T* x, const T* y, T* w) {
  const int64_t in_step = Step<T>(kTiles * s.channels), out_step = Step<T>(kTiles * s.filters);
  T* in = Scratch<T>(0, kPlaces * (in_step + out_step));
  T* out = in + kPlaces * in_step;
  const int64_t area = s.channels * s.filters, kernel_step = Step<T>(area);
  T* kernel = Scratch<T>(1, kPlaces * kernel_step);
  const T* zeros = Zeros<T>(std::max(s.channels, s.filters));
  for (int64_t m = 0; m < s.tiles(); m += kTiles) {
    const int64_t block = std::min(kTiles, s.tiles() - m);
    InputPlaces(s, x, m, block, zeros, in);
    OutputPlaces(s, y, m, block, zeros, out);
    for (int p = 0; p < kPlaces; ++p)
      Multiply<T>(s.channels, s.filters, block, in + p * in_step, 1, s.channels,
                  out + p * out_step, s.filters, kernel + p * kernel_step, s.filters, m > 0);
  }
  KernelFromPlaces(kernel, area, w);
}

// ---------------------------------------------------------------- what XLA calls

template <typename T>
void Output(const Shape& s, const T* x, const T* w, T* y) {
  if (!s.winograd()) return s.deep() ? TapOutput(s, x, w, y) : DirectOutput(s, x, w, y);
  T* kernel = Scratch<T>(1, kPlaces * Step<T>(s.channels * s.filters));
  KernelPlaces(w, s.channels, s.filters, false, kernel);
  WinogradOutput(s, x, kernel, y);
}

template <typename T>
void Input(const Shape& s, const T* y, const T* w, T* x) {
  const Shape turned = s.turned();
  if (!s.winograd() || turned.padding < 0 || !turned.winograd())
    return s.deep() ? TapInput(s, y, w, x) : DirectInput(s, y, w, x);
  T* kernel = Scratch<T>(1, kPlaces * Step<T>(s.channels * s.filters));
  KernelPlaces(w, s.channels, s.filters, true, kernel);
  WinogradOutput(turned, y, kernel, x);
}

template <typename T>
void Kernel(const Shape& s, const T* x, const T* y, T* w) {
  if (s.winograd()) return WinogradKernel(s, x, y, w);
  s.deep() ? TapKernel(s, x, y, w) : DirectKernel(s, x, y, w);
}

// Calls work(group, part) for each group and for the parts of its images, in which images `first`
// to `first + part.images` are. How many parts depends on the shape alone, and so do the bits; the
// last ones may have no images, and are left out.
template <typename Work>
void ShareParts(ffi::ThreadPool& pool, int64_t groups, const Shape& s, int64_t parts,
                const Work& work) {
  const int64_t each = (s.images + parts - 1) / parts;
  auto one = [&](int64_t i) {
    Shape part = s;
    const int64_t first = i % parts * each;
    part.images = std::min(each, s.images - first);
    if (part.images > 0) work(i / parts, i % parts, first, part);
  };
  constexpr int64_t kWorthwhile = 1 << 21;  // multiplications, below which threads only cost
  if (groups * s.positions() * s.depth() * s.filters >= kWorthwhile)
    return Share(pool, groups * parts, one);
  for (int64_t i = 0; i < groups * parts; ++i) one(i);
}

// Into how many parts the images of a group are divided, at most `most`.
inline int64_t Parts(const Shape& s, int64_t most) {
  constexpr int64_t kPart = 1 << 26;  // multiplications of one
  const int64_t parts = s.positions() * s.depth() * s.filters / kPart;
  return std::clamp<int64_t>(parts, 1, std::min(most, std::max<int64_t>(1, s.images)));
}

template <ffi::DataType kType>
using Buffer = ffi::Buffer<kType>;

template <ffi::DataType kType>
Shape ShapeOf(const Buffer<kType>& x, const Buffer<kType>& w, const Buffer<kType>& y,
              int64_t stride, int64_t padding) {
  const auto xd = x.dimensions(), wd = w.dimensions(), yd = y.dimensions();
  return {xd[1], xd[2], xd[3], xd[4], wd[1], wd[2], wd[4], yd[2], yd[3], stride, padding};
}

// y of x, or x of y: of each part of a group's images, by the group's w.
template <ffi::DataType kType, bool kInput>
ffi::Error ConvImages(ffi::ThreadPool pool, Buffer<kType> from, Buffer<kType> w,
                      ffi::ResultBuffer<kType> to, int64_t stride, int64_t padding) {
  using T = ffi::NativeType<kType>;
  const Shape s = kInput ? ShapeOf<kType>(*to, w, from, stride, padding)
                         : ShapeOf<kType>(from, w, *to, stride, padding);
  const T *froms = from.typed_data(), *ws = w.typed_data();
  T* tos = to->typed_data();
  auto work = [&](int64_t group, int64_t, int64_t first, const Shape& part) {
    const int64_t image = group * s.images + first;
    const int64_t x = image * s.input_each(), y = image * s.output_each();
    const T* kernel = ws + group * s.kernel();
    kInput ? Input(part, froms + y, kernel, tos + x) : Output(part, froms + x, kernel, tos + y);
  };
  ShareParts(pool, w.dimensions()[0], s, Parts(s, 64), work);
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error ConvKernel(ffi::ThreadPool pool, Buffer<kType> x, Buffer<kType> y,
                      ffi::ResultBuffer<kType> w, int64_t stride, int64_t padding) {
  using T = ffi::NativeType<kType>;
  const Shape s = ShapeOf<kType>(x, *w, y, stride, padding);
  const int64_t groups = x.dimensions()[0], parts = Parts(s, 4), size = s.kernel();
  const T *xs = x.typed_data(), *ys = y.typed_data();
  T* ws = w->typed_data();
  if (s.images == 0) std::fill_n(ws, groups * size, T{});
  std::vector<T> others((parts - 1) * groups * size);  // what the parts but the first add
  auto work = [&](int64_t group, int64_t p, int64_t first, const Shape& part) {
    const int64_t image = group * s.images + first;
    T* to = p == 0 ? ws + group * size : others.data() + ((p - 1) * groups + group) * size;
    Kernel(part, xs + image * s.input_each(), ys + image * s.output_each(), to);
  };
  ShareParts(pool, groups, s, parts, work);
  for (int64_t p = 1; p < parts; ++p)
    for (int64_t i = 0; i < groups * size; ++i) ws[i] += others[(p - 1) * groups * size + i];
  return ffi::Error::Success();
}

template <ffi::DataType kType>
constexpr auto Signature() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .template Arg<Buffer<kType>>()
      .template Arg<Buffer<kType>>()
      .template Ret<Buffer<kType>>()
      .template Attr<int64_t>("stride")
      .template Attr<int64_t>("padding");
}

}  // namespace

constexpr auto *kOutput32 = ConvImages<ffi::F32, false>, *kInput32 = ConvImages<ffi::F32, true>;
constexpr auto *kOutput64 = ConvImages<ffi::F64, false>, *kInput64 = ConvImages<ffi::F64, true>;
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_output_float32, kOutput32, Signature<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_output_float64, kOutput64, Signature<ffi::F64>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_input_float32, kInput32, Signature<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_input_float64, kInput64, Signature<ffi::F64>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_kernel_float32, ConvKernel<ffi::F32>, Signature<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_kernel_float64, ConvKernel<ffi::F64>, Signature<ffi::F64>());
