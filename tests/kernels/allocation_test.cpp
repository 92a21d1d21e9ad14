// An operation whose shapes were seen before allocates nothing. This program replaces the global
// operator new to count; what oneDNN allocates inside itself is not ours to forbid.

#include <dlfcn.h>

#include <atomic>
#include <cstring>
#include <new>

#include "kernels/helpers.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

bool from_onednn(void* caller) {
  Dl_info info;
  return dladdr(caller, &info) != 0 && std::strstr(info.dli_fname, "libdnnl") != nullptr;
}

void* allocate(std::size_t size, std::size_t alignment, void* caller) {
  if (counting && !from_onednn(caller)) ++allocations;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, std::max(rounded, alignment));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Not inlined: GCC would pair the library's new with our free and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  return allocate(size, alignof(std::max_align_t), __builtin_return_address(0));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/,
                                       std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace kernels::test {
namespace {

class Allocation : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  }
  /// Runs `step` twice to settle, then counts what the third run allocates.
  template <class Step>
  static void expect_none(const char* name, Step&& step) {
    step();
    step();
    allocations = 0;
    counting = true;
    step();
    counting = false;
    EXPECT_EQ(allocations.load(), 0) << name;
  }

  const DType type = GetParam().type;
  Draw draw{GetParam().type};
};

INSTANTIATE_TEST_SUITE_P(, Allocation,
                         testing::Values(Subject{Device::kReference, DType::kF32},
                                         Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST(AllocationCounter, CountsWhatIsAllocated) {
  allocations = 0;
  counting = true;
  auto vector = std::make_unique<std::vector<int>>(100);
  counting = false;
  EXPECT_EQ(allocations.load(), 2);
}

TEST_P(Allocation, RowOperationsAllocateNothing) {
  const auto backend = make_backend(GetParam().device, type);
  const Tensor ids = draw.ids(66, 40);
  const Tensor wte = draw({40, 48});
  const Tensor wpe = draw({33, 48});
  const Tensor gain = draw({48});
  const Tensor branch = draw({66, 48}).as(type);
  Tensor x = draw({66, 48}), res = x, dx = x, normed = branch, copy = branch;
  Tensor mean(DType::kF32, {66}), rstd = mean;
  Tensor dwte = wte, dwpe = wpe, dgain = gain, dbias = gain;
  expect_none("embed_forward", [&] { backend->embed_forward(x, ids, wte, wpe, 33, 0); });
  expect_none("embed_backward", [&] { backend->embed_backward(dwte, dwpe, dx, ids, 33); });
  expect_none("add_layernorm_forward", [&] {
    backend->add_layernorm_forward(res, normed, mean, rstd, x, branch, gain, gain);
  });
  expect_none("add_layernorm_backward", [&] {
    backend->add_layernorm_backward(dx, copy, dgain, dbias, normed, res, mean, rstd, gain);
  });
  expect_none("squared_norm", [&] { EXPECT_GT(backend->squared_norm(wte), 0.0); });
  expect_none("convert", [&] { backend->convert(copy, res); });
}

TEST_P(Allocation, LinearLayersAllocateNothing) {
  const auto backend = make_backend(GetParam().device, type);
  Tensor parameter = draw({48, 96}), dweight = parameter, m = parameter, v(DType::kF32, {48, 96});
  const Tensor bias = draw({96});
  Tensor dbias = bias;
  const Weight weight(*backend, parameter, WeightOrder::kInOut);
  const Tensor inp = draw({66, 48}).as(type);
  Tensor dinp = inp, out = draw({66, 96}).as(type), pre = out;
  expect_none("pack_weight", [&] { backend->pack_weight(weight, parameter); });
  expect_none("linear_forward",
              [&] { backend->linear_forward(out, pre, inp, weight, bias, Epilogue::kGelu); });
  expect_none("linear_backward", [&] {
    backend->linear_backward(dinp, dweight, dbias, out, inp, weight, Epilogue::kGelu, inp);
  });
  AdamW hyper;
  hyper.learning_rate = 1e-3F;
  expect_none("adamw_step", [&] { backend->adamw_step(parameter, dweight, m, v, hyper, &weight); });
  if (GetParam().device == Device::kReference) return;  // its Muon makes matrices
  expect_none("muon_step", [&] {
    backend->muon_step(parameter, dweight, m, {.learning_rate = 1e-3F, .parts = 3}, &weight);
  });
}

TEST_P(Allocation, AttentionAllocatesNothing) {
  const auto backend = make_backend(GetParam().device, type);
  const Tensor qkv = draw({140, 3 * 32}).as(type);
  Tensor out(type, {140, 32}), dout = draw({140, 32}).as(type), dqkv = qkv;
  Tensor lse(DType::kF32, {2, 2, 70});
  Tensor k_cache(type, {2, 140, 16}), v_cache = k_cache;
  expect_none("attention_forward", [&] { backend->attention_forward(out, lse, qkv); });
  expect_none("attention_backward",
              [&] { backend->attention_backward(dqkv, dout, qkv, out, lse); });
  Tensor k_other(type, {2, 70, 16}), v_other = k_other;
  const std::vector<CacheRows> prompt{{k_cache, v_cache, 0, 140}};
  const std::vector<CacheRows> two{{k_cache, v_cache, 139, 1}, {k_other, v_other, 5, 1}};
  expect_none("attention_cached, a prompt", [&] { backend->attention_cached(out, qkv, prompt); });
  expect_none("attention_cached, two sequences",
              [&] { backend->attention_cached(View(out).rows(0, 2), View(qkv).rows(0, 2), two); });
}

TEST_P(Allocation, TheHeadAllocatesNothing) {
  const auto backend = make_backend(GetParam().device, type);
  const Tensor table = draw({128, 32});
  const Weight wte(*backend, table, WeightOrder::kOutIn);
  const Tensor x = draw({70, 32}).as(type);
  const Tensor targets = draw.ids(70, 97);
  Tensor losses(DType::kF32, {70}), dx = x, dwte = table, logits(DType::kF32, {70, 97});
  expect_none("head_loss", [&] {
    EXPECT_GT(backend->head_loss(losses, dx, dwte, x, wte, targets, 97, 1.0F), 0.0);
  });
  expect_none("head_loss_forward",
              [&] { EXPECT_GT(backend->head_loss_forward(losses, x, wte, targets, 97), 0.0); });
  expect_none("head_logits", [&] { backend->head_logits(logits, x, wte, 97); });
}

}  // namespace
}  // namespace kernels::test
