// What the compiled library offers to XLA and to Python.

#include "convolution.h"
#include "tasks.h"

XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_output, ConvImages<false>, ConvSignature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_input, ConvImages<true>, ConvSignature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_kernel, ConvKernel, ConvSignature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(sum_tasks, SumTasks, SumSignature());

// The names of a tape's operations, in the order of their codes, with a space after each.
extern "C" const char* tape_operations() { return kOperations; }
