// How each operation is called with drawn inputs.

#include "kernels/operations.h"

#include <gtest/gtest.h>

namespace kernels::test {
namespace {

/// f32's error in a sum whose terms are about `magnitude` large: some ten roundings of 2^-24.
double f32_noise(double magnitude) { return 6e-7 * magnitude; }

Tensor token_ids(Draw& draw, std::int64_t count, std::int64_t vocab, bool same_id) {
  return same_id ? integers(std::vector<std::int32_t>(static_cast<std::size_t>(count), 3))
                 : draw.ids(count, vocab);
}

/// qkv (B*T, 3C) whose scores q k / sqrt(D) have about the standard deviation `score`.
Tensor draw_qkv(Draw& draw, std::int64_t rows, std::int64_t channels, double score) {
  Tensor qkv = draw({rows, 3 * channels});
  for (std::int64_t i = 0; i < qkv.size(); ++i) {
    // `score` is 0 or a power of two, which keeps the values exact in bf16.
    if (i % (3 * channels) < channels) qkv.set(i, qkv.at(i) * score);
  }
  return qkv;
}

}  // namespace

Outputs Embed::operator()(Backend& backend, Draw draw) const {
  const Tensor ids = token_ids(draw, batch * length, vocab, same_id);
  const Tensor wte = draw({vocab, channels});
  const Tensor wpe = draw({first_position + length, channels});
  Tensor x = unwritten(DType::kF32, {batch * length, channels});
  backend.embed_forward(x, ids, wte, wpe, length, first_position, dropout);
  return {{"x", x}};
}

Outputs EmbedBackward::operator()(Backend& backend, Draw draw) const {
  const Tensor ids = token_ids(draw, batch * length, vocab, same_id);
  const Tensor dx = draw({batch * length, channels});
  Tensor dwte = draw({vocab, channels});
  Tensor dwpe = draw({length + 2, channels});  // two positions that no row reaches
  backend.embed_backward(dwte, dwpe, dx, ids, length, dropout);
  // Sums of f32 in f32, whatever the compute type.
  return {{"dwte", dwte, 0, 1e-5}, {"dwpe", dwpe, 0, 1e-5}};
}

Outputs LayerNorm::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  Tensor res_in = draw({rows, channels}, deviation, mean);
  const Tensor added = branch ? draw({rows, channels}, deviation).as(type) : Tensor();
  const Tensor gain = draw({channels});
  const Tensor bias = draw({channels});
  Tensor res_out = unwritten(DType::kF32, {rows, channels});
  Tensor normed = unwritten(type, {rows, channels});
  Tensor row_mean = unwritten(DType::kF32, {rows});
  Tensor rstd = unwritten(DType::kF32, {rows});
  const bool same_memory = in_place || !branch;
  backend.add_layernorm_forward(same_memory ? res_in : res_out, normed, row_mean, rstd, res_in,
                                added, gain, bias, dropout);
  const double spread = std::max(deviation, 1e-3);
  return {{"res_out", same_memory ? res_in : res_out, 0, 1e-7},
          {"normed", normed, f32_noise(mean / spread) * 4},
          {"mean", row_mean, 0, 1e-5},
          {"rstd", rstd, 0, 1e-5}};
}

Outputs LayerNormBackward::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  Tensor res = draw({rows, channels}, deviation, mean);
  const Tensor gain = draw({channels});
  const Tensor bias = draw({channels});
  Tensor row_mean(DType::kF32, {rows});
  Tensor rstd(DType::kF32, {rows});
  Tensor unused(DType::kF32, {rows, channels});
  // The statistics are inputs here: the same for every backend.
  make_backend(Device::kReference, DType::kF32)
      ->add_layernorm_forward(res, unused, row_mean, rstd, res, {}, gain, bias);
  const Tensor dnormed = draw({rows, channels}).as(type);
  Tensor dres = draw({rows, channels});
  Tensor dgain = draw({channels});
  Tensor dbias = draw({channels});
  Tensor dres_copy = copy ? unwritten(type, {rows, channels}) : Tensor();
  backend.add_layernorm_backward(dres, dres_copy, dgain, dbias, dnormed, res, row_mean, rstd, gain,
                                 dropout);
  // The terms that cancel in dres are rstd times larger than dnormed.
  double largest = 0;
  for (std::int64_t n = 0; n < rows; ++n) largest = std::max(largest, rstd.at(n));
  const double slack = f32_noise(largest);
  Outputs outputs{
      {"dres", dres, slack, 1e-5}, {"dgain", dgain, 0, 1e-5}, {"dbias", dbias, 0, 1e-5}};
  if (copy) outputs.push_back({"dres_copy", dres_copy, slack});
  return outputs;
}

