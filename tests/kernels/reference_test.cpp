// The reference against formulas written once more, in double, and their central differences.
//
// Everything is drawn in f32 and computed in double, so what remains is the rounding of stored
// results: 2^-24 relative to the largest value, with a margin of ten.

#include <functional>

#include "kernels/operations.h"

namespace kernels::test {
namespace {

constexpr double kTolerance = 1e-6;

using Values = std::vector<double>;

Values values_of(const Tensor& tensor) {
  Values values;
  for (std::int64_t i = 0; i < tensor.size(); ++i) values.push_back(tensor.at(i));
  return values;
}

/// Gradient of `f` at `x`. The step balances truncation (step^2) against rounding (2^-53 / step).
Values differences(const std::function<double(const Values&)>& f, Values x) {
  constexpr double kStep = 1e-5;
  Values gradient;
  for (double& value : x) {
    const double middle = value;
    value = middle + kStep;
    const double above = f(x);
    value = middle - kStep;
    const double below = f(x);
    value = middle;
    gradient.push_back((above - below) / (2 * kStep));
  }
  return gradient;
}

void expect_values(const std::string& name, const Tensor& actual, const Values& expected) {
  ASSERT_EQ(static_cast<std::size_t>(actual.size()), expected.size()) << name;
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0.0) << name;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual.at(static_cast<std::int64_t>(i)), expected[i], kTolerance * largest)
        << name << "[" << i << "]";
  }
}

/// What is left of a "+=" output when what it held before is taken away.
Values added(const Tensor& after, const Tensor& before) {
  Values values = values_of(after);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] -= before.at(static_cast<std::int64_t>(i));
  return values;
}

void expect_added(const std::string& name, const Tensor& after, const Tensor& before,
                  const Values& expected) {
  const Values values = added(after, before);
  ASSERT_EQ(values.size(), expected.size()) << name;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(values[i], expected[i], kTolerance * (4 + std::abs(expected[i])))
        << name << "[" << i << "]";
  }
}

double weighted_sum(const Values& values, const Tensor& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    sum += values[i] * weights.at(static_cast<std::int64_t>(i));
  return sum;
}

class Reference : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend = make_backend(Device::kReference, DType::kF32);
  Draw draw{DType::kF32};
};

// ---- attention --------------------------------------------------------------------------------

/// What `dropout` multiplies element `i` of row `row` with, as kernels.h says.
double kept(const Dropout& dropout, std::size_t row, std::size_t i) {
  const double p = static_cast<double>(dropout.probability);
  const std::uint64_t key =
      base::random_bits(dropout.key, 0, static_cast<std::uint64_t>(dropout.first_row) + row);
  const std::uint32_t bits = base::random_bits32(key, static_cast<std::uint32_t>(i));
  return static_cast<double>(bits) >= std::round(p * 0x1p32) ? 1 / (1 - p) : 0;
}

/// values (rows, columns) through dropout.
Values dropped(const Dropout& dropout, Values values, std::size_t columns) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] *= kept(dropout, i / columns, i % columns);
  }
  return values;
}

constexpr Dropout kDropout{0.375F, 0x0123456789abcdefULL, 40};

/// Causal attention with explicit matrices, one (batch, head) after another.
Values attention(const Values& qkv, std::size_t batch, std::size_t heads, std::size_t length,
                 std::size_t head_size, const Dropout& dropout = {}) {
  const std::size_t channels = heads * head_size;
  Values out(batch * length * channels);
  const auto at = [&](std::size_t row, std::size_t part, std::size_t column) {
    return qkv[row * 3 * channels + part * channels + column];
  };
  for (std::size_t b = 0; b < batch; ++b) {
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t t = 0; t < length; ++t) {
        Values weights;
        double sum = 0;
        for (std::size_t j = 0; j <= t; ++j) {
          double score = 0;
          for (std::size_t d = h * head_size; d < (h + 1) * head_size; ++d) {
            score += at(b * length + t, 0, d) * at(b * length + j, 1, d);
          }
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(head_size))));
          sum += weights.back();
        }
        for (std::size_t d = h * head_size; d < (h + 1) * head_size; ++d) {
          for (std::size_t j = 0; j <= t; ++j) {
            const std::size_t row = b * length + t;
            const std::size_t first = static_cast<std::size_t>(dropout.first_row) * (heads - 1);
            out[row * channels + d] += weights[j] / sum * at(b * length + j, 2, d) *
                                       kept(dropout, first + row * heads + h, j);
          }
        }
      }
    }
  }
  return out;
}

