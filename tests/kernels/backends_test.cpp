// The cpu backend in each compute type against the f32 reference: awkward shapes, then inputs
// chosen to hurt. CMakeLists.txt registers this file once for each instruction set.

#include <numeric>

#include "kernels/operations.h"

namespace kernels::test {
namespace {

class Backends : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  }
  template <class Operation>
  void check(const Operation& operation) {
    against_reference(GetParam(), operation);
  }
};

INSTANTIATE_TEST_SUITE_P(, Backends,
                         testing::Values(Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

/// The singular values of a matrix: Jacobi's rotations make its columns orthogonal, their lengths
/// are what is asked for (Golub, Van Loan 2013, "Matrix Computations", section 8.6.3).
std::vector<double> singular_values(const Tensor& matrix) {
  const bool tall = matrix.shape()[0] >= matrix.shape()[1];
  const std::int64_t rows = matrix.shape()[tall ? 0 : 1];
  const std::int64_t columns = matrix.shape()[tall ? 1 : 0];
  std::vector<std::vector<double>> a(static_cast<std::size_t>(columns));
  for (std::int64_t c = 0; c < columns; ++c) {
    for (std::int64_t r = 0; r < rows; ++r) {
      a[static_cast<std::size_t>(c)].push_back(matrix.at(tall ? r * columns + c : c * rows + r));
    }
  }
  const auto dot = [](const std::vector<double>& x, const std::vector<double>& y) {
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  };
  for (int sweep = 0; sweep < 12; ++sweep) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      for (std::size_t k = i + 1; k < a.size(); ++k) {
        const double product = dot(a[i], a[k]);
        if (product == 0) continue;
        const double zeta = (dot(a[k], a[k]) - dot(a[i], a[i])) / (2 * product);
        const double t = std::copysign(1 / (std::abs(zeta) + std::hypot(1, zeta)), zeta);
        const double cosine = 1 / std::hypot(1, t), sine = cosine * t;
        for (std::size_t r = 0; r < a[i].size(); ++r) {
          const double x = a[i][r], y = a[k][r];
          a[i][r] = cosine * x - sine * y;
          a[k][r] = sine * x + cosine * y;
        }
      }
    }
  }
  std::vector<double> values;
  for (const auto& column : a) values.push_back(std::sqrt(dot(column, column)));
  return values;
}

/// One below, at and above the vectors of every instruction set, primes, and 1.
constexpr std::int64_t kWidths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 97};

// ---- embedding --------------------------------------------------------------------------------

TEST_P(Backends, Embed) {
  for (const std::int64_t channels : kWidths) {
    SCOPED_TRACE(channels);
    check(Embed{1, 1, channels});
    check(Embed{3, 5, channels, 11, 2});
    check(EmbedBackward{1, 1, channels});
    check(EmbedBackward{3, 5, channels});
    check(EmbedBackward{2, 17, channels, 3});
  }
}

TEST_P(Backends, EmbedOfOneRepeatedToken) {
  check(Embed{2, 33, 20, 5, 0, true});
  check(EmbedBackward{2, 33, 20, 5, true});
  check(EmbedBackward{4, 257, 8, 5, true});
}

// ---- LayerNorm --------------------------------------------------------------------------------

TEST_P(Backends, LayerNorm) {
  for (const std::int64_t channels : kWidths) {
    SCOPED_TRACE(channels);
    for (const std::int64_t rows : {1, 5, 33}) {
      check(LayerNorm{rows, channels});
      check(LayerNormBackward{rows, channels});
    }
    check(LayerNorm{3, channels, true, true});
    check(LayerNorm{3, channels, false});
    check(LayerNormBackward{3, channels, false});
  }
}

TEST_P(Backends, LayerNormOfAMeanFarLargerThanTheSpread) {
  check(LayerNorm{3, 97, true, false, 1000.0, 1.0});
  check(LayerNorm{3, 97, false, false, 4096.0, 0.5});
  check(LayerNormBackward{3, 97, true, 1000.0, 1.0});
}

TEST_P(Backends, LayerNormOfEqualValues) {
  check(LayerNorm{3, 33, true, false, 2.0, 0.0});  // variance 0: the epsilon alone
  check(LayerNorm{3, 33, false, false, 0.0, 0.0});
}

