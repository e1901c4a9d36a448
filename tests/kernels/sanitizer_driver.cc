// Calls the operations of the C++ library as XLA does, on the shapes that stdin lists, and holds
// them to the definition of the convolution. `sanitizers.py` compiles it with a sanitizer.
//
// A line is: groups images height width kernel_height kernel_width channels filters stride padding.

#include <cmath>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "library.cc"

namespace {

constexpr int kThreads = 4;

struct Sizes {
  int64_t groups, images, height, width, kernel_height, kernel_width, channels, filters, stride,
      padding;
  int64_t rows() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  int64_t columns() const { return (width + 2 * padding - kernel_width) / stride + 1; }
};

// The threads of one call; they end with it.
struct Pool {
  std::vector<std::thread> threads;
  ~Pool() {
    for (auto& thread : threads) thread.join();
  }
};

XLA_FFI_Error* Schedule(XLA_FFI_ThreadPool_Schedule_Args* args) {
  auto* pool = reinterpret_cast<Pool*>(args->ctx);
  pool->threads.emplace_back(args->task, args->data);
  return nullptr;
}

XLA_FFI_Error* NumThreads(XLA_FFI_ThreadPool_NumThreads_Args* args) {
  *args->num_threads = kThreads;
  return nullptr;
}

XLA_FFI_Api Api() {
  XLA_FFI_Api api{};
  api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
  api.api_version.struct_size = XLA_FFI_Api_Version_STRUCT_SIZE;
  api.api_version.major_version = XLA_FFI_API_MAJOR;
  api.api_version.minor_version = XLA_FFI_API_MINOR;
  api.XLA_FFI_ThreadPool_Schedule = Schedule;
  api.XLA_FFI_ThreadPool_NumThreads = NumThreads;
  return api;
}

// An array of exactly its own size on the heap, so that a read beyond it is seen.
struct Tensor {
  std::vector<int64_t> dims;
  std::unique_ptr<T[]> data;
  int64_t size = 1;

  explicit Tensor(std::vector<int64_t> shape, uint32_t seed = 0) : dims(std::move(shape)) {
    for (int64_t d : dims) size *= d;
    data.reset(new T[size]);
    for (int64_t i = 0; i < size; ++i) {
      seed = seed * 1664525u + 1013904223u;
      data[i] = static_cast<T>(seed >> 8) / (1 << 23) - 1;
    }
  }
  XLA_FFI_Buffer Buffer() {
    XLA_FFI_Buffer buffer{};
    buffer.struct_size = XLA_FFI_Buffer_STRUCT_SIZE;
    buffer.dtype = static_cast<XLA_FFI_DataType>(kType);
    buffer.data = data.get();
    buffer.rank = static_cast<int64_t>(dims.size());
    buffer.dims = dims.data();
    return buffer;
  }
};

bool Call(XLA_FFI_Handler* handler, Tensor& a, Tensor& b, Tensor& to, const Sizes& s) {
  static const XLA_FFI_Api api = Api();
  Pool pool;
  XLA_FFI_Buffer buffers[] = {a.Buffer(), b.Buffer(), to.Buffer()};
  void* arguments[] = {&buffers[0], &buffers[1]};
  void* results[] = {&buffers[2]};
  XLA_FFI_ArgType argument_types[] = {XLA_FFI_ArgType_BUFFER, XLA_FFI_ArgType_BUFFER};
  XLA_FFI_RetType result_types[] = {XLA_FFI_RetType_BUFFER};
  XLA_FFI_AttrType attribute_types[] = {XLA_FFI_AttrType_SCALAR, XLA_FFI_AttrType_SCALAR};
  XLA_FFI_ByteSpan padding{"padding", 7}, stride{"stride", 6};
  XLA_FFI_ByteSpan* names[] = {&padding, &stride};  // sorted, as XLA has them
  int64_t values[] = {s.padding, s.stride};
  XLA_FFI_Scalar scalars[] = {{XLA_FFI_DataType_S64, &values[0]},
                              {XLA_FFI_DataType_S64, &values[1]}};
  void* attributes[] = {&scalars[0], &scalars[1]};
  XLA_FFI_CallFrame frame{};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.api = &api;
  frame.ctx = reinterpret_cast<XLA_FFI_ExecutionContext*>(&pool);
  frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, 2, argument_types, arguments};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, 1, result_types, results};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr, 2, attribute_types, names, attributes};
  return handler(&frame) == nullptr;
}