Outputs Linear::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const Tensor inp = draw({rows, inputs}, deviation).as(type);
  const Tensor parameter = draw({inputs, outputs}, 1.0 / std::sqrt(static_cast<double>(inputs)));
  const Tensor bias = draw({outputs});
  const Weight weight(backend, parameter, WeightOrder::kInOut);
  Tensor out = unwritten(type, {rows, outputs});
  const bool with_pre = epilogue == Epilogue::kGelu && keep_pre;
  Tensor pre = with_pre ? unwritten(type, {rows, outputs}) : Tensor();
  backend.linear_forward(out, pre, inp, weight, bias, epilogue);
  Outputs results{{"out", out}};
  if (with_pre) results.push_back({"pre", pre});
  return results;
}

Outputs LinearBackward::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const Tensor dout = draw({rows, outputs}).as(type);
  const Tensor inp = draw({rows, inputs}).as(type);
  const Tensor pre = epilogue == Epilogue::kGelu ? draw({rows, inputs}, 2.0).as(type) : Tensor();
  const Tensor parameter = draw({inputs, outputs}, 1.0 / std::sqrt(static_cast<double>(outputs)));
  const Weight weight(backend, parameter, WeightOrder::kInOut);
  Tensor dinp = unwritten(type, {rows, inputs});
  const bool add = gradient == Gradient::kAdd;
  Tensor dweight = add ? draw({inputs, outputs}) : unwritten(DType::kF32, {inputs, outputs});
  Tensor dbias = add ? draw({outputs}) : unwritten(DType::kF32, {outputs});
  backend.linear_backward(dinp, dweight, dbias, dout, inp, weight, epilogue, pre, gradient);
  return {{"dinp", dinp}, {"dweight", dweight, 0, 1e-5}, {"dbias", dbias, 0, 1e-5}};
}

Outputs LowRankBackward::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const Tensor dout = draw({rows, outputs}).as(type);
  const Tensor inp = draw({rows, inputs}).as(type);
  const Tensor a = draw({inputs, rank}, 1.0 / std::sqrt(static_cast<double>(inputs)));
  const Tensor b = draw({rank, outputs}, 1.0 / std::sqrt(static_cast<double>(outputs)));
  Tensor da = draw({inputs, rank});
  Tensor db = draw({rank, outputs});
  backend.low_rank_backward(da, db, dout, inp, a, b, 0.5F);
  // bf16: each of the N terms of a sum has its own rounding of 2^-9 relative to the term.
  const double noise =
      type == DType::kBf16 ? 0x1p-8 * 0.5 * 4 * std::sqrt(static_cast<double>(rows)) : 0;
  return {{"da", da, noise, 1e-5}, {"db", db, noise, 1e-5}};
}

Outputs GeluForward::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const Tensor inp = draw({rows, inputs}).as(type);
  const Tensor parameter = draw({inputs, outputs});
  const Tensor bias = draw({outputs});
  const Weight weight(backend, parameter, WeightOrder::kInOut);
  Tensor out = unwritten(type, {rows, outputs});
  Tensor pre = unwritten(type, {rows, outputs});
  backend.linear_forward(out, pre, inp, weight, bias, Epilogue::kGelu);
  Tensor again = unwritten(type, {rows, outputs});
  backend.gelu_forward(again, pre);
  if (backend.name() == "cpu") {  // others take GELU of what they have not rounded yet
    for (std::int64_t i = 0; i < rows * outputs; ++i) EXPECT_EQ(again.at(i), out.at(i)) << i;
  }
  return {{"again", again}};
}