TEST_P(Backends, LayerNormOfTinyAndOfLargeValues) {
  check(LayerNorm{3, 33, true, false, 0.0, 1e-4});
  check(LayerNorm{3, 33, true, false, 0.0, 1e6});
  check(LayerNormBackward{3, 33, true, 0.0, 1e-4});
}

TEST_P(Backends, LayerNormBackwardOverManyRows) { check(LayerNormBackward{700, 24}); }

// ---- linear layers ----------------------------------------------------------------------------

struct Sizes {
  std::int64_t rows, inputs, outputs;
};
constexpr Sizes kProducts[] = {{1, 1, 1},     {1, 7, 1},    {2, 1, 3},    {1, 64, 97},  {3, 5, 7},
                               {5, 15, 17},   {16, 16, 16}, {17, 33, 31}, {31, 97, 15}, {33, 2, 64},
                               {64, 48, 144}, {65, 31, 33}, {127, 20, 9}};

TEST_P(Backends, LinearForward) {
  for (const auto& [rows, inputs, outputs] : kProducts) {
    SCOPED_TRACE(testing::Message() << rows << " x " << inputs << " x " << outputs);
    check(Linear{rows, inputs, outputs});
    check(Linear{rows, inputs, outputs, Epilogue::kGelu});
    check(Linear{rows, inputs, outputs, Epilogue::kGelu, false});
  }
}

TEST_P(Backends, LinearBackward) {
  for (const auto& [rows, inputs, outputs] : kProducts) {
    SCOPED_TRACE(testing::Message() << rows << " x " << inputs << " x " << outputs);
    check(LinearBackward{rows, inputs, outputs});
    check(LinearBackward{rows, inputs, outputs, Epilogue::kGelu});
    check(LinearBackward{rows, inputs, outputs, Epilogue::kNone, Gradient::kOverwrite});
    check(GeluForward{rows, inputs, outputs});
  }
}

TEST_P(Backends, GeluFarFromZeroNeitherOverflowsNorVanishes) {
  check(Linear{7, 8, 33, Epilogue::kGelu, true, 100.0});
  check(Linear{7, 8, 33, Epilogue::kGelu, true, 1e8});
}

// ---- attention --------------------------------------------------------------------------------

TEST_P(Backends, AttentionOverLengths) {
  for (const std::int64_t length : {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 129}) {
    SCOPED_TRACE(length);
    check(Attention{2, 2, length, 16});
    check(AttentionBackward{2, 2, length, 16});
  }
  check(AttentionBackward{1, 1, 255, 16});  // groups of 256 keys
  check(AttentionBackward{1, 1, 577, 20});
}

TEST_P(Backends, AttentionWhoseScoresRiseAlongTheKeys) {
  // Each block of keys outdoes what was summed before it.
  for (const double score : {1.0, 16.0, 256.0}) {
    SCOPED_TRACE(score);
    check(Attention{1, 2, 200, 16, score, true});
  }
}

TEST_P(Backends, AttentionOverHeadSizes) {
  for (const std::int64_t head_size : {1, 3, 8, 16, 20, 33, 64, 80, 128, 136}) {
    SCOPED_TRACE(head_size);
    for (const std::int64_t heads : {1, 2, 3}) {
      check(Attention{1, heads, 19, head_size});
      check(AttentionBackward{1, heads, 19, head_size});
    }
  }
}

TEST_P(Backends, AttentionWithLargeScores) {
  for (const double score : {16.0, 256.0}) {
    SCOPED_TRACE(score);
    check(Attention{1, 2, 70, 16, score});
    check(AttentionBackward{1, 2, 70, 16, score});
  }
}

TEST_P(Backends, AttentionWithEqualScoresAverages) {
  check(Attention{1, 2, 70, 16, 0.0});
  check(AttentionBackward{1, 2, 70, 16, 0.0});
}

TEST_P(Backends, CachedAttention) {
  for (const std::int64_t head_size : {1, 8, 20, 64, 80}) {
    SCOPED_TRACE(head_size);
    check(AttentionCached{2, 13, head_size, 13});
    check(AttentionCached{3, 13, head_size, 1});
    check(AttentionCached{1, 70, head_size, 9, 0});
  }
}

