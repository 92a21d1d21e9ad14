// Time of every operation of the cpu backend at one model's shapes, beside the largest dense
// product's own: docs/performance.md quotes it.
//
//   kernels_bench --benchmark_filter=bf16        (B = 4, T = 1024, 124m by default)
//   KERNELS_BENCH=batch,length,channels,heads,vocab kernels_bench

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace {

using base::Arena;
using base::ConstView;
using base::DType;
using base::Shape;
using base::View;
using kernels::Backend;
using kernels::PackedWeight;

struct Sizes {
  std::int64_t batch = 4;
  std::int64_t length = 1024;
  std::int64_t channels = 768;
  std::int64_t heads = 12;
  std::int64_t vocab = 50257;

  std::int64_t rows() const { return batch * length; }
  std::int64_t padded() const { return (vocab + 127) / 128 * 128; }
};

Sizes sizes_from_environment() {
  Sizes s;
  const char* text = std::getenv("KERNELS_BENCH");
  if (text == nullptr) return s;
  long b = 0;
  long t = 0;
  long c = 0;
  long h = 0;
  long v = 0;
  if (std::sscanf(text, "%ld,%ld,%ld,%ld,%ld", &b, &t, &c, &h, &v) != 5) {
    base::fail("KERNELS_BENCH: expected batch,length,channels,heads,vocab, got '{}'", text);
  }
  return {b, t, c, h, v};
}

/// A backend and memory for one operation at a time.
struct Bench {
  Bench(DType compute_type, const Sizes& sizes)
      : Bench(sizes, kernels::make_backend(kernels::Device::kCpu, compute_type)) {}
  /// For inference with weights in `format`.
  Bench(kernels::WeightFormat format, const Sizes& sizes)
      : Bench(sizes, kernels::make_inference_backend(kernels::Device::kCpu, format)) {}
  Bench(const Sizes& sizes, std::unique_ptr<Backend> made)
      : type(made->compute_type()),
        s(sizes),
        arena(std::size_t{3} << 30),
        backend(std::move(made)) {}

  /// Values of about that deviation, made quickly: uniform, from a linear congruence.
  View take(DType element, Shape shape, float deviation = 1.0F) {
    const View view = arena.take(element, shape);
    for (std::int64_t i = 0; i < view.elements(); ++i) {
      state = state * 1664525U + 1013904223U;
      const float value = deviation * 1.7F * (static_cast<float>(state >> 8) * 0x1p-23F - 1.0F);
      if (element == DType::kF32) {
        view.f32()[i] = value;
      } else {
        view.bf16()[i] = base::to_bf16(value);
      }
    }
    return view;
  }
  View floats(Shape shape, float deviation = 1.0F) { return take(DType::kF32, shape, deviation); }
  View compute(Shape shape, float deviation = 1.0F) { return take(type, shape, deviation); }
  View ids(std::int64_t count, std::int64_t end) {
    const View view = arena.take(DType::kI32, {count});
    for (std::int64_t i = 0; i < count; ++i) {
      view.i32()[i] = static_cast<std::int32_t>(i * 7919 % end);
    }
    return view;
  }
  PackedWeight weight(std::int64_t inputs, std::int64_t outputs, kernels::WeightOrder order,
                      View* parameter = nullptr) {
    const auto bytes = backend->packed_bytes(inputs, outputs, order, true);
    const PackedWeight packed{inputs, outputs, order,
                              static_cast<std::byte*>(arena.take_bytes(bytes.forward)),
                              static_cast<std::byte*>(arena.take_bytes(bytes.backward))};
    const bool in_out = order == kernels::WeightOrder::kInOut;
    const View source = floats({in_out ? inputs : outputs, in_out ? outputs : inputs}, 0.02F);
    backend->pack_weight(packed, source);
    if (parameter != nullptr) *parameter = source;
    return packed;
  }

  DType type;
  Sizes s;
  Arena arena;
  std::unique_ptr<Backend> backend;
  std::uint32_t state = 1;
};

/// Times `operation`; `flop` and `bytes` of one run become rates.
void run(benchmark::State& state, double flop, double bytes,
         const std::function<void()>& operation) {
  operation();  // prepares products and scratch
  for (auto _ : state) operation();
  const auto rate = [](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  if (flop > 0) state.counters["FLOP"] = rate(flop);
  if (bytes > 0) state.counters["B"] = rate(bytes);
}

void linear(benchmark::State& state, DType type, const Sizes& s, std::int64_t k, std::int64_t m,
            bool gelu_out, bool gelu_in, bool backward) {
  Bench b(type, s);
  const std::int64_t n = s.rows();
  const PackedWeight weight = b.weight(k, m, kernels::WeightOrder::kInOut);
  const View inp = b.compute({n, k});
  const View out = b.compute({n, m});
  const View bias = b.floats({m});
  const View extra = b.compute(backward ? Shape{n, k} : Shape{n, m});
  const View dinp = b.compute({n, k});
  const View dweight = b.floats({k, m});
  const double flop = 2.0 * static_cast<double>(n * k * m) * (backward ? 2 : 1);
  const auto epilogue = [](bool gelu) {
    return gelu ? kernels::Epilogue::kGelu : kernels::Epilogue::kNone;
  };
  run(state, flop, 0, [&] {
    if (backward) {
      b.backend->linear_backward(dinp, dweight, bias, out, inp, weight, epilogue(gelu_in),
                                 gelu_in ? extra : View());
    } else {
      b.backend->linear_forward(out, gelu_out ? extra : View(), inp, weight, bias,
                                epilogue(gelu_out));
    }
  });
}

/// The products of inference, by the bytes of their weights for few rows.
void packed_linear(benchmark::State& state, kernels::WeightFormat format, const Sizes& s,
                   std::int64_t rows, bool head) {
  Bench b(format, s);
  const std::int64_t k = s.channels;
  const std::int64_t m = head ? s.padded() : 4 * s.channels;
  const PackedWeight weight =
      b.weight(k, m, head ? kernels::WeightOrder::kOutIn : kernels::WeightOrder::kInOut);
  const View inp = b.compute({rows, k});
  const View out = head ? b.floats({rows, m}) : b.compute({rows, m});
  const View bias = b.floats({m});
  const auto bytes = b.backend->packed_bytes(k, m, weight.order, false).forward;
  run(state, 2.0 * static_cast<double>(rows * k * m), static_cast<double>(bytes), [&] {
    if (head) {
      b.backend->head_logits(out, inp, weight, m);
    } else {
      b.backend->linear_forward(out, {}, inp, weight, bias, kernels::Epilogue::kGelu);
    }
  });
}

void attention(benchmark::State& state, DType type, const Sizes& s, bool backward) {
  Bench b(type, s);
  const View qkv = b.compute({s.rows(), 3 * s.channels});
  const View out = b.compute({s.rows(), s.channels});
  const View dout = b.compute({s.rows(), s.channels});
  const View dqkv = b.compute({s.rows(), 3 * s.channels});
  const View lse = b.floats({s.batch, s.heads, s.length});
  b.backend->attention_forward(out, lse, qkv);
  // Half of the T x T scores exist.
  const double flop = 2.0 * static_cast<double>(s.rows() * s.length * s.channels);
  run(state, flop * (backward ? 2.5 : 1), 0, [&] {
    if (backward) {
      b.backend->attention_backward(dqkv, dout, qkv, out, lse);
    } else {
      b.backend->attention_forward(out, lse, qkv);
    }
  });
}

/// One new token against a full cache.
void attention_cached(benchmark::State& state, DType type, const Sizes& s) {
  Bench b(type, s);
  const Shape cache{s.heads, s.length, s.channels / s.heads};
  const kernels::CacheRows rows{b.compute(cache), b.compute(cache), s.length - 1, 1};
  const View qkv = b.compute({1, 3 * s.channels});
  const View out = b.compute({1, s.channels});
  const auto bytes = static_cast<double>(rows.keys.bytes() + rows.values.bytes());
  run(state, 0, bytes, [&] { b.backend->attention_cached(out, qkv, {&rows, 1}); });
}

void head(benchmark::State& state, DType type, const Sizes& s, bool training) {
  Bench b(type, s);
  const PackedWeight wte = b.weight(s.channels, s.padded(), kernels::WeightOrder::kOutIn);
  const View x = b.compute({s.rows(), s.channels});
  const View dx = b.compute({s.rows(), s.channels});
  const View dwte = b.floats({s.padded(), s.channels});
  const View losses = b.floats({s.rows()});
  const View targets = b.ids(s.rows(), s.vocab);
  const double flop = 2.0 * static_cast<double>(s.rows() * s.channels * s.padded());
  run(state, flop * (training ? 3 : 1), 0, [&] {
    if (training) {
      b.backend->head_loss(losses, dx, dwte, x, wte, targets, s.vocab, 1e-3F);
    } else {
      b.backend->head_loss_forward(losses, x, wte, targets, s.vocab);
    }
  });
}

void layernorm(benchmark::State& state, DType type, const Sizes& s, bool backward) {
  Bench b(type, s);
  const Shape shape{s.rows(), s.channels};
  const View res = b.floats(shape);
  const View res_out = b.floats(shape);
  const View normed = b.compute(shape);
  const View branch = b.compute(shape, 1e-3F);
  const View mean = b.floats({s.rows()});
  const View rstd = b.floats({s.rows()});
  const View gain = b.floats({s.channels});
  const View bias = b.floats({s.channels});
  b.backend->add_layernorm_forward(res_out, normed, mean, rstd, res, branch, gain, bias);
  const auto a = static_cast<double>(base::size_of(type));
  const auto elements = static_cast<double>(res.elements());
  run(state, 0, elements * (backward ? 12 + 2 * a : 8 + 2 * a), [&] {
    if (backward) {
      b.backend->add_layernorm_backward(res, branch, gain, bias, normed, res_out, mean, rstd, gain);
    } else {
      b.backend->add_layernorm_forward(res_out, normed, mean, rstd, res, branch, gain, bias);
    }
  });
}

void embed(benchmark::State& state, DType type, const Sizes& s, bool backward) {
  Bench b(type, s);
  const View x = b.floats({s.rows(), s.channels});
  const View wte = b.floats({s.padded(), s.channels});
  const View wpe = b.floats({s.length, s.channels});
  const View ids = b.ids(s.rows(), s.vocab);
  run(state, 0, static_cast<double>(x.bytes()) * (backward ? 5 : 3), [&] {
    if (backward) {
      b.backend->embed_backward(wte, wpe, x, ids, s.length);
    } else {
      b.backend->embed_forward(x, ids, wte, wpe, s.length, 0);
    }
  });
}

void adamw(benchmark::State& state, DType type, const Sizes& s) {
  Bench b(type, s);
  View parameter;
  const PackedWeight wte =
      b.weight(s.channels, s.padded(), kernels::WeightOrder::kOutIn, &parameter);
  const View gradient = b.floats({s.padded(), s.channels});
  const View m = b.floats({s.padded(), s.channels}, 0.0F);
  const View v = b.floats({s.padded(), s.channels}, 0.0F);
  const auto bytes = static_cast<double>(parameter.elements()) *
                     (28 + 2 * static_cast<double>(base::size_of(type)));
  run(state, 0, bytes, [&] { b.backend->adamw_step(parameter, gradient, m, v, {}, &wte); });
}

void register_packed(kernels::WeightFormat format, const Sizes& s) {
  for (const bool head : {false, true}) {
    for (const std::int64_t rows : {1, 4, 16, 512}) {
      const std::string name = std::string(kernels::name_of(format)) +
                               (head ? "_weights/head_logits/" : "_weights/fc+gelu/") +
                               std::to_string(rows);
      benchmark::RegisterBenchmark(
          name.c_str(),
          [=](benchmark::State& state) { packed_linear(state, format, s, rows, head); })
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  }
}

void register_all(DType type, const Sizes& s) {
  const std::int64_t c = s.channels;
  const auto add = [&](const std::string& name, std::function<void(benchmark::State&)> body) {
    benchmark::RegisterBenchmark((std::string(base::name_of(type)) + "/" + name).c_str(),
                                 [body](benchmark::State& state) { body(state); })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  };
  struct Layer {
    const char* name;
    std::int64_t k;
    std::int64_t m;
    bool gelu_out;
    bool gelu_in;
  };
  for (const Layer& l :
       {Layer{"qkv", c, 3 * c, false, false}, Layer{"proj", c, c, false, false},
        Layer{"fc+gelu", c, 4 * c, true, false}, Layer{"out+dgelu", 4 * c, c, false, true}}) {
    for (const bool backward : {false, true}) {
      add(std::string("linear_") + (backward ? "backward/" : "forward/") + l.name,
          [=](auto& state) { linear(state, type, s, l.k, l.m, l.gelu_out, l.gelu_in, backward); });
    }
  }
  for (const bool backward : {false, true}) {
    const std::string direction = backward ? "_backward" : "_forward";
    add("attention" + direction, [=](auto& state) { attention(state, type, s, backward); });
    add("add_layernorm" + direction, [=](auto& state) { layernorm(state, type, s, backward); });
    add("embed" + direction, [=](auto& state) { embed(state, type, s, backward); });
  }
  add("attention_cached", [=](auto& state) { attention_cached(state, type, s); });
  add("head_loss", [=](auto& state) { head(state, type, s, true); });
  add("head_loss_forward", [=](auto& state) { head(state, type, s, false); });
  add("adamw_step+pack/wte", [=](auto& state) { adamw(state, type, s); });
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const Sizes sizes = sizes_from_environment();
  for (const DType type : {DType::kBf16, DType::kF32}) {
    benchmark::AddCustomContext(std::string(base::name_of(type)),
                                kernels::make_backend(kernels::Device::kCpu, type)->description());
    register_all(type, sizes);
  }
  for (const auto format : {kernels::WeightFormat::kF32, kernels::WeightFormat::kBf16,
                            kernels::WeightFormat::kInt8, kernels::WeightFormat::kInt4}) {
    register_packed(format, sizes);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
