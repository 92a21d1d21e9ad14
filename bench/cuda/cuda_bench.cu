// Times of the CUDA kernels and products at GPT-2 shapes, each against its floor: bytes over what a
// device copy moves, or operations over what a large product reaches, both measured first.
// usage: cuda_bench [--batch N] [--json FILE] [--only TEXT]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/products.h"

namespace {

using namespace kernels;  // cuda::, gpu::
using gpu::Bf16;

constexpr int kRuns = 11;

__global__ void fill_floats(float* to, std::size_t count, unsigned seed, float scale) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  // splitmix64; the sum of four uniforms, near enough to normal.
  unsigned long long x = (i + 1) * 0x9E3779B97F4A7C15ULL + seed;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  x ^= x >> 31;
  float sum = 0;
  for (int k = 0; k < 4; ++k) sum += static_cast<float>((x >> (16 * k)) & 0xFFFF) / 65536.0F - 0.5F;
  to[i] = sum * 1.732F * scale;
}
__global__ void fill_bf16(Bf16* to, const float* from, std::size_t count) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = gpu::to_bf16(from[i]);
}

unsigned seed = 1;

template <class T>
struct Buffer {
  explicit Buffer(std::size_t n)
      : count(n), data(static_cast<T*>(gpu::allocate_bytes(n * sizeof(T)))) {}
  ~Buffer() { gpu::release(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::size_t count;
  T* data;
};

void fill(Buffer<float>& to, float scale = 1) {
  gpu::launch(fill_floats, dim3(static_cast<unsigned>((to.count + 255) / 256)), dim3(256), 0,
              nullptr, to.data, to.count, ++seed, scale);
}
/// Random numbers, from f32 ones a slice at a time.
void fill(Buffer<Bf16>& to, float scale = 1) {
  Buffer<float> slice(std::min(to.count, std::size_t{1} << 26));
  for (std::size_t done = 0; done < to.count; done += slice.count) {
    const std::size_t n = std::min(slice.count, to.count - done);
    fill(slice, scale);
    gpu::launch(fill_bf16, dim3(static_cast<unsigned>((n + 255) / 256)), dim3(256), 0, nullptr,
                to.data + done, slice.data, n);
  }
  gpu::synchronize(nullptr);
}
template <class T>
std::unique_ptr<Buffer<T>> random(std::size_t n, float scale = 1) {
  auto buffer = std::make_unique<Buffer<T>>(n);
  fill(*buffer, scale);
  return buffer;
}
template <class T>
void upload(Buffer<T>& to, const std::vector<T>& values) {
  gpu::copy_bytes_in(to.data, values.data(), values.size() * sizeof(T), nullptr);
  gpu::synchronize(nullptr);
}

class Bench {
 public:
  Bench(std::string only, std::FILE* json) : only_(std::move(only)), json_(json) {
    gpu::check(cudaEventCreate(&begin_), "cudaEventCreate");
    gpu::check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  /// Median microseconds of `run`.
  double time(const std::function<void()>& run) {
    for (int i = 0; i < 2; ++i) run();
    std::vector<double> times;
    for (int i = 0; i < kRuns; ++i) {
      gpu::check(cudaEventRecord(begin_), "cudaEventRecord");
      run();
      gpu::check(cudaEventRecord(end_), "cudaEventRecord");
      gpu::check(cudaEventSynchronize(end_), "kernel");
      float milliseconds = 0;
      gpu::check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
      times.push_back(static_cast<double>(milliseconds) * 1e3);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
  void set_peaks(double bytes, double flops) { bytes_peak_ = bytes, flops_peak_ = flops; }
  bool wanted(const std::string& name) const { return name.find(only_) != std::string::npos; }
  void measure(const std::string& name, double bytes, double flops,
               const std::function<void()>& run) {
    if (wanted(name)) print(name, bytes, flops, time(run));
  }
  void print(const std::string& name, double bytes, double flops, double microseconds) {
    const double rate = 1e6 / microseconds;
    const double floor = std::max(bytes / bytes_peak_, flops / flops_peak_) * rate;
    std::printf("%-34s %10.1f us %8.2f TB/s %8.1f TFLOP/s %6.1f %% of its floor\n", name.c_str(),
                microseconds, bytes * rate / 1e12, flops * rate / 1e12, floor * 100);
    std::fflush(stdout);
    if (json_ == nullptr) return;
    std::fprintf(json_,
                 "{\"name\": \"%s\", \"us\": %.2f, \"bytes\": %.4g, \"flops\": %.4g, "
                 "\"share_of_floor\": %.4f}\n",
                 name.c_str(), microseconds, bytes, flops, floor);
    std::fflush(json_);
  }

 private:
  std::string only_;
  std::FILE* json_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  double bytes_peak_ = 3e12, flops_peak_ = 989e12;
};

void peaks(Bench& bench, cuda::Products& products) {
  const std::size_t bytes = std::size_t{2} << 30;
  double copy = 0, product = 0;
  {
    const auto from = random<float>(bytes / 4), to = random<float>(bytes / 4);
    copy = bench.time([&] {
      gpu::check(cudaMemcpyAsync(to->data, from->data, bytes, cudaMemcpyDeviceToDevice), "copy");
    });
  }
  {
    const std::size_t n = 8192;
    const auto a = random<Bf16>(n * n), b = random<Bf16>(n * n);
    const Buffer<Bf16> out(n * n);
    product = bench.time([&] {
      products.multiply({8192, 8192, 8192}, out.data, a->data, b->data);
    });
  }
  const double copied = 2.0 * static_cast<double>(bytes);
  const double flops = 2.0 * 8192 * 8192 * 8192;
  bench.set_peaks(copied / copy * 1e6, flops / product * 1e6);
  bench.print("device copy, 2 GiB", copied, 0, copy);
  bench.print("product 8192^3 bf16", 0, flops, product);
}

/// GPT-2 124m at a batch.
struct Model {
  int batch, length = 1024, channels = 768, heads = 12, vocab = 50257, padded = 50304;
  int rows() const { return batch * length; }
  std::size_t n() const { return static_cast<std::size_t>(rows()); }
  std::size_t nc() const { return n() * static_cast<std::size_t>(channels); }
};

void attention(Bench& bench, const Model& m, int head_size) {
  const int heads = m.channels / head_size;
  const auto qkv = random<Bf16>(3 * m.nc()), dout = random<Bf16>(m.nc());
  const Buffer<Bf16> out(m.nc()), dqkv(3 * m.nc());
  const std::size_t stats = m.n() * static_cast<std::size_t>(heads);
  const Buffer<float> lse(stats), delta(stats);
  // Two products of 2 T T D a head and sequence, the causal half; five in the backward.
  const double flops = 2.0 * m.batch * m.length * m.length * m.channels;
  const double bytes = 2.0 * static_cast<double>(m.nc());
  const std::string name = "attention D" + std::to_string(head_size);
  const cuda::AttentionShape shape{
      m.batch, m.length, heads, head_size, 1 / std::sqrt(static_cast<float>(head_size)), {}};
  bench.measure((name + " forward").c_str(), 4 * bytes, flops,
                [&] { cuda::attention_forward(out.data, lse.data, qkv->data, shape, nullptr); });
  bench.measure((name + " backward").c_str(), 8 * bytes, 2.5 * flops, [&] {
    cuda::attention_backward(dqkv.data, delta.data, dout->data, qkv->data, out.data, lse.data,
                             shape, nullptr);
  });
}

void layernorm(Bench& bench, const Model& m) {
  const auto res = random<float>(m.nc()), gain = random<float>(768), bias = random<float>(768);
  const auto branch = random<Bf16>(m.nc());
  const Buffer<float> out(m.nc()), mean(m.n()), rstd(m.n()), dgain(768), dbias(768);
  const Buffer<Bf16> normed(m.nc()), copy(m.nc());
  const Buffer<float> scratch(cuda::layernorm_scratch_floats(m.rows(), m.channels));
  const double bytes = static_cast<double>(m.nc());
  bench.measure("add layernorm forward", 12 * bytes, 0, [&] {
    cuda::add_layernorm_forward(out.data, normed.data, mean.data, rstd.data, res->data,
                                static_cast<const Bf16*>(branch->data), gain->data, bias->data,
                                m.rows(), m.channels, {}, nullptr);
  });
  bench.measure("add layernorm backward", 16 * bytes, 0, [&] {
    cuda::add_layernorm_backward(res->data, copy.data, dgain.data, dbias.data,
                                 static_cast<const Bf16*>(branch->data), out.data, mean.data,
                                 rstd.data, gain->data, {}, scratch.data, m.rows(), m.channels,
                                 nullptr);
  });
}

void pointwise(Bench& bench, const Model& m) {
  const auto pre = random<Bf16>(4 * m.nc()), dout = random<Bf16>(4 * m.nc());
  const Buffer<Bf16> out(4 * m.nc());
  const Buffer<float> sums(4096), scratch(cuda::column_sums_scratch_floats(m.rows(), 3072));
  const double bytes = 8.0 * static_cast<double>(m.nc());
  bench.measure("gelu forward", 2 * bytes, 0, [&] {
    cuda::gelu_forward(out.data, static_cast<const Bf16*>(pre->data), out.count, nullptr);
  });
  bench.measure("gelu backward", 3 * bytes, 0, [&] {
    cuda::gelu_backward(out.data, static_cast<const Bf16*>(dout->data),
                        static_cast<const Bf16*>(pre->data), out.count, nullptr);
  });
  for (const int columns : {2304, 3072}) {
    bench.measure(("column sums of " + std::to_string(columns)).c_str(),
                  2.0 * static_cast<double>(m.n()) * columns, 0, [&] {
                    cuda::column_sums(sums.data, static_cast<const Bf16*>(pre->data), m.rows(),
                                      columns, scratch.data, nullptr);
                  });
  }
}

void embedding(Bench& bench, const Model& m) {
  std::vector<std::int32_t> ids(m.n()), order(m.n()), starts(m.n() + 1);
  unsigned long long x = 1;
  for (auto& id : ids) {  // frequencies fall like 1 / rank, as words' do
    x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    const double u = static_cast<double>(x >> 40) / (1 << 24);
    id = std::min(m.vocab - 1, static_cast<int>(__builtin_exp2(u * 15.6)) - 1);
  }
  const int count = cuda::group_rows(order.data(), starts.data(), ids.data(), m.rows(), m.vocab);
  Buffer<std::int32_t> d_ids(ids.size()), d_order(ids.size()), d_starts(starts.size());
  upload(d_ids, ids), upload(d_order, order), upload(d_starts, starts);
  const auto wte = random<float>(static_cast<std::size_t>(m.padded) * 768);
  const auto wpe = random<float>(1024 * 768), dx = random<float>(m.nc());
  const Buffer<float> out(m.nc());
  bench.measure("embedding forward", 8.0 * static_cast<double>(m.nc()), 0, [&] {
    cuda::embed_forward(out.data, d_ids.data, wte->data, wpe->data, m.rows(), m.channels, m.length,
                        0, {}, nullptr);
  });
  bench.measure("embedding backward", 8.0 * static_cast<double>(m.nc()), 0, [&] {
    cuda::embed_backward(wte->data, wpe->data, dx->data, d_ids.data,
                         {d_order.data, d_starts.data, count}, m.rows(), m.channels, m.length, {},
                         nullptr);
  });
}

void loss(Bench& bench, const Model& m) {
  const int rows = 8192;
  const auto logits = random<Bf16>(static_cast<std::size_t>(rows) * m.padded);
  Buffer<float> losses(rows);
  std::vector<std::int32_t> ids(rows);
  for (int i = 0; i < rows; ++i) ids[static_cast<std::size_t>(i)] = i * 5;
  Buffer<std::int32_t> targets(ids.size());
  upload(targets, ids);
  bench.measure("softmax loss, 8192 rows", 4.0 * static_cast<double>(logits->count), 0, [&] {
    cuda::softmax_loss(losses.data, logits->data, targets.data, rows, m.vocab, m.padded, {},
                       nullptr);
  });
}

void optimizer(Bench& bench) {
  const std::size_t n = 124475904;
  const auto p = random<float>(n), m = random<float>(n), v = random<float>(n, 0),
             g = random<float>(n);
  const Buffer<Bf16> copies(n);
  const Buffer<double> scratch(cuda::norm_blocks(n)), norm(1);
  const auto bytes = static_cast<double>(n);
  bench.measure("gradient norm, 124m", 4 * bytes, 0,
                [&] { cuda::squared_norm(norm.data, g->data, n, scratch.data, nullptr); });
  const unsigned blocks = cuda::adam_blocks(n);
  const std::vector<cuda::AdamTask<Bf16>> tasks{
      {p->data, m->data, v->data, g->data, copies.data, nullptr, n, 0.1F, 0}};
  Buffer<cuda::AdamTask<Bf16>> list(1);
  upload(list, tasks);
  const cuda::AdamNumbers numbers{1e-4, 1.0F, 0.9F, 0.95F, 1e-8F, 1e-4F, 1.0F, 0.0F};
  bench.measure("adamw, 124m", 30 * bytes, 0,
                [&] { cuda::adamw_step(list.data, 1, blocks, numbers, nullptr); });
}

void linear(Bench& bench, cuda::Products& products, const Model& m) {
  struct Layer {
    const char* name;
    int inputs, outputs;
    bool gelu;
  };
  using cuda::ProductEpilogue;
  for (const Layer& l : {Layer{"qkv", 768, 2304, false}, Layer{"proj", 768, 768, false},
                         Layer{"fc", 768, 3072, true}, Layer{"out", 3072, 768, false}}) {
    const std::string name = l.name;
    const std::size_t K = static_cast<std::size_t>(l.inputs),
                      M = static_cast<std::size_t>(l.outputs);
    const auto inp = random<Bf16>(m.n() * K), weight = random<Bf16>(K * M, 0.02F),
               dout = random<Bf16>(m.n() * M), bias = random<Bf16>(M),
               pre = random<Bf16>(m.n() * K);
    const Buffer<Bf16> out(m.n() * M), pre_out(m.n() * M), dinp(m.n() * K);
    const Buffer<float> dweight(K * M);
    const double flops = 2.0 * static_cast<double>(m.n() * K * M);
    const double rows = static_cast<double>(m.n());
    cuda::ProductShape forward{m.rows(), l.outputs, l.inputs};
    forward.epilogue = l.gelu ? ProductEpilogue::kBiasGelu : ProductEpilogue::kBias;
    bench.measure((name + (l.gelu ? " forward, bias gelu" : " forward, bias")).c_str(),
                  2 * rows * (l.inputs + l.outputs * (l.gelu ? 2.0 : 1.0)), flops, [&] {
                    products.multiply(forward, out.data, inp->data, weight->data, bias->data,
                                      pre_out.data);
                  });
    cuda::ProductShape input{m.rows(), l.inputs, l.outputs};
    input.right_transposed = true;
    const bool slope = name == "out";
    if (slope) input.epilogue = ProductEpilogue::kGeluDerivative;
    bench.measure(
        (name + (slope ? " dinp, gelu derivative" : " dinp")).c_str(),
        2 * rows * (l.inputs * (slope ? 2.0 : 1.0) + l.outputs), flops,
        [&] { products.multiply(input, dinp.data, dout->data, weight->data, nullptr, pre->data); });
    cuda::ProductShape gradient{l.inputs, l.outputs, m.rows()};
    gradient.left_transposed = gradient.f32_out = true;
    bench.measure((name + " dweight").c_str(), 2 * rows * (l.inputs + l.outputs), flops,
                  [&] { products.multiply(gradient, dweight.data, inp->data, dout->data); });
  }
}

void head(Bench& bench, cuda::Products& products, const Model& m) {
  const int rows = 8192;
  const std::size_t C = 768, P = static_cast<std::size_t>(m.padded);
  const auto x = random<Bf16>(rows * C), wte = random<Bf16>(P * C, 0.02F),
             logits = random<Bf16>(rows * P, 1e-3F);
  const Buffer<Bf16> out(rows * P), dx(rows * C);
  const Buffer<float> dwte(P * C);
  const double flops = 2.0 * rows * static_cast<double>(P * C);
  const double bytes = 2.0 * rows * static_cast<double>(P);
  cuda::ProductShape forward{rows, m.padded, 768};
  forward.right_transposed = true;
  bench.measure("head logits, 8192 rows", bytes, flops,
                [&] { products.multiply(forward, out.data, x->data, wte->data); });
  bench.measure("head dx", bytes, flops, [&] {
    products.multiply({rows, 768, m.padded}, dx.data, logits->data, wte->data);
  });
  cuda::ProductShape gradient{m.padded, 768, rows};
  gradient.left_transposed = gradient.f32_out = gradient.accumulate = true;
  gpu::fill_bytes(dwte.data, 0, P * C * 4, nullptr);
  bench.measure("head dwte +=", bytes + 8.0 * static_cast<double>(P * C), flops,
                [&] { products.multiply(gradient, dwte.data, logits->data, x->data); });
}

void decode(Bench& bench, const Model& m) {
  const std::size_t layers = 24, K = 768, M = 2304;  // 85 MB: more than the L2 holds
  const auto weights = random<Bf16>(layers * K * M), x = random<Bf16>(K);
  const Buffer<float> out(50304);
  bench.measure("decode linear 768 x 2304, 24 of them", 2.0 * static_cast<double>(layers * K * M),
                0, [&] {
                  for (std::size_t l = 0; l < layers; ++l) {
                    cuda::decode_linear(out.data, x->data, weights->data + l * K * M, nullptr,
                                        false, 1, 768, 2304, nullptr);
                  }
                });
  const auto wte = random<Bf16>(static_cast<std::size_t>(m.padded) * K);
  bench.measure("decode head 768 x 50304", 2.0 * static_cast<double>(wte->count), 0, [&] {
    cuda::decode_linear(out.data, x->data, wte->data, nullptr, false, 1, 768, 50304, nullptr);
  });
  const int batch = 64;
  const std::size_t cache = static_cast<std::size_t>(batch) * K * 1024;
  const auto qkv = random<Bf16>(batch * 3 * K);
  auto keys = random<Bf16>(cache), values = random<Bf16>(cache);
  const Buffer<Bf16> mixed(batch * K);
  std::vector<cuda::CachedRow<Bf16>> rows;
  for (std::size_t b = 0; b < batch; ++b) {
    rows.push_back({keys->data + b * K * 1024, values->data + b * K * 1024, 1024,
                    static_cast<std::int64_t>(b)});
  }
  Buffer<cuda::CachedRow<Bf16>> d_rows(batch);
  upload(d_rows, rows);
  Buffer<std::int32_t> positions(batch);
  upload(positions, std::vector<std::int32_t>(batch, 1023));
  for (const int sequences : {batch, 1}) {
    bench.measure("cached attention, " + std::to_string(sequences) + " x 1024",
                  4.0 * static_cast<double>(cache) * sequences / batch, 0, [&] {
                    cuda::attention_cached(mixed.data, qkv->data, d_rows.data, positions.data,
                                           sequences, 12, 64, true, nullptr);
                  });
  }
  const auto logits = random<float>(50257);
  const auto slices = static_cast<std::size_t>(cuda::candidate_slices(50257));
  const Buffer<std::uint64_t> best(slices * cuda::kCandidates);
  const Buffer<float> tops(slices);
  const Buffer<double> masses(slices);
  const Buffer<cuda::CandidateRow> found(1);
  Buffer<float> temperature(1);
  upload(temperature, std::vector<float>{1.0F});
  bench.measure("candidates of a row", 4.0 * 50257, 0, [&] {
    cuda::find_candidates(found.data, {best.data, tops.data, masses.data}, logits->data,
                          temperature.data, 1, 50257, 50257, nullptr);
  });
}

void print_choices(const cuda::Products& products) {
  std::printf("\nproducts: rows columns depth, epilogue, tried, fused\n");
  for (const cuda::ProductChoice& c : products.choices()) {
    std::printf("%8d %8d %8d  %d  %d  %s\n", c.shape.rows, c.shape.columns, c.shape.depth,
                static_cast<int>(c.shape.epilogue), c.tried, c.fused ? "yes" : "NO");
  }
}

int run(int argc, char** argv) {
  Model model{32};
  std::string only;
  std::FILE* json = nullptr;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    if (key == "--batch") {
      model.batch = std::atoi(argv[i + 1]);
    } else if (key == "--only") {
      only = argv[i + 1];
    } else if (key == "--json") {
      json = std::fopen(argv[i + 1], "w");
    } else {
      std::fprintf(stderr, "cuda_bench: unknown argument '%s'\n", argv[i]);
      return 2;
    }
  }
  cudaDeviceProp device{};
  gpu::check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  std::printf("%s, %d multiprocessors, L2 %d MB; batch %d x 1024\n", device.name,
              device.multiProcessorCount, device.l2CacheSize >> 20, model.batch);
  Bench bench(only, json);
  cuda::Products products(nullptr);
  peaks(bench, products);
  const std::function<void()> groups[] = {[&] { attention(bench, model, 64); },
                                          [&] { attention(bench, model, 128); },
                                          [&] { layernorm(bench, model); },
                                          [&] { linear(bench, products, model); },
                                          [&] { head(bench, products, model); },
                                          [&] { loss(bench, model); },
                                          [&] { pointwise(bench, model); },
                                          [&] { embedding(bench, model); },
                                          [&] { optimizer(bench); },
                                          [&] { decode(bench, model); }};
  int failures = 0;
  for (const auto& group : groups) {  // one that fails leaves the others theirs
    try {
      group();
    } catch (const std::exception& error) {
      std::printf("FAILED: %s\n", error.what());
      ++failures;
    }
  }
  print_choices(products);
  if (json != nullptr) std::fclose(json);
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_bench: %s\n", error.what());
    return 1;
  }
}