TEST_P(Backends, CachedAttentionInAnyPiecesIsAttention) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const DType type = GetParam().type;
  const std::int64_t length = 67;
  Draw draw(type);
  const Tensor qkv = draw({length, 3 * 32}).as(type);
  Tensor expected(type, {length, 32});
  Tensor lse(DType::kF32, {1, 2, length});
  backend->attention_forward(expected, lse, qkv);
  for (const std::int64_t piece : {length, std::int64_t{1}, std::int64_t{10}}) {
    SCOPED_TRACE(piece);
    const Outputs outputs = AttentionCached{2, length, 16, piece}(*backend, Draw(type));
    expect_close(outputs[0], {"attention_forward", expected}, tolerance_of(type));
  }
}

TEST_P(Backends, CachedAttentionOfSeveralSequences) {
  check(AttentionOfSequences{2, 16, {{0, 1}, {7, 1}, {100, 1}, {0, 5}}});
  check(AttentionOfSequences{3, 64, {{130, 1}, {0, 70}, {3, 1}, {61, 33}}});
  check(AttentionOfSequences{1, 20, {{0, 12}, {2, 1}}});
}

TEST_P(Backends, CachedAttentionOfASequenceIgnoresTheOthers) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  for (const std::int64_t head_size : {16, 20, 64}) {
    AttentionOfSequences operation{
        2, head_size, {{130, 1}, {0, 70}, {3, 1}, {61, 33}, {90, 7}, {0, 9}}};
    const Outputs together = operation(*backend, Draw(GetParam().type));
    operation.together = false;
    const Outputs apart = operation(*backend, Draw(GetParam().type));
    for (std::size_t i = 0; i < together.size(); ++i) {
      EXPECT_EQ(together[i].tensor.bytes(), apart[i].tensor.bytes()) << i;
    }
  }
}

// ---- head and loss ----------------------------------------------------------------------------

TEST_P(Backends, HeadLoss) {
  for (const auto& [rows, channels, vocab] : {Sizes{1, 1, 1}, Sizes{1, 16, 97}, Sizes{7, 20, 97},
                                              Sizes{33, 33, 128}, Sizes{65, 48, 300}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << channels << " x " << vocab);
    const std::int64_t padded = (vocab + 127) / 128 * 128;
    check(HeadLoss{rows, channels, vocab, padded, 1.0, 0});
    check(HeadLoss{rows, channels, vocab, padded, 1.0, 3});
    check(HeadLoss{rows, channels, vocab, padded, 1.0, 3, false});
    check(HeadLogits{rows, channels, vocab, padded});
  }
}

TEST_P(Backends, HeadLossOverSeveralChunksOfRows) {
  check(HeadLoss{300, 16, 97, 128});
  check(HeadLoss{301, 16, 97, 128, 1.0, 2, false});
  check(HeadLoss{2100, 16, 97, 128, 1.0, 3, true, Gradient::kOverwrite});
}

TEST_P(Backends, HeadLossOfEqualLogits) { check(HeadLoss{9, 24, 97, 128, 0.0}); }

TEST_P(Backends, HeadLossOfHugeLogits) {
  check(HeadLoss{9, 24, 97, 128, 100.0});
  check(HeadLoss{9, 24, 97, 128, 4096.0, 0, false});
}

TEST_P(Backends, HeadLossWithAllTargetsIgnoredIsZeroAndAddsNothing) {
  check(HeadLoss{9, 24, 97, 128, 1.0, 1});
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const Outputs outputs = HeadLoss{9, 24, 97, 128, 1.0, 1}(*backend, Draw(GetParam().type));
  for (const std::size_t output : {0U, 1U, 2U}) {  // losses, total, dx
    for (std::int64_t i = 0; i < outputs[output].tensor.size(); ++i) {
      EXPECT_EQ(outputs[output].tensor.at(i), 0.0) << outputs[output].name << "[" << i << "]";
    }
  }
}