TEST_F(Reference, AttentionAndItsGradientMatchTheFormula) {
  const Tensor qkv = draw({2 * 5, 3 * 2 * 3});
  const Tensor dout = draw({2 * 5, 2 * 3});
  Tensor out = unwritten(DType::kF32, {2 * 5, 2 * 3});
  Tensor lse = unwritten(DType::kF32, {2, 2, 5});
  Tensor dqkv = unwritten(DType::kF32, {2 * 5, 3 * 2 * 3});
  backend->attention_forward(out, lse, qkv);
  backend->attention_backward(dqkv, dout, qkv, out, lse);
  expect_values("out", out, attention(values_of(qkv), 2, 2, 5, 3));
  expect_values(
      "dqkv", dqkv,
      differences([&](const Values& x) { return weighted_sum(attention(x, 2, 2, 5, 3), dout); },
                  values_of(qkv)));
}

TEST_F(Reference, AttentionWithDropoutAndItsGradientMatchTheFormula) {
  const Tensor qkv = draw({2 * 5, 3 * 2 * 3});
  const Tensor dout = draw({2 * 5, 2 * 3});
  Tensor out = unwritten(DType::kF32, {2 * 5, 2 * 3});
  Tensor lse = unwritten(DType::kF32, {2, 2, 5});
  Tensor plain_lse = lse;
  Tensor dqkv = unwritten(DType::kF32, {2 * 5, 3 * 2 * 3});
  backend->attention_forward(out, plain_lse, qkv);
  backend->attention_forward(out, lse, qkv, kDropout);
  EXPECT_EQ(lse.bytes(), plain_lse.bytes()) << "dropout comes after the softmax";
  backend->attention_backward(dqkv, dout, qkv, out, lse, kDropout);
  const auto formula = [&](const Values& x) { return attention(x, 2, 2, 5, 3, kDropout); };
  expect_values("out", out, formula(values_of(qkv)));
  expect_values(
      "dqkv", dqkv,
      differences([&](const Values& x) { return weighted_sum(formula(x), dout); }, values_of(qkv)));
}

TEST_F(Reference, LogSumExpIsThatOfTheScaledScores) {
  // One head of size 4, q = (2, 0, 0, 0), k0 = (1, 0, ..), k1 = (3, 0, ..): scores 1 and 3.
  Tensor qkv(DType::kF32, {2, 12});
  for (const std::int64_t row : {0, 1}) qkv.set(row * 12, 2);
  qkv.set(4, 1);
  qkv.set(12 + 4, 3);
  Tensor out(DType::kF32, {2, 4});
  Tensor lse(DType::kF32, {1, 1, 2});
  backend->attention_forward(out, lse, qkv);
  EXPECT_NEAR(lse.at(0), 1.0, 1e-6);
  EXPECT_NEAR(lse.at(1), std::log(std::exp(1.0) + std::exp(3.0)), 1e-6);
}

TEST_F(Reference, ScoresFarBelowZeroDoNotUnderflow) {
  // One position that sees only itself, with a score of -10,000 / sqrt(1).
  Tensor qkv(DType::kF32, {1, 3});
  qkv.set(0, 100);
  qkv.set(1, -100);
  qkv.set(2, 0.5);
  Tensor out = unwritten(DType::kF32, {1, 1});
  Tensor lse = unwritten(DType::kF32, {1, 1, 1});
  backend->attention_forward(out, lse, qkv);
  EXPECT_EQ(out.at(0), 0.5);
  EXPECT_EQ(lse.at(0), -10'000.0);

  Tensor x(DType::kF32, {1, 1});
  x.set(0, -100);
  Tensor table(DType::kF32, {2, 1});
  table.set(0, 100);
  table.set(1, 100);
  const Weight wte(*backend, table, WeightOrder::kOutIn);
  Tensor losses = unwritten(DType::kF32, {1});
  EXPECT_NEAR(backend->head_loss_forward(losses, x, wte, integers({1}), 2), std::log(2.0), 1e-9);
}

// ---- LayerNorm --------------------------------------------------------------------------------

Values layernorm(const Values& x, const Values& gain, const Values& bias) {
  const std::size_t channels = gain.size();
  Values out;
  for (std::size_t first = 0; first < x.size(); first += channels) {
    double mean = 0;
    for (std::size_t c = 0; c < channels; ++c) mean += x[first + c] / static_cast<double>(channels);
    double variance = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      variance += (x[first + c] - mean) * (x[first + c] - mean) / static_cast<double>(channels);
    }
    for (std::size_t c = 0; c < channels; ++c) {
      const double epsilon = 1e-5;
      out.push_back((x[first + c] - mean) / std::sqrt(variance + epsilon) * gain[c] + bias[c]);
    }
  }
  return out;
}