Outputs Attention::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const std::int64_t rows = batch * length;
  const std::int64_t channels = heads * head_size;
  Tensor qkv = draw_qkv(draw, rows, channels, score).as(type);
  for (std::int64_t row = 0; rising && row < rows; ++row) {
    qkv.set(row * 3 * channels, std::sqrt(static_cast<double>(head_size)));
    const auto step = static_cast<double>(row % length * 16 / length);  // exact in bf16
    qkv.set(row * 3 * channels + channels, score * step / 4);
  }
  Tensor out = unwritten(type, {rows, channels});
  Tensor lse = unwritten(DType::kF32, {batch, heads, length});
  backend.attention_forward(out, lse, qkv, dropout);
  // A score's error is the relative error of its probability.
  return {{"out", out, 10 * f32_noise(score)}, {"lse", lse, f32_noise(score), 1e-5}};
}

Outputs AttentionBackward::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const std::int64_t rows = batch * length;
  const std::int64_t channels = heads * head_size;
  const Tensor qkv = draw_qkv(draw, rows, channels, score).as(type);
  const Tensor dout = draw({rows, channels}).as(type);
  Tensor out(type, {rows, channels});
  Tensor lse(DType::kF32, {batch, heads, length});
  make_backend(Device::kReference, type)->attention_forward(out, lse, qkv, dropout);
  Tensor dqkv = unwritten(type, {rows, 3 * channels});
  backend.attention_backward(dqkv, dout, qkv, out, lse, dropout);
  // The sum of p dp comes from the stored `out`. Where one probability is 1, its ds is the
  // difference of two equal numbers, so what rounding left in out stays: 2^-9 a channel, summed
  // over the head, times a query of up to four times `score`.
  const double stored =
      type == DType::kBf16 ? 0x1p-7 * score / (1 - static_cast<double>(dropout.probability)) : 0;
  return {{"dqkv", dqkv, 10 * f32_noise(score) * score + stored}};
}

Outputs AttentionCached::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const std::int64_t channels = heads * head_size;
  const Tensor qkv = draw({length, 3 * channels}).as(type);
  Tensor k_cache(type, {heads, length + spare, head_size});
  Tensor v_cache(type, {heads, length + spare, head_size});
  Tensor out = unwritten(type, {length, channels});
  for (std::int64_t first = 0; first < length; first += piece) {
    const std::int64_t count = std::min(piece, length - first);
    const CacheRows rows{k_cache, v_cache, first, count};
    backend.attention_cached(View(out).rows(first, count), View(qkv).rows(first, count),
                             {&rows, 1});
  }
  return {{"out", out}, {"k_cache", k_cache, 0, 1e-9}, {"v_cache", v_cache, 0, 1e-9}};
}

Outputs AttentionOfSequences::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const std::int64_t channels = heads * head_size;
  std::vector<Tensor> caches;
  std::vector<CacheRows> sequences;
  std::int64_t total = 0;
  for (const auto& [position, rows] : pieces) {
    const Shape shape{heads, position + rows + 2, head_size};
    caches.push_back(draw(shape).as(type));
    caches.push_back(draw(shape).as(type));
    sequences.push_back({caches[caches.size() - 2], caches.back(), position, rows});
    total += rows;
  }
  const Tensor qkv = draw({total, 3 * channels}).as(type);
  Tensor out = unwritten(type, {total, channels});
  if (together) {
    backend.attention_cached(out, qkv, sequences);
  } else {
    std::int64_t row = 0;
    for (const CacheRows& sequence : sequences) {
      backend.attention_cached(View(out).rows(row, sequence.rows),
                               View(qkv).rows(row, sequence.rows), {&sequence, 1});
      row += sequence.rows;
    }
  }
  Outputs outputs{{"out", out}};
  for (const Tensor& cache : caches) outputs.push_back({"cache", cache, 0, 1e-9});
  return outputs;
}