TEST_P(Backends, ThePaddingOfTheVocabularyHasNoPart) {
  // Rows of the padding that would win every softmax, were they part of it.
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const DType type = GetParam().type;
  Draw draw(type);
  const Tensor x = draw({5, 16}).as(type);
  Tensor table = draw({128, 16});
  const Tensor targets = draw.ids(5, 97);
  const auto run = [&](Tensor& losses, Tensor& dx, Tensor& dwte) {
    const Weight wte(*backend, table, WeightOrder::kOutIn);
    return backend->head_loss(losses, dx, dwte, x, wte, targets, 97, 1.0F);
  };
  Tensor losses(DType::kF32, {5}), dx(type, {5, 16}), dwte(DType::kF32, {128, 16});
  const double total = run(losses, dx, dwte);
  for (std::int64_t i = 97 * 16; i < 128 * 16; ++i) {
    EXPECT_EQ(dwte.at(i), 0.0);
    table.set(i, 1000.0);
  }
  Tensor losses2(DType::kF32, {5}), dx2(type, {5, 16}), dwte2(DType::kF32, {128, 16});
  EXPECT_EQ(run(losses2, dx2, dwte2), total);
  EXPECT_EQ(losses2.bytes(), losses.bytes());
  EXPECT_EQ(dx2.bytes(), dx.bytes());
  EXPECT_EQ(dwte2.bytes(), dwte.bytes());
}

// ---- optimizer and weights --------------------------------------------------------------------

TEST_P(Backends, AdamW) {
  for (const std::int64_t size : kWidths) {
    SCOPED_TRACE(size);
    check(AdamWSteps{{size}});
    check(AdamWSteps{{3, size}});
  }
  check(AdamWSteps{{70'001}, 2});
  check(AdamWSteps{{3, 47}, 3, 1.0, 0.75});
}

TEST_P(Backends, AdamWOfZeroTinyAndLargeGradients) {
  check(AdamWSteps{{33}, 3, 0.0});
  check(AdamWSteps{{33}, 3, 1e-12});
  check(AdamWSteps{{33}, 3, 1e12});
}

TEST_P(Backends, Muon) {
  for (const auto& [rows, columns] :
       {std::pair(1, 1), std::pair(1, 7), std::pair(7, 1), std::pair(2, 3), std::pair(16, 16),
        std::pair(15, 33), std::pair(33, 31), std::pair(17, 97), std::pair(130, 48)}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns);
    check(MuonSteps{rows, columns});
    check(MuonSteps{rows, 3 * columns, 3});
  }
  check(MuonSteps{48, 144, 3, 3, 1.0, 0.75});
}

TEST_P(Backends, MuonOfTinyAndLargeGradients) {
  check(MuonSteps{20, 33, 1, 2, 1e-12});  // below the floor of the norm
  check(MuonSteps{20, 33, 1, 2, 1e-6});
  check(MuonSteps{20, 33, 1, 2, 1e12});
}

TEST_P(Backends, MuonOfAZeroGradientOnlyDecays) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const Tensor before = Draw(GetParam().type)({20, 33}, 0.5);
  const Outputs outputs = MuonSteps{20, 33, 1, 1, 0.0}(*backend, Draw(GetParam().type));
  for (std::int64_t i = 0; i < before.size(); ++i) {
    ASSERT_FLOAT_EQ(static_cast<float>(outputs[0].tensor.at(i)),
                    static_cast<float>(before.at(i) * (1 - 0.5 * 0.125)));
  }
}

TEST_P(Backends, MuonMakesOrthogonal) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  for (const auto& [rows, columns] : {std::pair(24, 40), std::pair(40, 24), std::pair(33, 33)}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns);
    Tensor parameter(DType::kF32, {rows, columns}), m(DType::kF32, {rows, columns});
    const Tensor gradient = Draw(GetParam().type)({rows, columns});
    backend->muon_step(parameter, gradient, m, {.learning_rate = 1}, nullptr);
    for (const double value : singular_values(parameter)) {
      EXPECT_GT(value, rows == columns ? 0.3 : 0.6);  // a square one may begin near 0
      EXPECT_LT(value, 1.25);
    }
  }
}

TEST_P(Backends, MuonRefreshesTheCopiesAsPackWeightMakesThem) {
  const DType type = GetParam().type;
  const auto backend = make_backend(GetParam().device, type);
  Draw draw(type);
  Tensor parameter = draw({33, 51}), m(DType::kF32, {33, 51});
  const Weight stepped(*backend, parameter, WeightOrder::kInOut);
  backend->muon_step(parameter, draw({33, 51}), m, {.learning_rate = 0.5F, .parts = 3}, &stepped);
  const Weight packed(*backend, parameter, WeightOrder::kInOut);
  const Tensor inp = draw({5, 33}).as(type), bias = draw({51});
  const auto run = [&](const Weight& weight) {
    Tensor out = unwritten(type, {5, 51});
    backend->linear_forward(out, {}, inp, weight, bias, Epilogue::kNone);
    return out.bytes();
  };
  EXPECT_EQ(run(stepped), run(packed));
}

