// A tape: what is computed of a small task, as instructions on arrays that stay in cache.
//
// `tape.py` writes it. An array is named by an address: in its upper half which base, in its lower
// how many numbers after that. Base 0 is the thread's own memory, then follow the operands and then
// the sums. Whole numbers are kept as T, and so are truths, as 1 and 0.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "products.h"

namespace {

struct Instruction {
  int64_t operation, to, sources[3], numbers[12];
};

// Element by element; `numbers` are how many, and of each source whether it has so many, or one
// for all.
#define UNARY(EACH)                                                                             \
  EACH(neg, -a) EACH(abs, std::abs(a)) EACH(sign, T(a > 0) - T(a < 0) + (a != a ? a : 0))       \
  EACH(square, a * a) EACH(sqrt, std::sqrt(a)) EACH(rsqrt, 1 / std::sqrt(a))                    \
  EACH(exp, std::exp(a)) EACH(expm1, std::expm1(a)) EACH(log, std::log(a))                      \
  EACH(log1p, std::log1p(a)) EACH(tanh, std::tanh(a)) EACH(logistic, 1 / (1 + std::exp(-a)))    \
  EACH(not, a == 0) EACH(is_finite, a - a == 0)
#define BINARY(EACH)                                                                            \
  EACH(add, a + b) EACH(sub, a - b) EACH(mul, a * b) EACH(div, a / b) EACH(pow, std::pow(a, b)) \
  EACH(max, a > b || a != a ? a : b) EACH(min, a < b || a != a ? a : b)                         \
  EACH(gt, a > b) EACH(lt, a < b) EACH(ge, a >= b) EACH(le, a <= b) EACH(eq, a == b)            \
  EACH(ne, a != b) EACH(and, a * b) EACH(or, a + b > 0)
// Along four axes: `numbers` are their sizes, the steps in `to`, the steps in the source.
#define MOVES(EACH) EACH(copy) EACH(reduce_sum) EACH(reduce_max)
#define OTHERS(EACH)                                                                            \
  EACH(select_n)  /* how many, of which each of the three has so many */                        \
  EACH(transpose) /* rows, columns */                                                           \
  EACH(product)   /* rows, columns, depth, from row to row of the first, along its rows */      \
  EACH(repeat) EACH(again) /* how often, what is between */                                     \
  EACH(take) EACH(put)     /* a part of a stack, of what size, the first one's, from it on */

enum class Operation : int64_t {
#define NAME(name, ...) k_##name,
  UNARY(NAME) BINARY(NAME) MOVES(NAME) OTHERS(NAME)
#undef NAME
};
#define NAME(name, ...) #name " "
constexpr char kOperations[] = UNARY(NAME) BINARY(NAME) MOVES(NAME) OTHERS(NAME);
#undef NAME

constexpr int kLoops = 8;  // within one another

template <typename T, typename F>
[[gnu::noinline]] void Map(int64_t count, const T* __restrict a, T* __restrict to, const F& f) {
  for (int64_t i = 0; i < count; ++i) to[i] = f(a[i]);
}

// Each case has a loop of its own, or none would be one of vectors.
template <typename T, typename F>
[[gnu::noinline]] void Map(int64_t count, const T* a, bool many_a, const T* b, bool many_b, T* to,
                           const F& f) {
  const T x = *a, y = *b;
  if (many_a && many_b) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) to[i] = f(a[i], b[i]);
  } else if (many_a) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) to[i] = f(a[i], y);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) to[i] = f(x, b[i]);
  }
}

template <int b_step, int c_step, typename T>
void Choose(int64_t count, const T* __restrict which, const T* __restrict b, const T* __restrict c,
            T* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    const T x = b[i * b_step], y = c[i * c_step];
    to[i] = which[i] != 0 ? y : x;
  }
}

// c where `which` is true, elsewhere b.
template <typename T>
void Select(int64_t count, const T* which, bool many_which, const T* b, bool many_b, const T* c,
            bool many_c, T* to) {
  if (!many_which) {
    const T* from = *which != 0 ? c : b;
    if (*which != 0 ? many_c : many_b) std::copy_n(from, count, to);
    else std::fill_n(to, count, *from);
  } else if (many_b) {
    many_c ? Choose<1, 1>(count, which, b, c, to) : Choose<1, 0>(count, which, b, c, to);
  } else {
    many_c ? Choose<0, 1>(count, which, b, c, to) : Choose<0, 0>(count, which, b, c, to);
  }
}