Outputs HeadLoss::operator()(Backend& backend, Draw draw) const {
  const DType type = backend.compute_type();
  const Tensor x = draw({rows, channels}, logit).as(type);
  const Tensor table =
      draw({padded_vocab, channels}, 1.0 / std::sqrt(static_cast<double>(channels)));
  Tensor targets = draw.ids(rows, vocab);
  for (std::int64_t n = 0; n < rows; ++n) {
    if (ignore_every > 0 && n % ignore_every == 0) targets.set(n, kIgnoredTarget);
  }
  const Weight wte(backend, table, WeightOrder::kOutIn);
  Tensor losses = unwritten(DType::kF32, {rows});
  Tensor total(DType::kF32, {1});
  const double slack = f32_noise(10 * logit);
  if (!gradients) {
    total.set(0, backend.head_loss_forward(losses, x, wte, targets, vocab));
    return {{"losses", losses, slack, 1e-5},
            {"total", total, slack * static_cast<double>(rows), 1e-5}};
  }
  Tensor dx = unwritten(type, {rows, channels});
  Tensor dwte = gradient == Gradient::kAdd ? draw({padded_vocab, channels}, 0.1)
                                           : unwritten(DType::kF32, {padded_vocab, channels});
  total.set(0,
            backend.head_loss(losses, dx, dwte, x, wte, targets, vocab, 0.75F, gradient, options));
  return {{"losses", losses, slack, 1e-5},
          {"total", total, slack * static_cast<double>(rows), 1e-5},
          {"dx", dx, slack},
          {"dwte", dwte, slack * logit}};
}

Outputs HeadLogits::operator()(Backend& backend, Draw draw) const {
  const Tensor x = draw({rows, channels}).as(backend.compute_type());
  const Tensor table =
      draw({padded_vocab, channels}, 1.0 / std::sqrt(static_cast<double>(channels)));
  const Weight wte(backend, table, WeightOrder::kOutIn);
  Tensor logits = unwritten(DType::kF32, {rows, vocab});
  backend.head_logits(logits, x, wte, vocab);
  return {{"logits", logits, 0, 1e-5}};
}

namespace {

/// A moving average that starts as the parameter; without memory where decay < 0.
struct Following {
  Tensor values;
  double decay;
  Following(const Tensor& parameter, double of) : decay(of) {
    if (decay >= 0) values = parameter;
  }
  operator Average() const { return decay < 0 ? Average{} : Average{values, decay}; }
};

}  // namespace

Outputs AdamWSteps::operator()(Backend& backend, Draw draw) const {
  Tensor parameter = draw(shape);
  Tensor m(DType::kF32, shape);
  Tensor v(DType::kF32, shape);
  const Following following(parameter, average);
  std::vector<Tensor> gradients;  // live until finish()
  for (std::int64_t step = 1; step <= steps; ++step) {
    AdamW hyper;
    hyper.learning_rate = 0.1F;
    hyper.weight_decay = 0.1F;
    hyper.gradient_scale = 0.5F;
    hyper.step = step;
    gradients.push_back(draw(shape, gradient));
    backend.adamw_step(parameter, gradients.back(), m, v, hyper, nullptr, following);
  }
  backend.finish();
  Outputs outputs{{"parameter", parameter, 0, 1e-6}, {"m", m, 0, 1e-6}, {"v", v, 0, 1e-6}};
  if (average >= 0) outputs.push_back({"average", following.values, 0, 1e-6});
  return outputs;
}

Outputs MuonSteps::operator()(Backend& backend, Draw draw) const {
  const Shape shape{rows, columns};
  Tensor parameter = draw(shape, 0.5);
  Tensor m(DType::kF32, shape);
  const Following following(parameter, average);
  std::vector<Tensor> gradients;
  for (std::int64_t step = 1; step <= steps; ++step) {
    Muon hyper;
    hyper.learning_rate = 0.5F;
    hyper.weight_decay = 0.125F;
    hyper.gradient_scale = 0.5F;
    hyper.parts = parts;
    gradients.push_back(draw(shape, gradient));
    backend.muon_step(parameter, gradients.back(), m, hyper, nullptr, following);
  }
  backend.finish();
  // Five times the iteration multiplies what is small by 3.4, errors of rounding as well.
  const double tolerance = backend.compute_type() == DType::kBf16 ? 0.05 : 1e-4;
  Outputs outputs{{"parameter", parameter, 0, tolerance}, {"m", m, 0, 1e-6}};
  if (average >= 0) outputs.push_back({"average", following.values, 0, tolerance});
  return outputs;
}

}  // namespace kernels::test
