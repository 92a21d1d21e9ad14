// Whole runs on the CUDA backend, whose kernels the host plays; or a device's (tests/device).

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

class CudaRun : public testing::Test {
 protected:
  CudaRun() { make_data(folder_ / "data"); }
  Options options(const std::string& name, kernels::Device device = kernels::Device::kCuda) const {
    Options o = small_run(folder_ / "data", folder_ / name);
    o.precision = base::DType::kBf16;
    o.device = device;
    return o;
  }
  /// A run's losses step by step.
  std::vector<double> losses(const std::string& name) const {
    std::vector<double> losses;
    for (const StepReport& step : read_log(folder_ / name / "log.jsonl").steps) {
      losses.push_back(step.loss);
    }
    return losses;
  }
  /// What its newest checkpoint says of products.
  std::string chosen(const std::string& name) const {
    const base::Path state = list_checkpoints(folder_ / name).back().folder / "state.json";
    return nlohmann::json::parse(base::read_file(state)).at("choices").at("products");
  }
  /// Expects two runs to have the same losses, but for roundings to bf16.
  void expect_alike(const std::string& name, const std::string& other) const {
    const std::vector<double> a = losses(name), b = losses(other);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 0.02 * b[i]) << i;
  }
  TemporaryFolder folder_;
};

TEST_F(CudaRun, LearnsAsTheProcessorDoes) {
  run_steps(options("cuda"));
  run_steps(options("cpu", kernels::Device::kCpu));
  expect_alike("cuda", "cpu");
  EXPECT_LT(losses("cuda").back(), losses("cuda").front() - 0.5);
}

TEST_F(CudaRun, ResumesBitForBit) {
  Options o = options("stopped");
  o.ema = 0.9;
  o.histogram_every = 3;
  run_steps(o, 7);
  Options again = options("stopped");
  again.resume = true;
  run_steps(again);
  // A device measures which products are the fastest, not always with the same result.
  o.out = folder_ / "whole";
  Trainer whole(o);
  EXPECT_EQ(whole.model().backend().use_choices(chosen("stopped")), "");
  whole.run({});
  EXPECT_EQ(numbers_of(folder_ / "stopped"), numbers_of(folder_ / "whole"));
}

TEST_F(CudaRun, KeepsWhatTheDeviceChose) {
  run_steps(options("run"), 4);
  const std::string products = chosen("run");
  EXPECT_THAT(products, testing::AnyOf(testing::StartsWith("plain loops\n"),
                                       testing::StartsWith("cuBLASLt ")));
  EXPECT_GT(std::count(products.begin(), products.end(), '\n'), 5);
  Options o = options("run");
  o.resume = true;
  Trainer trainer(o);
  trainer.run({});
  const std::string after = trainer.model().backend().choices();
  std::istringstream lines(products);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_THAT(after, HasSubstr(line + "\n"));
  }
}

/// Planned, without taking any of it: what the program says before it starts.
TEST(CudaMemory, LargeRunsFitACardOf80Gigabytes) {
  constexpr double kCard = 80e9;
  const auto backend = kernels::make_backend(kernels::Device::kCuda, base::DType::kBf16);
  const auto planned = [&](const char* preset, std::int64_t batch, model::Recompute recompute) {
    const model::MemoryPlan plan = model::Gpt2::plan(model::preset(preset), *backend, batch, 1024,
                                                     /*training=*/true, recompute);
    EXPECT_GT(plan.activations, 0U);
    return static_cast<double>(plan.total());
  };
  EXPECT_LT(planned("124m", 64, model::Recompute::kNone), 0.9 * kCard);
  EXPECT_LT(planned("1558m", 4, model::Recompute::kNone), kCard);
  EXPECT_LT(planned("1558m", 16, model::Recompute::kBlock), kCard);
  EXPECT_LT(planned("124m", 64, model::Recompute::kBlock),
            0.5 * planned("124m", 64, model::Recompute::kNone));
}

TEST_F(CudaRun, GoesOnOnTheProcessor) {
  run_steps(options("moved"), 7);
  Options o = options("moved", kernels::Device::kCpu);
  o.resume = true;
  run_steps(o);
  run_steps(options("cpu", kernels::Device::kCpu));
  expect_alike("moved", "cpu");
}

TEST_F(CudaRun, WithMuonDropoutAndSmoothing) {
  for (const auto device : {kernels::Device::kCuda, kernels::Device::kCpu}) {
    Options o = options(device == kernels::Device::kCuda ? "cuda" : "cpu", device);
    o.optimizer = model::Optimizer::kMuon;
    o.dropout = 0.1;
    o.label_smoothing = 0.1;
    o.z_loss = 1e-4;
    o.recompute = model::Recompute::kBlock;
    run_steps(o);
  }
  expect_alike("cuda", "cpu");
}

TEST_F(CudaRun, WithAdapters) {
  run_steps(options("base", kernels::Device::kCpu));
  for (const auto device : {kernels::Device::kCuda, kernels::Device::kCpu}) {
    Options o = options(device == kernels::Device::kCuda ? "cuda" : "cpu", device);
    o.layers.reset();
    o.heads.reset();
    o.channels.reset();
    o.init = folder_ / "base" / "model";
    o.lora_rank = 4;
    run_steps(o);
  }
  expect_alike("cuda", "cpu");
}

TEST_F(CudaRun, LearnsInFp32AsTheProcessorDoes) {
  const auto run = [&](const std::string& name, kernels::Device device, bool tf32) {
    Options o = options(name, device);
    o.precision = base::DType::kF32;
    o.tf32 = tf32;
    run_steps(o);
    return losses(name);
  };
  const std::vector<double> cpu = run("cpu", kernels::Device::kCpu, false);
  const std::vector<double> exact = run("fp32", kernels::Device::kCuda, false);
  const std::vector<double> rounded = run("tf32", kernels::Device::kCuda, true);
  ASSERT_EQ(exact.size(), cpu.size());
  ASSERT_EQ(rounded.size(), cpu.size());
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    EXPECT_NEAR(exact[i], cpu[i], 1e-5 * cpu[i]) << i;
    EXPECT_NEAR(rounded[i], cpu[i], 5e-3 * cpu[i]) << i;
  }
  EXPECT_NE(rounded, exact);
  EXPECT_LT(exact.back(), exact.front() - 0.5);
}

TEST_F(CudaRun, ResumesInFp32BitForBit) {
  Options o = options("whole");
  o.precision = base::DType::kF32;
  run_steps(o);
  o.out = folder_ / "stopped";
  run_steps(o, 7);
  // A run begun before there was the option has products in TF32.
  const base::Path record = folder_ / "stopped" / "train.json";
  nlohmann::json json = nlohmann::json::parse(base::read_file(record));
  EXPECT_EQ(json.at("tf32"), true);
  json.erase("tf32");
  base::write_file(record, json.dump());
  Options again = options("stopped");
  again.precision = base::DType::kF32;
  again.tf32 = true;
  again.resume = true;
  run_steps(again);
  EXPECT_EQ(numbers_of(folder_ / "stopped"), numbers_of(folder_ / "whole"));
}

}  // namespace
}  // namespace train
