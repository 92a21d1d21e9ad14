// Training steps take no memory after the first: this program counts every operator new of ours.
// oneDNN's own calls are left out: executing a primitive builds a small table inside the library.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string_view>

#include "model/golden.h"

namespace {

std::atomic<std::int64_t> allocations = 0;

bool in_onednn(const void* code) {
  Dl_info info{};
  return ::dladdr(code, &info) != 0 && info.dli_fname != nullptr &&
         std::string_view(info.dli_fname).find("libdnnl") != std::string_view::npos;
}

/// `caller`: the address that asked, which says whose code it is.
void* counted(std::size_t bytes, std::size_t alignment, const void* caller) {
  if (!in_onednn(caller)) ++allocations;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

/// Apart from the operators, so that no inlining sees free() meet memory of operator new.
[[gnu::noinline]] void release(void* memory) { std::free(memory); }

}  // namespace

void* operator new(std::size_t bytes) {
  return counted(bytes, alignof(std::max_align_t), __builtin_return_address(0));
}
void* operator new[](std::size_t bytes) {
  return counted(bytes, alignof(std::max_align_t), __builtin_return_address(0));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace model_test {
namespace {

class Allocation : public testing::TestWithParam<BackendCase> {};

TEST_P(Allocation, NoneAfterTheFirstStep) {
  model::Gpt2 model = model::load_model(
      golden_folder("tiny"), kernels::make_backend(GetParam().device, GetParam().type), true);
  const json ref = golden_json("tiny");
  const auto ids = flat_ids(ref["inputs"]), targets = flat_ids(ref["targets"]);
  const auto batch = static_cast<std::int64_t>(ref["inputs"].size());
  const auto length = static_cast<std::int64_t>(ids.size()) / batch;
  model::ParameterSet m(model.config()), v(model.config()), average(model.config());
  model::KvCache cache(model.config(), model.backend().compute_type());
  std::vector<float> losses(ids.size()), logits(97);
  const auto step = [&](std::int64_t number) {
    model.zero_gradients();
    model.forward_backward(ids, targets, 1e-2F);
    model.forward_backward(ids, targets, 1e-2F);
    model.gradient_norm();
    model.adamw_step(m, v, {.learning_rate = 1e-3F, .weight_decay = 0.1F, .step = number},
                     {&average, 0.9});
    if (GetParam().device == kernels::Device::kCpu) {  // the reference's Muon makes matrices
      model.muon_step(m, v, {.learning_rate = 1e-3F}, {.learning_rate = 1e-3F, .step = number});
    }
    model.exchange_parameters(average);
    model.evaluate(ids, targets, batch, length, losses);
    cache.truncate(0);
    model.decode(cache, std::span(ids).first(5), logits);
    model.decode(cache, std::span(ids).subspan(5, 1), logits);
  };
  model.prepare_training(batch, length);
  step(1);
  const std::int64_t before = allocations;
  step(2);
  step(3);
  EXPECT_EQ(allocations - before, 0);
  { const std::vector<int> one(1); }
  EXPECT_GT(allocations - before, 0) << "the counter counts";
}

INSTANTIATE_TEST_SUITE_P(All, Allocation,
                         testing::Values(BackendCase{kernels::Device::kReference,
                                                     base::DType::kF32},
                                         BackendCase{kernels::Device::kCpu, base::DType::kF32},
                                         BackendCase{kernels::Device::kCpu, base::DType::kBf16}),
                         [](const auto& c) { return name_of(c.param); });

}  // namespace
}  // namespace model_test