TEST_F(Reference, LayerNormAndItsGradientMatchTheFormula) {
  const Tensor res_in = draw({3, 7});
  const Tensor branch = draw({3, 7});
  const Tensor gain = draw({7});
  const Tensor bias = draw({7});
  Tensor res(DType::kF32, {3, 7});
  Tensor normed = unwritten(DType::kF32, {3, 7});
  Tensor mean = unwritten(DType::kF32, {3});
  Tensor rstd = unwritten(DType::kF32, {3});
  backend->add_layernorm_forward(res, normed, mean, rstd, res_in, branch, gain, bias);
  for (std::int64_t i = 0; i < res.size(); ++i) {
    EXPECT_FLOAT_EQ(static_cast<float>(res.at(i)), static_cast<float>(res_in.at(i) + branch.at(i)));
  }
  expect_values("normed", normed, layernorm(values_of(res), values_of(gain), values_of(bias)));

  const Tensor dnormed = draw({3, 7});
  const Tensor dres_before = draw({3, 7});
  const Tensor dgain_before = draw({7});
  const Tensor dbias_before = draw({7});
  Tensor dres = dres_before;
  Tensor dgain = dgain_before;
  Tensor dbias = dbias_before;
  Tensor copy = unwritten(DType::kF32, {3, 7});
  backend->add_layernorm_backward(dres, copy, dgain, dbias, dnormed, res, mean, rstd, gain);
  const auto objective = [&](const Values& x, const Values& g, const Values& b) {
    return weighted_sum(layernorm(x, g, b), dnormed);
  };
  const Values x = values_of(res);
  const Values g = values_of(gain);
  const Values b = values_of(bias);
  expect_added("dres", dres, dres_before,
               differences([&](const Values& v) { return objective(v, g, b); }, x));
  expect_added("dgain", dgain, dgain_before,
               differences([&](const Values& v) { return objective(x, v, b); }, g));
  expect_added("dbias", dbias, dbias_before,
               differences([&](const Values& v) { return objective(x, g, v); }, b));
  EXPECT_EQ(copy.bytes(), dres.bytes());
}

TEST_F(Reference, DropoutOfTheBranchAndItsGradientMatchTheFormula) {
  const Tensor res_in = draw({3, 7});
  const Tensor branch = draw({3, 7});
  const Tensor gain = draw({7});
  const Tensor bias = draw({7});
  Tensor res(DType::kF32, {3, 7});
  Tensor normed = unwritten(DType::kF32, {3, 7});
  Tensor mean = unwritten(DType::kF32, {3});
  Tensor rstd = unwritten(DType::kF32, {3});
  backend->add_layernorm_forward(res, normed, mean, rstd, res_in, branch, gain, bias, kDropout);
  const auto add = [&](const Values& values) {
    Values sum = dropped(kDropout, values, 7);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += res_in.at(static_cast<std::int64_t>(i));
    return sum;
  };
  expect_values("res_out", res, add(values_of(branch)));

  const Tensor dnormed = draw({3, 7});
  const Tensor above = draw({3, 7});  // what reaches the residual from elsewhere
  Tensor dres = above;
  Tensor dbranch = unwritten(DType::kF32, {3, 7});
  Tensor dgain(DType::kF32, {7});
  Tensor dbias(DType::kF32, {7});
  backend->add_layernorm_backward(dres, dbranch, dgain, dbias, dnormed, res, mean, rstd, gain,
                                  kDropout);
  const auto objective = [&](const Values& values) {
    const Values x = add(values);
    return weighted_sum(layernorm(x, values_of(gain), values_of(bias)), dnormed) +
           weighted_sum(x, above);
  };
  const Values expected = differences(objective, values_of(branch));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(dbranch.at(static_cast<std::int64_t>(i)), expected[i], 1e-5) << i;
  }
  EXPECT_NE(dbranch.bytes(), dres.bytes());
}

