// What training a part of a model asks of a backend: gradients of adapters, and only those
// gradients that are wanted.

#include "kernels/operations.h"

namespace kernels::test {
namespace {

class FineTuning : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
    backend = make_backend(GetParam().device, GetParam().type);
  }

  const DType type = GetParam().type;
  Draw draw{GetParam().type};
  std::unique_ptr<Backend> backend;
};

INSTANTIATE_TEST_SUITE_P(, FineTuning,
                         testing::Values(Subject{Device::kReference, DType::kF32},
                                         Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST_P(FineTuning, GradientsOfAdapters) {
  for (const std::int64_t rank : {1, 2, 8, 17, 33}) {
    SCOPED_TRACE(rank);
    against_reference(GetParam(), LowRankBackward{1, 7, 3, rank});
    against_reference(GetParam(), LowRankBackward{33, 48, 144, rank});
    against_reference(GetParam(), LowRankBackward{65, 97, 31, rank});
  }
}

TEST_P(FineTuning, AdapterGradientsThatAreNotWantedAreLeftOut) {
  const Tensor dout = draw({9, 20}).as(type), inp = draw({9, 12}).as(type);
  const Tensor a = draw({12, 4}), b = draw({4, 20});
  const Tensor zero_a(DType::kF32, {12, 4}), zero_b(DType::kF32, {4, 20});
  Tensor da = zero_a, db = zero_b, da_alone = zero_a, db_alone = zero_b;
  backend->low_rank_backward(da, db, dout, inp, a, b, 0.5F);
  backend->low_rank_backward(da_alone, {}, dout, inp, a, b, 0.5F);
  backend->low_rank_backward({}, db_alone, dout, inp, a, b, 0.5F);
  EXPECT_EQ(da_alone.bytes(), da.bytes());
  EXPECT_EQ(db_alone.bytes(), db.bytes());
  EXPECT_NE(da.bytes(), zero_a.bytes());
}

TEST_P(FineTuning, LinearBackwardLeavesOutWhatIsNotWanted) {
  const Tensor dout = draw({70, 20}).as(type), inp = draw({70, 12}).as(type);
  const Weight weight(*backend, draw({12, 20}), WeightOrder::kInOut);
  const Tensor dweight_before = draw({12, 20}), dbias_before = draw({20});
  struct Result {
    Tensor dinp, dweight, dbias;
  };
  const auto run = [&](bool want_dinp, bool want_dweight, bool want_dbias, Gradient gradient) {
    Result r{unwritten(type, {70, 12}), dweight_before, dbias_before};
    backend->linear_backward(
        want_dinp ? View(r.dinp) : View{}, want_dweight ? View(r.dweight) : View{},
        want_dbias ? View(r.dbias) : View{}, dout, inp, weight, Epilogue::kNone, {}, gradient);
    return r;
  };
  for (const Gradient gradient : {Gradient::kAdd, Gradient::kOverwrite}) {
    const Result all = run(true, true, true, gradient);
    EXPECT_EQ(run(true, false, false, gradient).dinp.bytes(), all.dinp.bytes());
    EXPECT_EQ(run(false, true, true, gradient).dweight.bytes(), all.dweight.bytes());
    EXPECT_EQ(run(false, true, false, gradient).dweight.bytes(), all.dweight.bytes());
    const Result bias_alone = run(false, false, true, gradient);
    expect_close({"dbias", bias_alone.dbias}, {"dbias", all.dbias}, 1e-5);
    EXPECT_EQ(bias_alone.dweight.bytes(), dweight_before.bytes());
    EXPECT_EQ(run(true, true, false, gradient).dbias.bytes(), dbias_before.bytes());
  }
}

TEST_P(FineTuning, LayerNormBackwardLeavesOutWhatIsNotWanted) {
  Tensor res = draw({5, 20}), normed(type, {5, 20}), mean(DType::kF32, {5}), rstd = mean;
  const Tensor gain = draw({20}), bias = draw({20}), dnormed = draw({5, 20}).as(type);
  backend->add_layernorm_forward(res, normed, mean, rstd, res, {}, gain, bias);
  const Tensor above = draw({5, 20}), zero(DType::kF32, {20});
  Tensor dres = above, dgain = zero, dbias = zero;
  backend->add_layernorm_backward(dres, {}, dgain, dbias, dnormed, res, mean, rstd, gain);
  Tensor dres_alone = above, dbias_alone = zero;
  backend->add_layernorm_backward(dres_alone, {}, {}, {}, dnormed, res, mean, rstd, gain);
  EXPECT_EQ(dres_alone.bytes(), dres.bytes());
  dres_alone = above;
  backend->add_layernorm_backward(dres_alone, {}, {}, dbias_alone, dnormed, res, mean, rstd, gain);
  EXPECT_EQ(dbias_alone.bytes(), dbias.bytes());
}

TEST_P(FineTuning, EmbedBackwardLeavesOutWhatIsNotWanted) {
  const Tensor ids = draw.ids(10, 11), dx = draw({10, 20});
  Tensor dwte(DType::kF32, {11, 20}), dwpe(DType::kF32, {5, 20});
  Tensor dwte_alone = dwte, dwpe_alone = dwpe;
  backend->embed_backward(dwte, dwpe, dx, ids, 5);
  backend->embed_backward(dwte_alone, {}, dx, ids, 5);
  backend->embed_backward({}, dwpe_alone, dx, ids, 5);
  EXPECT_EQ(dwte_alone.bytes(), dwte.bytes());
  EXPECT_EQ(dwpe_alone.bytes(), dwpe.bytes());
}

TEST_P(FineTuning, HeadLossOfAFrozenTableGivesTheSameLossesAndInputGradient) {
  const Weight wte(*backend, draw({128, 16}), WeightOrder::kOutIn);
  const Tensor x = draw({9, 16}).as(type), targets = draw.ids(9, 97);
  Tensor losses(DType::kF32, {9}), dx(type, {9, 16}), dwte(DType::kF32, {128, 16});
  Tensor losses_alone = losses, dx_alone = dx;
  const double all = backend->head_loss(losses, dx, dwte, x, wte, targets, 97, 0.5F);
  EXPECT_EQ(backend->head_loss(losses_alone, dx_alone, {}, x, wte, targets, 97, 0.5F), all);
  EXPECT_EQ(losses_alone.bytes(), losses.bytes());
  EXPECT_EQ(dx_alone.bytes(), dx.bytes());
}

TEST_P(FineTuning, WithoutAnInputGradientTheCopyForBackwardNeedNotExist) {
  const Tensor dout = draw({9, 20}).as(type), inp = draw({9, 12}).as(type);
  const Weight full(*backend, draw({12, 20}), WeightOrder::kInOut);
  PackedWeight weight = full;
  weight.backward = nullptr;
  Tensor dweight(DType::kF32, {12, 20}), dbias(DType::kF32, {20});
  backend->linear_backward({}, dweight, dbias, dout, inp, weight, Epilogue::kNone, {});
  double sum = 0;
  for (std::int64_t n = 0; n < 9; ++n) sum += inp.at(n * 12) * dout.at(n * 20);
  EXPECT_NEAR(dweight.at(0), sum, 1e-5);
}

}  // namespace
}  // namespace kernels::test