TEST_P(Backends, AdamWRefreshesTheCopiesAsPackWeightMakesThem) {
  const DType type = GetParam().type;
  const auto backend = make_backend(GetParam().device, type);
  for (const auto& [rows, inputs, outputs] : {Sizes{5, 33, 17}, Sizes{3, 64, 48}, Sizes{1, 1, 1}}) {
    Draw draw(type);
    Tensor parameter = draw({inputs, outputs});
    const Weight stepped(*backend, parameter, WeightOrder::kInOut);
    Tensor m(DType::kF32, {inputs, outputs});
    Tensor v(DType::kF32, {inputs, outputs});
    AdamW hyper;
    hyper.learning_rate = 0.5F;
    backend->adamw_step(parameter, draw({inputs, outputs}), m, v, hyper, &stepped);
    const Weight packed(*backend, parameter, WeightOrder::kInOut);

    const Tensor inp = draw({rows, inputs}).as(type);
    const Tensor dout = draw({rows, outputs}).as(type);
    const Tensor bias = draw({outputs});
    const auto run = [&](const Weight& weight) {
      Tensor out = unwritten(type, {rows, outputs});
      Tensor dinp = unwritten(type, {rows, inputs});
      Tensor dweight(DType::kF32, {inputs, outputs});
      Tensor dbias(DType::kF32, {outputs});
      backend->linear_forward(out, {}, inp, weight, bias, Epilogue::kNone);
      backend->linear_backward(dinp, dweight, dbias, dout, inp, weight, Epilogue::kNone, {});
      return std::pair(out.bytes(), dinp.bytes());
    };
    EXPECT_EQ(run(stepped), run(packed)) << inputs << " x " << outputs;
  }
}

TEST_P(Backends, AdamWRefreshesTheCopiesOfTheHead) {
  const DType type = GetParam().type;
  const auto backend = make_backend(GetParam().device, type);
  Draw draw(type);
  Tensor table = draw({128, 33});
  const Weight stepped(*backend, table, WeightOrder::kOutIn);
  Tensor m(DType::kF32, {128, 33});
  Tensor v(DType::kF32, {128, 33});
  AdamW hyper;
  hyper.learning_rate = 0.5F;
  backend->adamw_step(table, draw({128, 33}), m, v, hyper, &stepped);
  const Weight packed(*backend, table, WeightOrder::kOutIn);
  const Tensor x = draw({4, 33}).as(type);
  const Tensor targets = draw.ids(4, 97);
  const auto run = [&](const Weight& wte) {
    Tensor losses(DType::kF32, {4}), dx(type, {4, 33}), dwte(DType::kF32, {128, 33});
    backend->head_loss(losses, dx, dwte, x, wte, targets, 97, 1.0F);
    return std::pair(losses.bytes(), dx.bytes());
  };
  EXPECT_EQ(run(stepped), run(packed));
}

TEST_P(Backends, AWeightThatIsNotTrainedNeedsNoBackwardCopy) {
  const DType type = GetParam().type;
  const auto backend = make_backend(GetParam().device, type);
  Draw draw(type);
  const Tensor parameter = draw({33, 17});
  const PackedBytes bytes = backend->packed_bytes(33, 17, WeightOrder::kInOut, false);
  EXPECT_EQ(bytes.backward, 0U);
  base::Arena arena(bytes.forward);
  PackedWeight packed{33, 17, WeightOrder::kInOut, nullptr, nullptr};
  packed.forward = static_cast<std::byte*>(arena.take_bytes(bytes.forward));
  backend->pack_weight(packed, parameter);
  const Weight full(*backend, parameter, WeightOrder::kInOut);
  const Tensor inp = draw({3, 33}).as(type);
  const Tensor bias = draw({17});
  Tensor out(type, {3, 17});
  Tensor expected(type, {3, 17});
  backend->linear_forward(out, {}, inp, packed, bias, Epilogue::kNone);
  backend->linear_forward(expected, {}, inp, full, bias, Epilogue::kNone);
  EXPECT_EQ(out.bytes(), expected.bytes());
}