template <typename T>
T Sum(const T* a, int64_t count) {
  using V = Vector<T>;
  V sums{};
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) sums += Load<V>(a + i);
  T sum{};
  for (int k = 0; k < kLanes<T>; ++k) sum += sums[k];
  for (; i < count; ++i) sum += a[i];
  return sum;
}

// The innermost axis of a move.
template <Operation kind, typename T>
void MoveRow(int64_t count, const T* __restrict from, int64_t from_step, T* __restrict to,
             int64_t step) {
  if constexpr (kind == Operation::k_copy) {
    if (step == 1 && from_step == 1) std::copy_n(from, count, to);
    else if (step == 1 && from_step == 0) std::fill_n(to, count, *from);
    else for (int64_t i = 0; i < count; ++i) to[i * step] = from[i * from_step];
  } else if constexpr (kind == Operation::k_reduce_sum) {
    if (step == 1 && from_step == 1) for (int64_t i = 0; i < count; ++i) to[i] += from[i];
    else if (step == 0 && from_step == 1) *to += Sum(from, count);
    else for (int64_t i = 0; i < count; ++i) to[i * step] += from[i * from_step];
  } else {
    for (int64_t i = 0; i < count; ++i) {
      const T x = from[i * from_step], y = to[i * step];
      to[i * step] = x > y || x != x ? x : y;
    }
  }
}

template <Operation kind, typename T>
[[gnu::noinline]] void Move(const int64_t* sizes, const int64_t* steps, const int64_t* from_steps,
                            const T* from, T* to) {
  for (int64_t i = 0; i < sizes[0]; ++i)
    for (int64_t j = 0; j < sizes[1]; ++j)
      for (int64_t k = 0; k < sizes[2]; ++k)
        MoveRow<kind>(sizes[3], from + i * from_steps[0] + j * from_steps[1] + k * from_steps[2],
                      from_steps[3], to + i * steps[0] + j * steps[1] + k * steps[2], steps[3]);
}

template <typename T>
void Run(const Instruction* program, int64_t length, T* const* bases) {
  auto at = [&](int64_t address) { return bases[address >> 32] + (address & 0xffffffff); };
  struct {
    const Instruction* start;
    int64_t done;
  } loops[kLoops];
  int depth = -1;
  for (const Instruction* p = program; p < program + length; ++p) {
    const int64_t* n = p->numbers;
    T* to = at(p->to);
    const T *a = at(p->sources[0]), *b = at(p->sources[1]), *c = at(p->sources[2]);
    switch (static_cast<Operation>(p->operation)) {
#define CASE(name, value)                                                 \
  case Operation::k_##name:                                               \
    Map<T>(n[0], a, to, [](T a) -> T { return value; });                  \
    break;
      UNARY(CASE)
#undef CASE
#define CASE(name, value)                                                 \
  case Operation::k_##name:                                               \
    Map<T>(n[0], a, n[1], b, n[2], to, [](T a, T b) -> T { return value; }); \
    break;
      BINARY(CASE)
#undef CASE
#define CASE(name)                                                        \
  case Operation::k_##name:                                               \
    Move<Operation::k_##name>(n, n + 4, n + 8, a, to);                    \
    break;
      MOVES(CASE)
#undef CASE
      case Operation::k_select_n:
        Select(n[0], a, n[1], b, n[2], c, n[3], to);
        break;
      case Operation::k_transpose:
        Transpose(a, n[0], n[1], to);
        break;
      case Operation::k_product:
        Multiply<T>(n[0], n[1], n[2], a, n[3], n[4], b, n[1], to, n[1], false);
        break;
      case Operation::k_repeat:
        loops[++depth] = {p, 0};
        break;
      case Operation::k_again:
        if (++loops[depth].done < n[0]) p = loops[depth].start;
        else --depth;
        break;
      case Operation::k_take:
        std::copy_n(a + (n[1] + n[2] * loops[depth].done) * n[0], n[0], to);
        break;
      case Operation::k_put:
        std::copy_n(a, n[0], to + (n[1] + n[2] * loops[depth].done) * n[0]);
        break;
    }
  }
}

}  // namespace