// ---- linear layers ----------------------------------------------------------------------------

double gelu(double z) {
  const double kPi = 3.14159265358979323846;
  return z / 2 * (1 + std::tanh(std::sqrt(2 / kPi) * (z + 0.044715 * z * z * z)));
}

Values linear(const Values& inp, const Values& weight, const Values& bias) {
  const std::size_t outputs = bias.size();
  const std::size_t inputs = weight.size() / outputs;
  Values out;
  for (std::size_t n = 0; n < inp.size() / inputs; ++n) {
    for (std::size_t m = 0; m < outputs; ++m) {
      double sum = bias[m];
      for (std::size_t k = 0; k < inputs; ++k) sum += inp[n * inputs + k] * weight[k * outputs + m];
      out.push_back(sum);
    }
  }
  return out;
}

Values each(Values values, double (*function)(double)) {
  for (double& value : values) value = function(value);
  return values;
}

TEST_F(Reference, LinearForwardKeepsThePreActivationAndAppliesGelu) {
  const Tensor inp = draw({4, 5});
  const Tensor parameter = draw({5, 3});
  const Tensor bias = draw({3});
  const Weight weight(*backend, parameter, WeightOrder::kInOut);
  Tensor out = unwritten(DType::kF32, {4, 3});
  Tensor pre = unwritten(DType::kF32, {4, 3});
  backend->linear_forward(out, pre, inp, weight, bias, Epilogue::kGelu);
  const Values z = linear(values_of(inp), values_of(parameter), values_of(bias));
  expect_values("pre", pre, z);
  expect_values("out", out, each(z, gelu));
}

TEST_F(Reference, LinearGradientWithGeluMatchesDifferences) {
  const Tensor pre = draw({4, 5});
  const Values activations = each(values_of(pre), gelu);
  Tensor inp(DType::kF32, {4, 5});
  for (std::int64_t i = 0; i < inp.size(); ++i)
    inp.set(i, activations[static_cast<std::size_t>(i)]);
  const Tensor parameter = draw({5, 3});
  const Tensor bias = draw({3});
  const Tensor dout = draw({4, 3});
  const Weight weight(*backend, parameter, WeightOrder::kInOut);
  const Tensor dweight_before = draw({5, 3});
  const Tensor dbias_before = draw({3});
  Tensor dinp = unwritten(DType::kF32, {4, 5});
  Tensor dweight = dweight_before;
  Tensor dbias = dbias_before;
  backend->linear_backward(dinp, dweight, dbias, dout, inp, weight, Epilogue::kGelu, pre);

  const auto objective = [&](const Values& z, const Values& w, const Values& b) {
    return weighted_sum(linear(each(z, gelu), w, b), dout);
  };
  const Values z = values_of(pre);
  const Values w = values_of(parameter);
  const Values b = values_of(bias);
  expect_values("dinp", dinp, differences([&](const Values& v) { return objective(v, w, b); }, z));
  expect_added("dweight", dweight, dweight_before,
               differences([&](const Values& v) { return objective(z, v, b); }, w));
  expect_added("dbias", dbias, dbias_before,
               differences([&](const Values& v) { return objective(z, w, v); }, b));
}

TEST_F(Reference, LinearGradientWithoutGeluIsTheTransposedProduct) {
  const Tensor inp = draw({4, 5});
  const Tensor parameter = draw({5, 3});
  const Tensor dout = draw({4, 3});
  const Weight weight(*backend, parameter, WeightOrder::kInOut);
  Tensor dinp = unwritten(DType::kF32, {4, 5});
  Tensor dweight(DType::kF32, {5, 3});
  Tensor dbias(DType::kF32, {3});
  backend->linear_backward(dinp, dweight, dbias, dout, inp, weight, Epilogue::kNone, {});
  const Values w = values_of(parameter);
  const Values zeros(3);
  expect_values(
      "dinp", dinp,
      differences([&](const Values& v) { return weighted_sum(linear(v, w, zeros), dout); },
                  values_of(inp)));
}

