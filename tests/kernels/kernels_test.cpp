// The door refuses what does not fit, and says which tensor, what it expected and what it got.

#include "kernels/kernels.h"

#include "base/error.h"
#include "kernels/helpers.h"

namespace kernels::test {
namespace {

template <class Call>
void expect_error(const std::string& message, Call&& call) {
  try {
    call();
    ADD_FAILURE() << "expected the error: " << message;
  } catch (const base::Error& error) {
    EXPECT_EQ(message, error.what());
  }
}

Tensor f32(Shape shape) { return {DType::kF32, shape}; }
Tensor bf16(Shape shape) { return {DType::kBf16, shape}; }

/// Shape checks do not depend on the backend: the reference stands for all.
class Door : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend = make_backend(Device::kReference, DType::kF32);
};

// ---- backends ---------------------------------------------------------------------------------

TEST(MakeBackend, NamesItsTypeAndItself) {
  const auto backend = make_backend(Device::kReference, DType::kBf16);
  EXPECT_EQ(backend->name(), "reference");
  EXPECT_EQ(backend->compute_type(), DType::kBf16);
  EXPECT_EQ(backend->description(), "reference, bf16 stored, f64 computed");
  EXPECT_EQ(make_backend(Device::kCpu, DType::kF32)->name(), "cpu");
}

TEST(MakeBackend, RefusesOtherComputeTypes) {
  for (const Device device : {Device::kReference, Device::kCpu}) {
    expect_error("make_backend: expected compute type f32 or bf16, got f16",
                 [&] { make_backend(device, DType::kF16); });
  }
}

TEST_F(Door, ReportsItsScratchMemory) {
  EXPECT_GT(backend->workspace_bytes(64, 32, 48, 3, 128, true),
            backend->workspace_bytes(64, 32, 48, 3, 128, false));
}

// ---- memory -----------------------------------------------------------------------------------

TEST_F(Door, FillNormalAndNormTakeOnlyF32) {
  Tensor tensor = bf16({3});
  expect_error("fill_normal: out: expected type f32, got bf16",
               [&] { backend->fill_normal(tensor, 0, 1, 0, 0); });
  expect_error("squared_norm: values: expected type f32, got bf16",
               [&] { backend->squared_norm(tensor); });
}

TEST_F(Door, ConvertTakesEqualShapesOfThreeTypes) {
  Tensor three = f32({3});
  const Tensor two = f32({2});
  expect_error("convert: out: expected shape (2), got (3)", [&] { backend->convert(three, two); });
  expect_error("convert: inp: expected type f32, bf16 or f16, got i32", [&] {
    backend->convert(three, integers({1, 2, 3}));
  });
  Tensor ids = integers({1, 2, 3});
  expect_error("convert: out: expected type f32, bf16 or f16, got i32",
               [&] { backend->convert(ids, three); });
}

// ---- weights ----------------------------------------------------------------------------------

TEST_F(Door, WeightsHaveSizesMemoryAndTheirParametersShape) {
  expect_error("packed_bytes: expected positive sizes, got 0 inputs and 3 outputs",
               [&] { backend->packed_bytes(0, 3, WeightOrder::kInOut, true); });
  const Weight weight(*backend, f32({2, 3}), WeightOrder::kInOut);
  expect_error("pack_weight: parameter: expected shape (2, 3), got (3, 2)", [&] {
    backend->pack_weight(weight, f32({3, 2}));
  });
  expect_error("pack_weight: parameter: expected type f32, got bf16", [&] {
    backend->pack_weight(weight, bf16({2, 3}));
  });
  expect_error("pack_weight: weight: the packed copy has no memory; lay out packed_bytes() for it",
               [&] {
                 backend->pack_weight({2, 3, WeightOrder::kInOut, nullptr, nullptr}, f32({2, 3}));
               });
  expect_error("pack_weight: weight: expected positive sizes, got 2 inputs and 0 outputs", [&] {
    backend->pack_weight({2, 0, WeightOrder::kInOut, nullptr, nullptr}, {});
  });
}

// ---- embedding --------------------------------------------------------------------------------

TEST_F(Door, EmbedForwardChecksShapesAndIds) {
  Tensor x = f32({4, 3});
  const Tensor wte = f32({5, 3});
  const Tensor wpe = f32({6, 3});
  const Tensor ids = integers({0, 1, 2, 4});
  expect_error("embed_forward: x: expected a tensor, got none",
               [&] { backend->embed_forward({}, ids, wte, wpe, 2, 0); });
  expect_error("embed_forward: ids: expected shape (4), got (3)", [&] {
    backend->embed_forward(x, integers({0, 1, 2}), wte, wpe, 2, 0);
  });
  expect_error("embed_forward: ids: expected type i32, got f32",
               [&] { backend->embed_forward(x, f32({4}), wte, wpe, 2, 0); });
  expect_error("embed_forward: wte: expected shape (5, 3), got (5, 2)", [&] {
    backend->embed_forward(x, ids, f32({5, 2}), wpe, 2, 0);
  });
  expect_error("embed_forward: wpe: expected 2 dimensions, got shape (6)",
               [&] { backend->embed_forward(x, ids, wte, f32({6}), 2, 0); });
  expect_error("embed_forward: x: expected a multiple of 3 rows, got 4",
               [&] { backend->embed_forward(x, ids, wte, wpe, 3, 0); });
  expect_error("embed_forward: length: expected 1 to 4, got 0",
               [&] { backend->embed_forward(x, ids, wte, wpe, 0, 0); });
  expect_error("embed_forward: first_position: expected 0 to 4, got 5",
               [&] { backend->embed_forward(x, ids, wte, wpe, 2, 5); });
  expect_error("embed_forward: ids[3]: expected 0 to 4, got 5", [&] {
    backend->embed_forward(x, integers({0, 1, 2, 5}), wte, wpe, 2, 0);
  });
  expect_error("embed_forward: ids[1]: expected 0 to 4, got -1", [&] {
    backend->embed_forward(x, integers({0, -1, 2, 4}), wte, wpe, 2, 0);
  });
}

TEST_F(Door, EmbedBackwardChecksShapesAndIds) {
  Tensor dwte = f32({5, 3});
  Tensor dwpe = f32({6, 3});
  const Tensor dx = f32({4, 3});
  expect_error("embed_backward: dx: expected at least one element, got shape (0, 3)",
               [&] { backend->embed_backward(dwte, dwpe, ConstView(dx).rows(0, 0), {}, 2); });
  expect_error("embed_backward: dwpe: expected shape (6, 3), got (6, 2)", [&] {
    Tensor narrow = f32({6, 2});
    backend->embed_backward(dwte, narrow, dx, integers({0, 1, 2, 4}), 2);
  });
  expect_error("embed_backward: ids[0]: expected 0 to 4, got 9", [&] {
    backend->embed_backward(dwte, dwpe, dx, integers({9, 1, 2, 4}), 2);
  });
  expect_error("embed_backward: dx: expected a multiple of 3 rows, got 4", [&] {
    backend->embed_backward(dwte, dwpe, dx, integers({0, 1, 2, 4}), 3);
  });
}

// ---- LayerNorm --------------------------------------------------------------------------------

TEST_F(Door, AddLayernormForwardNamesTheTensor) {
  Tensor res = f32({2, 3}), normed = f32({2, 3}), mean = f32({2}), rstd = f32({2});
  const Tensor res_in = f32({2, 3}), branch = f32({2, 3}), gain = f32({3}), bias = f32({3});
  expect_error("add_layernorm_forward: gain: expected shape (3), got (2)", [&] {
    backend->add_layernorm_forward(res, normed, mean, rstd, res_in, branch, f32({2}), bias);
  });
  expect_error("add_layernorm_forward: bias: expected a tensor, got none", [&] {
    backend->add_layernorm_forward(res, normed, mean, rstd, res_in, branch, gain, {});
  });
  expect_error("add_layernorm_forward: branch: expected type f32, got bf16", [&] {
    backend->add_layernorm_forward(res, normed, mean, rstd, res_in, bf16({2, 3}), gain, bias);
  });
  expect_error("add_layernorm_forward: res_in: expected shape (2, 3), got (3, 2)", [&] {
    backend->add_layernorm_forward(res, normed, mean, rstd, f32({3, 2}), branch, gain, bias);
  });
  expect_error(
      "add_layernorm_forward: res_out: expected the memory of res_in, since there is no branch",
      [&] { backend->add_layernorm_forward(res, normed, mean, rstd, res_in, {}, gain, bias); });
}

TEST_F(Door, AddLayernormBackwardNamesTheTensor) {
  Tensor dres = f32({2, 3}), copy = f32({2, 3}), dgain = f32({3}), dbias = f32({3});
  const Tensor dnormed = f32({2, 3}), res = f32({2, 3}), mean = f32({2}), rstd = f32({2});
  const Tensor gain = f32({3});
  expect_error("add_layernorm_backward: rstd: expected shape (2), got (3)", [&] {
    backend->add_layernorm_backward(dres, copy, dgain, dbias, dnormed, res, mean, f32({3}), gain);
  });
  expect_error("add_layernorm_backward: dres_copy: expected shape (2, 3), got (2, 4)", [&] {
    Tensor wide = f32({2, 4});
    backend->add_layernorm_backward(dres, wide, dgain, dbias, dnormed, res, mean, rstd, gain);
  });
}

// ---- linear layers ----------------------------------------------------------------------------

TEST_F(Door, LinearForwardNamesTheTensor) {
  const Weight weight(*backend, f32({3, 2}), WeightOrder::kInOut);
  Tensor out = f32({4, 2});
  const Tensor inp = f32({4, 3}), bias = f32({2});
  expect_error("linear_forward: inp: expected shape (4, 3), got (4, 2)", [&] {
    backend->linear_forward(out, {}, f32({4, 2}), weight, bias, Epilogue::kNone);
  });
  expect_error("linear_forward: out: expected shape (4, 2), got (3, 2)", [&] {
    Tensor short_out = f32({3, 2});
    backend->linear_forward(short_out, {}, inp, weight, bias, Epilogue::kNone);
  });
  expect_error("linear_forward: inp: expected type f32, got bf16", [&] {
    backend->linear_forward(out, {}, bf16({4, 3}), weight, bias, Epilogue::kNone);
  });
  expect_error("linear_forward: pre: expected none without GELU, got shape (4, 2)", [&] {
    Tensor pre = f32({4, 2});
    backend->linear_forward(out, pre, inp, weight, bias, Epilogue::kNone);
  });
  const Weight head(*backend, f32({2, 3}), WeightOrder::kOutIn);
  expect_error(
      "linear_forward: weight: expected a weight of shape (inputs, outputs), got (outputs, inputs)",
      [&] { backend->linear_forward(out, {}, inp, head, bias, Epilogue::kNone); });
}

TEST_F(Door, LinearBackwardNamesTheTensor) {
  const Weight weight(*backend, f32({3, 2}), WeightOrder::kInOut);
  Tensor dinp = f32({4, 3}), dweight = f32({3, 2}), dbias = f32({2});
  const Tensor dout = f32({4, 2}), inp = f32({4, 3});
  expect_error("linear_backward: pre: expected a tensor, got none", [&] {
    backend->linear_backward(dinp, dweight, dbias, dout, inp, weight, Epilogue::kGelu, {});
  });
  expect_error("linear_backward: pre: expected none without GELU, got shape (4, 3)", [&] {
    backend->linear_backward(dinp, dweight, dbias, dout, inp, weight, Epilogue::kNone, inp);
  });
  expect_error("linear_backward: dweight: expected shape (3, 2), got (2, 3)", [&] {
    Tensor turned = f32({2, 3});
    backend->linear_backward(dinp, turned, dbias, dout, inp, weight, Epilogue::kNone, {});
  });
}

TEST(DoorOfTheCpu, LinearBackwardNeedsItsCopyWhereTheBackendHasOne) {
  const auto backend = make_backend(Device::kCpu, DType::kF32);
  const PackedBytes bytes = backend->packed_bytes(3, 2, WeightOrder::kInOut, true);
  if (bytes.backward == 0) GTEST_SKIP() << "one copy serves both directions";
  base::Arena arena(bytes.forward);
  PackedWeight weight{3, 2, WeightOrder::kInOut, nullptr, nullptr};
  weight.forward = static_cast<std::byte*>(arena.take_bytes(bytes.forward));
  Tensor dinp = f32({4, 3}), dweight = f32({3, 2}), dbias = f32({2});
  expect_error(
      "linear_backward: weight: the copy for backward has no memory; lay out "
      "packed_bytes(.., true) for it",
      [&] {
        backend->linear_backward(dinp, dweight, dbias, f32({4, 2}), f32({4, 3}), weight,
                                 Epilogue::kNone, {});
      });
}

// ---- attention --------------------------------------------------------------------------------

TEST_F(Door, AttentionNamesTheTensor) {
  Tensor out = f32({6, 4}), lse = f32({2, 2, 3}), dqkv = f32({6, 12});
  const Tensor qkv = f32({6, 12});
  expect_error("attention_forward: qkv: expected a multiple of 3 x 2 columns, got 10", [&] {
    backend->attention_forward(out, lse, f32({6, 10}));
  });
  expect_error("attention_forward: qkv: expected shape (6, 12), got (5, 12)", [&] {
    backend->attention_forward(out, lse, f32({5, 12}));
  });
  expect_error("attention_forward: lse: expected 3 dimensions, got shape (4, 3)", [&] {
    Tensor flat = f32({4, 3});
    backend->attention_forward(out, flat, qkv);
  });
  expect_error("attention_backward: dout: expected shape (6, 4), got (6, 12)",
               [&] { backend->attention_backward(dqkv, qkv, qkv, out, lse); });
}

TEST_F(Door, AttentionCachedStaysInsideItsCaches) {
  Tensor out = f32({4, 4}), keys = f32({2, 5, 2}), values = f32({2, 5, 2});
  Tensor short_keys = f32({2, 4, 2}), short_values = f32({2, 4, 2});
  const Tensor qkv = f32({4, 12});
  const CacheRows good{keys, values, 3, 2};
  const auto with = [&](CacheRows other) {
    backend->attention_cached(out, qkv, std::vector<CacheRows>{good, other});
  };
  expect_error("attention_cached: sequences: expected at least one, got none",
               [&] { backend->attention_cached(out, qkv, {}); });
  expect_error("attention_cached: position: expected 0 to 2, got 3", [&] {
    with({short_keys, short_values, 3, 2});
  });
  expect_error("attention_cached: position: expected 0 to 3, got -1", [&] {
    with({keys, values, -1, 2});
  });
  expect_error("attention_cached: values: expected shape (2, 5, 2), got (2, 4, 2)", [&] {
    with({keys, short_values, 0, 2});
  });
  expect_error("attention_cached: keys: expected shape (2, 5, 2), got (1, 5, 4)", [&] {
    Tensor other = f32({1, 5, 4});
    with({other, other, 0, 2});
  });
  expect_error("attention_cached: rows: expected 1 to 5, got 6", [&] {
    with({keys, values, 0, 6});
  });
  expect_error("attention_cached: rows: expected 1 to 5, got 0", [&] {
    with({keys, values, 0, 0});
  });
  expect_error("attention_cached: out: expected shape (3, 4), got (4, 4)", [&] {
    with({short_keys, short_values, 0, 1});
  });
  expect_error("attention_cached: qkv: expected shape (4, 12), got (2, 12)", [&] {
    const Tensor few = f32({2, 12});
    backend->attention_cached(out, few,
                              std::vector<CacheRows>{good, {short_keys, short_values, 0, 2}});
  });
}

// ---- head and loss ----------------------------------------------------------------------------

TEST_F(Door, HeadChecksTargetsAndVocabulary) {
  const Weight wte(*backend, f32({8, 3}), WeightOrder::kOutIn);
  Tensor losses = f32({2}), dx = f32({2, 3}), dwte = f32({8, 3}), logits = f32({2, 7});
  const Tensor x = f32({2, 3});
  const Tensor targets = integers({6, -1});
  expect_error("head_loss: targets[0]: expected -1 to 6, got 7", [&] {
    backend->head_loss(losses, dx, dwte, x, wte, integers({7, -1}), 7, 1);
  });
  expect_error("head_loss: targets[1]: expected -1 to 6, got -2", [&] {
    backend->head_loss(losses, dx, dwte, x, wte, integers({6, -2}), 7, 1);
  });
  expect_error("head_loss: vocab: expected 1 to 8, got 9",
               [&] { backend->head_loss(losses, dx, dwte, x, wte, targets, 9, 1); });
  expect_error("head_loss: dwte: expected shape (8, 3), got (7, 3)", [&] {
    Tensor unpadded = f32({7, 3});
    backend->head_loss(losses, dx, unpadded, x, wte, targets, 7, 1);
  });
  expect_error("head_loss_forward: losses: expected shape (2), got (3)", [&] {
    Tensor three = f32({3});
    backend->head_loss_forward(three, x, wte, targets, 7);
  });
  expect_error("head_logits: logits: expected shape (2, 8), got (2, 7)",
               [&] { backend->head_logits(logits, x, wte, 8); });
  const Weight linear(*backend, f32({3, 8}), WeightOrder::kInOut);
  expect_error(
      "head_logits: wte: expected a weight of shape (outputs, inputs), got (inputs, outputs)",
      [&] { backend->head_logits(logits, x, linear, 7); });
}

// ---- optimizer --------------------------------------------------------------------------------

TEST_F(Door, AdamwStepNamesTheTensor) {
  Tensor parameter = f32({2, 3}), m = f32({2, 3}), v = f32({2, 3});
  const Tensor gradient = f32({2, 3});
  AdamW hyper;
  expect_error("adamw_step: gradient: expected shape (2, 3), got (3, 2)", [&] {
    backend->adamw_step(parameter, f32({3, 2}), m, v, hyper, nullptr);
  });
  const Weight copies(*backend, f32({3, 2}), WeightOrder::kInOut);
  expect_error("adamw_step: parameter: expected shape (3, 2), got (2, 3)",
               [&] { backend->adamw_step(parameter, gradient, m, v, hyper, &copies); });
  hyper.step = 0;
  expect_error("adamw_step: step: expected 1 or more, got 0",
               [&] { backend->adamw_step(parameter, gradient, m, v, hyper, nullptr); });
}

TEST_F(Door, MuonStepNamesTheTensor) {
  Tensor parameter = f32({2, 6}), m = f32({2, 6});
  const Tensor gradient = f32({2, 6});
  expect_error("muon_step: parameter: expected 2 dimensions, got shape (6)",
               [&] { backend->muon_step(f32({6}), f32({6}), f32({6}), {}, nullptr); });
  expect_error("muon_step: gradient: expected shape (2, 6), got (6, 2)", [&] {
    backend->muon_step(parameter, f32({6, 2}), m, {}, nullptr);
  });
  expect_error("muon_step: m: expected a tensor, got none",
               [&] { backend->muon_step(parameter, gradient, {}, {}, nullptr); });
  expect_error("muon_step: parts: expected a divisor of the 6 columns, got 4",
               [&] { backend->muon_step(parameter, gradient, m, {.parts = 4}, nullptr); });
  const Tensor average = f32({2, 5});
  expect_error("muon_step: average: expected shape (2, 6), got (2, 5)", [&] {
    backend->muon_step(parameter, gradient, m, {}, nullptr, {average, 0.5});
  });
  expect_error("muon_step: average: expected a decay of at least 0 and below 1, got 1", [&] {
    backend->muon_step(parameter, gradient, m, {}, nullptr, {gradient, 1.0});
  });
  const auto inference = make_inference_backend(Device::kCpu, WeightFormat::kInt8);
  expect_error(
      "muon_step: int8 weights cannot be trained; make a backend of f32 or bf16 with "
      "make_backend()",
      [&] { inference->muon_step(parameter, gradient, m, {}, nullptr); });
}

}  // namespace
}  // namespace kernels::test
