// Small tasks, each run from beginning to end by one thread.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "buffers.h"
#include "tape.h"
#include "threads.h"

namespace {

// The sums over tasks of what the tape computes of each. The first `shared` operands are the same
// for all tasks; the others have one part for each. `memory` is how many numbers a task takes.
//
// Tasks are added up in blocks, and then the blocks: how many there are depends on the number of
// tasks alone, and so do the bits.
ffi::Error SumTasks(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets sums,
                    ffi::Span<const int64_t> tape, int64_t shared, int64_t tasks, int64_t memory) {
  const auto* program = reinterpret_cast<const Instruction*>(tape.begin());
  const int64_t length = tape.size() * sizeof(int64_t) / sizeof(Instruction);
  const int64_t inputs = operands.size(), outputs = sums.size();
  std::vector<T*> bases{nullptr};
  std::vector<int64_t> each{0};  // how far from task to task
  for (int64_t i = 0; i < inputs; ++i) {
    const Buffer buffer = *operands.get<Buffer>(i);
    bases.push_back(buffer.typed_data());
    each.push_back(i < shared ? 0 : buffer.element_count() / tasks);
  }
  int64_t total = 0;
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < outputs; ++i) {
    Result buffer = *sums.get<Buffer>(i);
    bases.push_back(buffer->typed_data());
    sizes.push_back(buffer->element_count());
    total += sizes.back();
  }
  constexpr int64_t kBlocks = 32;
  const int64_t long_block = (tasks + kBlocks - 1) / kBlocks;
  const int64_t blocks = (tasks + long_block - 1) / long_block;
  T* partial = Scratch<T>(3, blocks * total);
  Share(pool, blocks, [&](int64_t block) {
    std::vector<T*> here = bases;
    here[0] = Scratch<T>(0, memory);
    T* sum = partial + block * total;
    std::fill_n(sum, total, T{});
    for (int64_t i = 0; i < outputs; sum += sizes[i++]) here[1 + inputs + i] = sum;
    const int64_t first = block * long_block;
    for (int64_t task = first; task < std::min(tasks, first + long_block); ++task) {
      for (int64_t i = 1; i <= inputs; ++i) here[i] = bases[i] + task * each[i];
      Run<T>(program, length, here.data());
    }
  });
  for (int64_t i = 0, place = 0; i < outputs; place += sizes[i++]) {
    T* to = bases[1 + inputs + i];
    std::copy_n(partial + place, sizes[i], to);
    for (int64_t block = 1; block < blocks; ++block)
      for (int64_t k = 0; k < sizes[i]; ++k) to[k] += partial[block * total + place + k];
  }
  return ffi::Error::Success();
}

auto SumSignature() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<ffi::Span<const int64_t>>("tape")
      .Attr<int64_t>("shared")
      .Attr<int64_t>("tasks")
      .Attr<int64_t>("memory");
}

}  // namespace