// ---- embedding --------------------------------------------------------------------------------

TEST_F(Reference, EmbeddingAddsTokensAndPositionsAndScattersBack) {
  const Tensor ids = integers({2, 0, 2, 2, 1, 0});  // two sequences of three
  const Tensor wte = draw({4, 5});
  const Tensor wpe = draw({6, 5});
  const auto embed = [&](const Values& tokens, const Values& positions) {
    Values x;
    for (std::int64_t n = 0; n < 6; ++n) {
      for (std::int64_t c = 0; c < 5; ++c) {
        x.push_back(tokens[static_cast<std::size_t>(static_cast<std::int64_t>(ids.at(n)) * 5 + c)] +
                    positions[static_cast<std::size_t>(n % 3 * 5 + c)]);
      }
    }
    return x;
  };
  Tensor x = unwritten(DType::kF32, {6, 5});
  backend->embed_forward(x, ids, wte, wpe, 3, 0);
  expect_values("x", x, embed(values_of(wte), values_of(wpe)));

  const Tensor dx = draw({6, 5});
  const Tensor dwte_before = draw({4, 5});
  const Tensor dwpe_before = draw({6, 5});
  Tensor dwte = dwte_before;
  Tensor dwpe = dwpe_before;
  backend->embed_backward(dwte, dwpe, dx, ids, 3);
  const Values tokens = values_of(wte);
  const Values positions = values_of(wpe);
  expect_added(
      "dwte", dwte, dwte_before,
      differences([&](const Values& v) { return weighted_sum(embed(v, positions), dx); }, tokens));
  expect_added(
      "dwpe", dwpe, dwpe_before,
      differences([&](const Values& v) { return weighted_sum(embed(tokens, v), dx); }, positions));
}

TEST_F(Reference, DropoutOfTheEmbeddingAndItsGradientMatchTheFormula) {
  const Tensor ids = integers({2, 0, 2, 2, 1, 0});
  const Tensor wte = draw({3, 5});
  const Tensor wpe = draw({3, 5});
  Tensor plain = unwritten(DType::kF32, {6, 5});
  Tensor x = unwritten(DType::kF32, {6, 5});
  backend->embed_forward(plain, ids, wte, wpe, 3, 0);
  backend->embed_forward(x, ids, wte, wpe, 3, 0, kDropout);
  expect_values("x", x, dropped(kDropout, values_of(plain), 5));

  // The gradient of dropout is dropout.
  const Tensor dx = draw({6, 5});
  Tensor masked = dx;
  const Values masked_values = dropped(kDropout, values_of(dx), 5);
  for (std::int64_t i = 0; i < dx.size(); ++i) {
    masked.set(i, masked_values[static_cast<std::size_t>(i)]);
  }
  Tensor dwte(DType::kF32, {3, 5}), dwpe(DType::kF32, {3, 5});
  Tensor expected_dwte(DType::kF32, {3, 5}), expected_dwpe(DType::kF32, {3, 5});
  backend->embed_backward(dwte, dwpe, dx, ids, 3, kDropout);
  backend->embed_backward(expected_dwte, expected_dwpe, masked, ids, 3);
  expect_values("dwte", dwte, values_of(expected_dwte));
  expect_values("dwpe", dwpe, values_of(expected_dwpe));
}

TEST_F(Reference, EmbeddingStartsAtTheFirstPosition) {
  const Tensor wte(DType::kF32, {1, 1});
  Tensor wpe(DType::kF32, {4, 1});
  for (std::int64_t i = 0; i < 4; ++i) wpe.set(i, static_cast<double>(10 + i));
  Tensor x(DType::kF32, {2, 1});
  backend->embed_forward(x, integers({0, 0}), wte, wpe, 2, 2);
  EXPECT_EQ(values_of(x), (Values{12, 13}));
}

// ---- head and loss ----------------------------------------------------------------------------