// ---- NaN --------------------------------------------------------------------------------------

TEST_P(Backends, NanIsNeverHidden) {
  // Training stops at a loss that is not a number, so every operation has to pass it on.
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const DType type = GetParam().type;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::int64_t bad : {0, 7, 19}) {  // in the first vector, inside, in the tail
    SCOPED_TRACE(bad);
    Draw draw(type);
    const Tensor ones = draw({20}, 0.0, 1.0);

    Tensor res = draw({1, 20});
    Tensor normed(type, {1, 20}), mean(DType::kF32, {1}), rstd(DType::kF32, {1});
    res.set(bad, nan);
    backend->add_layernorm_forward(res, normed, mean, rstd, res, {}, ones, ones);
    for (std::int64_t i = 0; i < 20; ++i) EXPECT_TRUE(std::isnan(normed.at(i))) << "normed " << i;

    Tensor inp = draw({2, 20}).as(type);
    inp.set(bad, nan);
    const Weight square(*backend, draw({20, 20}), WeightOrder::kInOut);
    Tensor out(type, {2, 20});
    backend->linear_forward(out, {}, inp, square, ones, Epilogue::kGelu);
    for (std::int64_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(out.at(i)), i < 20) << "out " << i;

    // Two positions, one head: a bad key or value of the second does not reach the first.
    for (const std::int64_t part : {0, 1, 2}) {
      Tensor qkv = draw({2, 60}).as(type);
      qkv.set(60 + part * 20 + bad, nan);
      Tensor lse(DType::kF32, {1, 1, 2});
      backend->attention_forward(out, lse, qkv);
      const std::int64_t seen = part == 2 ? 20 + bad : 20;
      EXPECT_TRUE(std::isnan(out.at(seen))) << "attention, part " << part;
      for (std::int64_t i = 0; i < 20; ++i) EXPECT_FALSE(std::isnan(out.at(i))) << i;
    }

    const Weight wte(*backend, draw({128, 20}), WeightOrder::kOutIn);
    Tensor losses(DType::kF32, {2});
    EXPECT_TRUE(std::isnan(backend->head_loss_forward(losses, inp, wte, integers({3, 4}), 97)));
    EXPECT_TRUE(std::isnan(losses.at(0)));
    EXPECT_FALSE(std::isnan(losses.at(1)));
  }
}

TEST_P(Backends, NanOfAKeyReachesAllThatSeeItInAnyBlock) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const DType type = GetParam().type;
  constexpr std::int64_t kLength = 330;
  Draw draw(type);
  const Tensor good = draw({kLength, 3 * 16}).as(type);
  for (const std::int64_t key : {5, 70, 257}) {
    for (const std::int64_t part : {1, 2}) {
      SCOPED_TRACE(testing::Message() << key << " " << part);
      Tensor qkv = good;
      qkv.set(key * 48 + part * 16 + 3, std::numeric_limits<double>::quiet_NaN());
      Tensor out(type, {kLength, 16}), lse(DType::kF32, {1, 1, kLength});
      backend->attention_forward(out, lse, qkv);
      for (std::int64_t row = 0; row < kLength; ++row) {
        EXPECT_EQ(std::isnan(out.at(row * 16 + 3)), row >= key) << row;
      }
    }
  }
}

// ---- one object, many shapes ------------------------------------------------------------------

TEST_P(Backends, ScratchAndPreparedProductsServeChangingShapes) {
  const auto truth = make_backend(Device::kReference, DType::kF32);
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const auto both = [&](const auto& operation) {
    const Outputs expected = operation(*truth, Draw(GetParam().type));
    const Outputs actual = operation(*backend, Draw(GetParam().type));
    for (std::size_t i = 0; i < actual.size(); ++i) {
      expect_close(actual[i], expected[i], tolerance_of(GetParam().type));
    }
  };
  for (const std::int64_t size : {40, 3, 65, 1}) {
    SCOPED_TRACE(size);
    both(LinearBackward{size, 17, 33, Epilogue::kGelu});
    both(AttentionBackward{1, 2, size, 8});
    both(HeadLoss{size, 16, 97, 128});
    both(LayerNormBackward{size, 20});
    both(EmbedBackward{1, size, 20});
  }
}

}  // namespace
}  // namespace kernels::test
