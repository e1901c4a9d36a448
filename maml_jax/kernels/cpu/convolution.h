// Convolution and its two derivatives on a CPU, for weights that differ from task to task.
//
// All three are products of small matrices that stay in cache: of patches where there are few
// channels (`patches.h`), of the pixels under a tap where there are more (`taps.h`), of the elements
// of Winograd's transform domain where that saves more than it costs (`winograd.h`).
//
// Arrays are dense: x [groups, images, height, width, channels], w [groups, kernel height, kernel
// width, channels, filters], y like x with the filters last. A group has its own w.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "buffers.h"
#include "patches.h"
#include "shape.h"
#include "taps.h"
#include "threads.h"
#include "winograd.h"

namespace {

void Output(const Shape& s, const T* x, const T* w, T* y) {
  if (!s.winograd()) return s.deep() ? TapOutput(s, x, w, y) : DirectOutput(s, x, w, y);
  T* kernel = Scratch<T>(1, kElements * Step<T>(s.channels * s.filters));
  TransformKernel(w, s.channels, s.filters, false, kernel);
  WinogradOutput(s, x, kernel, y);
}

void Input(const Shape& s, const T* y, const T* w, T* x) {
  const Shape flipped = s.flipped();
  if (!s.winograd() || flipped.padding < 0 || !flipped.winograd())
    return s.deep() ? TapInput(s, y, w, x) : DirectInput(s, y, w, x);
  T* kernel = Scratch<T>(1, kElements * Step<T>(s.channels * s.filters));
  TransformKernel(w, s.channels, s.filters, true, kernel);
  WinogradOutput(flipped, y, kernel, x);
}

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
int64_t Parts(const Shape& s, int64_t most) {
  constexpr int64_t kPart = 1 << 26;  // multiplications of one
  const int64_t parts = s.positions() * s.depth() * s.filters / kPart;
  return std::clamp<int64_t>(parts, 1, std::min(most, std::max<int64_t>(1, s.images)));
}

Shape ShapeOf(const Buffer& x, const Buffer& w, const Buffer& y, int64_t stride, int64_t padding) {
  const auto xd = x.dimensions(), wd = w.dimensions(), yd = y.dimensions();
  return {xd[1], xd[2], xd[3], xd[4], wd[1], wd[2], wd[4], yd[2], yd[3], stride, padding};
}

// y of x, or x of y: of each part of a group's images, by the group's w.
template <bool kInput>
ffi::Error ConvImages(ffi::ThreadPool pool, Buffer from, Buffer w, Result to, int64_t stride,
                      int64_t padding) {
  const Shape s = kInput ? ShapeOf(*to, w, from, stride, padding)
                         : ShapeOf(from, w, *to, stride, padding);
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

ffi::Error ConvKernel(ffi::ThreadPool pool, Buffer x, Buffer y, Result w, int64_t stride,
                      int64_t padding) {
  const Shape s = ShapeOf(x, *w, y, stride, padding);
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

auto ConvSignature() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Buffer>()
      .Arg<Buffer>()
      .Ret<Buffer>()
      .Attr<int64_t>("stride")
      .Attr<int64_t>("padding");
}

}  // namespace
