// What XLA hands over and takes back.

#pragma once

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// NUMBER, given to the compiler, is the type of what is in all arrays, F32 or F64.
constexpr ffi::DataType kType = ffi::NUMBER;
using T = ffi::NativeType<kType>;
using Buffer = ffi::Buffer<kType>;
using Result = ffi::ResultBuffer<kType>;

}  // namespace