/// Sum of the cross entropies of the rows whose target is not -1, over the first `vocab` tokens.
/// What `options` add: (1 - E) of it, E of the mean over all tokens, W times lse^2.
double cross_entropy(const Values& x, const Values& table, const Tensor& targets,
                     std::size_t channels, std::size_t vocab, const LossOptions& options = {}) {
  const auto smoothing = static_cast<double>(options.label_smoothing);
  double total = 0;
  for (std::size_t n = 0; n < x.size() / channels; ++n) {
    const double target = targets.at(static_cast<std::int64_t>(n));
    if (target < 0) continue;
    double sum = 0;
    double target_logit = 0;
    double mean_logit = 0;
    for (std::size_t token = 0; token < vocab; ++token) {
      double logit = 0;
      for (std::size_t c = 0; c < channels; ++c)
        logit += x[n * channels + c] * table[token * channels + c];
      sum += std::exp(logit);
      mean_logit += logit / static_cast<double>(vocab);
      if (static_cast<double>(token) == target) target_logit = logit;
    }
    const double lse = std::log(sum);
    total += (1 - smoothing) * (lse - target_logit) + smoothing * (lse - mean_logit) +
             static_cast<double>(options.z_loss) * lse * lse;
  }
  return total;
}

TEST_F(Reference, HeadLossAndItsGradientsMatchTheFormula) {
  const Tensor x = draw({5, 4});
  const Tensor table = draw({8, 4});
  const Tensor targets = integers({6, -1, 0, 3, 6});
  const Weight wte(*backend, table, WeightOrder::kOutIn);
  Tensor losses = unwritten(DType::kF32, {5});
  Tensor dx = unwritten(DType::kF32, {5, 4});
  const Tensor dwte_before = draw({8, 4});
  Tensor dwte = dwte_before;
  const double total = backend->head_loss(losses, dx, dwte, x, wte, targets, 7, 0.5F);

  const Values hidden = values_of(x);
  const Values tokens = values_of(table);
  EXPECT_NEAR(total, cross_entropy(hidden, tokens, targets, 4, 7), 1e-9);
  EXPECT_EQ(losses.at(1), 0.0);
  expect_values(
      "dx", dx,
      differences([&](const Values& v) { return 0.5 * cross_entropy(v, tokens, targets, 4, 7); },
                  hidden));
  for (std::int64_t c = 0; c < 4; ++c) EXPECT_EQ(dx.at(4 + c), 0.0) << "the ignored row";
  expect_added(
      "dwte", dwte, dwte_before,
      differences([&](const Values& v) { return 0.5 * cross_entropy(hidden, v, targets, 4, 7); },
                  tokens));
  for (std::int64_t c = 0; c < 4; ++c) EXPECT_EQ(dwte.at(7 * 4 + c), dwte_before.at(7 * 4 + c));

  Tensor again = unwritten(DType::kF32, {5});
  EXPECT_EQ(backend->head_loss_forward(again, x, wte, targets, 7), total);
  EXPECT_EQ(again.bytes(), losses.bytes());
}

TEST_F(Reference, SmoothedLabelsAndZLossChangeTheGradientsAlone) {
  const Tensor x = draw({5, 4});
  const Tensor table = draw({8, 4});
  const Tensor targets = integers({6, -1, 0, 3, 6});
  const Weight wte(*backend, table, WeightOrder::kOutIn);
  for (const LossOptions options :
       {LossOptions{0.125F, 0}, LossOptions{0, 0.25F}, LossOptions{0.5F, 0.0625F}}) {
    Tensor losses = unwritten(DType::kF32, {5});
    Tensor dx = unwritten(DType::kF32, {5, 4});
    Tensor dwte(DType::kF32, {8, 4});
    const double total =
        backend->head_loss(losses, dx, dwte, x, wte, targets, 7, 0.5F, Gradient::kAdd, options);
    const Values hidden = values_of(x);
    const Values tokens = values_of(table);
    EXPECT_NEAR(total, cross_entropy(hidden, tokens, targets, 4, 7), 1e-9);
    const auto objective = [&](const Values& h, const Values& t) {
      return 0.5 * cross_entropy(h, t, targets, 4, 7, options);
    };
    expect_values("dx", dx,
                  differences([&](const Values& v) { return objective(v, tokens); }, hidden));
    expect_values("dwte", dwte,
                  differences([&](const Values& v) { return objective(hidden, v); }, tokens));
  }
}

