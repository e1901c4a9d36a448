// What the compiled library offers to XLA.

#include "convolution.h"

XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_output, ConvImages<false>, ConvSignature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_input, ConvImages<true>, ConvSignature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_kernel, ConvKernel, ConvSignature());