// Calls product(index in x, in w, in y) for all three factors of each multiplication of the
// definition.
template <typename Product>
void Definition(const Sizes& s, const Product& product) {
  int64_t y = 0;
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t n = 0; n < s.images; ++n)
      for (int64_t r = 0; r < s.rows(); ++r)
        for (int64_t q = 0; q < s.columns(); ++q, y += s.filters)
          for (int64_t i = 0; i < s.kernel_height; ++i)
            for (int64_t j = 0; j < s.kernel_width; ++j) {
              const int64_t row = r * s.stride + i - s.padding;
              const int64_t column = q * s.stride + j - s.padding;
              if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
              const int64_t pixel = ((g * s.images + n) * s.height + row) * s.width + column;
              const int64_t tap = (g * s.kernel_height + i) * s.kernel_width + j;
              for (int64_t c = 0; c < s.channels; ++c)
                for (int64_t f = 0; f < s.filters; ++f)
                  product(pixel * s.channels + c, (tap * s.channels + c) * s.filters + f, y + f);
            }
}

bool Close(const char* name, const Tensor& found, const std::vector<double>& wanted) {
  double off = 0, size = 0;
  for (int64_t i = 0; i < found.size; ++i) {
    off += (found.data[i] - wanted[i]) * (found.data[i] - wanted[i]);
    size += wanted[i] * wanted[i];
  }
  const double bound = sizeof(T) == 8 ? 1e-12 : 1e-4;
  if (std::sqrt(off) <= bound * std::sqrt(size)) return true;  // false for NaN
  std::fprintf(stderr, "conv_%s differs from its definition by %g\n", name, std::sqrt(off / size));
  return false;
}

bool Check(const Sizes& s) {
  const int64_t rows = s.rows(), columns = s.columns();
  const std::vector<int64_t> of_x{s.groups, s.images, s.height, s.width, s.channels};
  const std::vector<int64_t> of_w{s.groups, s.kernel_height, s.kernel_width, s.channels, s.filters};
  const std::vector<int64_t> of_y{s.groups, s.images, rows, columns, s.filters};
  Tensor x(of_x, 1), w(of_w, 2), y(of_y, 3), to_x(of_x), to_w(of_w), to_y(of_y);
  std::vector<double> want_x(x.size), want_w(w.size), want_y(y.size);
  Definition(s, [&](int64_t a, int64_t b, int64_t c) {
    want_y[c] += double(x.data[a]) * w.data[b];
    want_x[a] += double(y.data[c]) * w.data[b];
    want_w[b] += double(x.data[a]) * y.data[c];
  });
  bool right = true;
  auto all = [&] {
    right &= Call(conv_output, x, w, to_y, s) && Close("output", to_y, want_y);
    right &= Call(conv_input, y, w, to_x, s) && Close("input", to_x, want_x);
    right &= Call(conv_kernel, x, y, to_w, s) && Close("kernel", to_w, want_w);
  };
  std::thread(all).join();  // a thread of its own has no larger buffers of earlier calls
  all();                    // and this one has what they left in them
  return right;
}

}  // namespace

int main() {
  Sizes s;
  int shapes = 0, wrong = 0;
  while (std::scanf("%ld %ld %ld %ld %ld %ld %ld %ld %ld %ld", &s.groups, &s.images, &s.height,
                    &s.width, &s.kernel_height, &s.kernel_width, &s.channels, &s.filters,
                    &s.stride, &s.padding) == 10) {
    ++shapes;
    if (Check(s)) continue;
    ++wrong;
    std::fprintf(stderr, "  at shape %d\n", shapes);
  }
  std::printf("%d shapes, %d wrong\n", shapes, wrong);
  return wrong > 0 || shapes == 0;
}