TEST_F(Reference, LogitsOfThePaddingDoNotExist) {
  const Tensor x = draw({2, 3});
  const Tensor table = draw({4, 3});
  const Weight wte(*backend, table, WeightOrder::kOutIn);
  Tensor logits = unwritten(DType::kF32, {2, 3});
  backend->head_logits(logits, x, wte, 3);
  Values expected;
  for (std::int64_t n = 0; n < 2; ++n) {
    for (std::int64_t token = 0; token < 3; ++token) {
      double sum = 0;
      for (std::int64_t c = 0; c < 3; ++c) sum += x.at(n * 3 + c) * table.at(token * 3 + c);
      expected.push_back(sum);
    }
  }
  expect_values("logits", logits, expected);
}

// ---- optimizer --------------------------------------------------------------------------------

TEST_F(Reference, AdamWFollowsTheFormulaOverSeveralSteps) {
  double p = 0.75;
  double m = 0;
  double v = 0;
  Tensor parameter(DType::kF32, {1});
  Tensor first(DType::kF32, {1});
  Tensor second(DType::kF32, {1});
  parameter.set(0, p);
  for (int step = 1; step <= 5; ++step) {
    Tensor gradient(DType::kF32, {1});
    gradient.set(0, 0.5 * step - 1.25);
    AdamW hyper;
    hyper.learning_rate = 0.0625F;
    hyper.beta1 = 0.875F;
    hyper.beta2 = 0.9375F;
    hyper.weight_decay = 0.125F;
    hyper.gradient_scale = 0.5F;
    hyper.step = step;
    backend->adamw_step(parameter, gradient, first, second, hyper, nullptr);

    const double g = 0.5 * gradient.at(0);
    p *= 1 - 0.0625 * 0.125;
    m = 0.875 * m + 0.125 * g;
    v = 0.9375 * v + 0.0625 * g * g;
    const double m_hat = m / (1 - std::pow(0.875, step));
    const double v_hat = v / (1 - std::pow(0.9375, step));
    p -= 0.0625 * m_hat / (std::sqrt(v_hat) + 1e-8);
    EXPECT_NEAR(parameter.at(0), p, 1e-6) << "step " << step;
    EXPECT_NEAR(first.at(0), m, 1e-6) << "step " << step;
    EXPECT_NEAR(second.at(0), v, 1e-6) << "step " << step;
  }
}

TEST_F(Reference, AdamWAndTheAverageThatFollows) {
  Tensor parameter(DType::kF32, {1}), m = parameter, v = parameter, average = parameter;
  Tensor gradient(DType::kF32, {1});
  parameter.set(0, 1);
  average.set(0, 3);
  gradient.set(0, 1);
  backend->adamw_step(parameter, gradient, m, v, {.learning_rate = 0.5F}, nullptr, {average, 0.75});
  EXPECT_NEAR(parameter.at(0), 0.5, 1e-6);
  EXPECT_NEAR(average.at(0), 0.75 * 3 + 0.25 * 0.5, 1e-6);
}

// On a diagonal matrix the iteration is the polynomial of each singular value.
TEST_F(Reference, MuonFollowsTheFormulaOverSeveralSteps) {
  const double diagonal[] = {4, -3, 0.5};
  Tensor parameter(DType::kF32, {3, 5}), m(DType::kF32, {3, 5}), average = parameter;
  double p[3] = {}, moment[3] = {}, mean[3] = {};
  for (int step = 1; step <= 3; ++step) {
    Tensor gradient(DType::kF32, {3, 5});
    for (std::int64_t i = 0; i < 3; ++i) gradient.set(i * 5 + i, diagonal[i] * step);
    backend->muon_step(parameter, gradient, m,
                       {.learning_rate = 0.25F,
                        .momentum = 0.875F,
                        .weight_decay = 0.125F,
                        .gradient_scale = 0.5F,
                        .scale = 2},
                       nullptr, {average, 0.5});
    double update[3], sum = 0;
    for (int i = 0; i < 3; ++i) {
      const double g = 0.5 * diagonal[i] * step;
      moment[i] = 0.875 * moment[i] + 0.125 * g;
      update[i] = 0.125 * g + 0.875 * moment[i];
      sum += update[i] * update[i];
    }
    for (std::int64_t i = 0; i < 3; ++i) {
      double x = update[i] / std::sqrt(sum);
      for (int k = 0; k < 5; ++k) {
        x = 3.4445 * x - 4.7750 * std::pow(x, 3) + 2.0315 * std::pow(x, 5);
      }
      p[i] = p[i] * (1 - 0.25 * 0.125) - 0.25 * 2 * x;
      mean[i] = 0.5 * mean[i] + 0.5 * p[i];
      EXPECT_NEAR(parameter.at(i * 5 + i), p[i], 1e-6) << "step " << step;
      EXPECT_NEAR(m.at(i * 5 + i), moment[i], 1e-6) << "step " << step;
      EXPECT_NEAR(average.at(i * 5 + i), mean[i], 1e-6) << "step " << step;
      EXPECT_EQ(parameter.at(i * 5 + (i + 1) % 5), 0) << "step " << step;
    }
  }
}

TEST_F(Reference, MuonTakesTheMatricesOfAParameterOneByOne) {
  const Tensor whole = draw({4, 6});
  Tensor parameter(DType::kF32, {4, 6}), m(DType::kF32, {4, 6});
  backend->muon_step(parameter, whole, m, {.learning_rate = 1, .parts = 3}, nullptr);
  for (std::int64_t part = 0; part < 3; ++part) {
    Tensor own(DType::kF32, {4, 2}), gradient = own, own_m = own;
    const auto there = [&](std::int64_t i) { return i / 2 * 6 + part * 2 + i % 2; };
    for (std::int64_t i = 0; i < 8; ++i) gradient.set(i, whole.at(there(i)));
    backend->muon_step(own, gradient, own_m, {.learning_rate = 1}, nullptr);
    for (std::int64_t i = 0; i < 8; ++i) EXPECT_EQ(parameter.at(there(i)), own.at(i)) << part;
  }
}

// ---- bf16 -------------------------------------------------------------------------------------

TEST(ReferenceBf16, RoundsWeightsAndStoredActivationsOnceToNearestEven) {
  const auto backend = make_backend(Device::kReference, DType::kBf16);
  Tensor parameter(DType::kF32, {1, 3});
  // A tie to even below, a tie to even above, and just past a tie: bf16's unit at 1 is 2^-7.
  parameter.set(0, 1 + 0x1p-8);
  parameter.set(1, 1 + 3 * 0x1p-8);
  parameter.set(2, 1 + 0x1p-8 + 0x1p-20);
  const Weight weight(*backend, parameter, WeightOrder::kInOut);
  Tensor inp(DType::kBf16, {1, 1});
  inp.set(0, 1);
  // The third output is 1 + 2^-7 + 2^-8 - 2^-32 in double: a tie were it rounded to f32 first.
  Tensor bias(DType::kF32, {3});
  bias.set(2, 0x1p-8 - 0x1p-32);
  Tensor out = unwritten(DType::kBf16, {1, 3});
  backend->linear_forward(out, {}, inp, weight, bias, Epilogue::kNone);
  EXPECT_EQ(out.at(0), 1.0);
  EXPECT_EQ(out.at(1), 1 + 4 * 0x1p-8);
  EXPECT_EQ(out.at(2), 1 + 0x1p-7) << "just below the tie: rounded down";
}

TEST(ReferenceBf16, StaysWithinItsRoundingOfTheReferenceInF32) {
  const Subject subject{Device::kReference, DType::kBf16};
  against_reference(subject, Embed{3, 5, 17});
  against_reference(subject, EmbedBackward{3, 5, 17});
  against_reference(subject, LayerNorm{5, 33});
  against_reference(subject, LayerNorm{3, 33, false});
  against_reference(subject, LayerNormBackward{5, 33});
  against_reference(subject, Linear{5, 15, 17, Epilogue::kGelu});
  against_reference(subject, LinearBackward{5, 15, 17, Epilogue::kGelu});
  against_reference(subject, Attention{2, 2, 33, 16});
  against_reference(subject, AttentionBackward{2, 2, 33, 16});
  against_reference(subject, AttentionCached{2, 13, 8, 4});
  against_reference(subject, HeadLoss{7, 20, 97, 128});
  against_reference(subject, HeadLoss{7, 20, 97, 128, 100.0, 3, false});
  against_reference(subject, HeadLogits{3, 20, 97, 128});
  against_reference(subject, AdamWSteps{{3, 17}});
}

}  // namespace
}  // namespace kernels::test
