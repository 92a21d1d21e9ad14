// Models that only run: packed files, formats, and what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "expect_error.h"
#include "model/golden.h"
#include "temporary_folder.h"

namespace model_test {
namespace {

using base::DType;
using kernels::Device;
using kernels::WeightFormat;
using model::Gpt2;
using testing::HasSubstr;

template <class F>
void expect_part(const std::string& part, F&& function) {
  EXPECT_THAT(error_of(function), HasSubstr(part));
}

constexpr WeightFormat kFormats[] = {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kInt8,
                                     WeightFormat::kInt4};

Gpt2 load(const base::Path& folder, WeightFormat format, Device device = Device::kCpu) {
  return model::load_for_inference(folder, kernels::make_inference_backend(device, format));
}

/// The row of a golden batch that was asked for last, and its losses.
struct Row {
  std::vector<std::int32_t> ids, targets;
  std::vector<double> losses;
};
Row golden_row(const std::string& name) {
  const json ref = golden_json(name);
  return {ref["inputs"].back().get<std::vector<std::int32_t>>(),
          ref["targets"].back().get<std::vector<std::int32_t>>(),
          ref["token_losses_f64"].back().get<std::vector<double>>()};
}
std::vector<float> losses_of(Gpt2& model, const Row& row) {
  std::vector<float> losses(row.ids.size());
  model.evaluate(row.ids, row.targets, 1, static_cast<std::int64_t>(row.ids.size()), losses);
  return losses;
}
double mean(const auto& values) {
  double sum = 0;
  for (const auto value : values) sum += static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

class Packed : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_instruction_set(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
  /// Quantizes a golden model into a new folder with its config.json.
  base::Path quantized(const std::string& name, WeightFormat format) {
    const base::Path folder = folder_.path() / (name + std::string(name_of(format)));
    std::filesystem::create_directory(folder);
    std::filesystem::copy(golden_folder(name) / "config.json", folder / "config.json");
    model::quantize_model(golden_folder(name), folder, format);
    return folder;
  }
  TemporaryFolder folder_;
};

TEST_F(Packed, EveryFormatIsNearTheGoldenLosses) {
  for (const std::string name : {"tiny", "small"}) {
    const Row row = golden_row(name);
    // Random weights say nothing of quality; these bound gross mistakes.
    const double tolerances[] = {2e-5, 0.02, 0.03, 0.3};
    for (std::size_t i = 0; i < std::size(kFormats); ++i) {
      Gpt2 model = load(golden_folder(name), kFormats[i]);
      EXPECT_EQ(model.backend().weight_format(), kFormats[i]);
      EXPECT_NEAR(mean(losses_of(model, row)), mean(row.losses), tolerances[i])
          << name << " " << name_of(kFormats[i]);
    }
  }
}

TEST_F(Packed, AFileComputesTheSameAsRoundingWhileLoading) {
  const Row row = golden_row("small");
  for (const WeightFormat format :
       {WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    const base::Path folder = quantized("small", format);
    EXPECT_EQ(model::stored_format(folder), format);
    Gpt2 rounded = load(golden_folder("small"), format), stored = load(folder, format);
    const std::vector<float> expected = losses_of(rounded, row), got = losses_of(stored, row);
    if (format == WeightFormat::kBf16) {  // its small parameters are rounded as well
      EXPECT_NEAR(mean(got), mean(expected), 0.02);
      continue;
    }
    EXPECT_EQ(got, expected) << name_of(format);
    EXPECT_TRUE(std::filesystem::exists(folder / model::packed_file_name(format)));
    EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  }
}

TEST_F(Packed, PlainWeightsAreStoredAsFp32WhateverTheirType) {
  EXPECT_EQ(model::stored_format(golden_folder("tiny")), WeightFormat::kF32);
  const Gpt2 golden = model::load_model(
      golden_folder("tiny"), kernels::make_backend(Device::kReference, DType::kF32), false);
  model::save_model(folder_.path(), golden.parameters(), DType::kBf16);
  EXPECT_EQ(model::stored_format(folder_.path()), WeightFormat::kF32);
}

TEST_F(Packed, BothFilesServe) {
  const base::Path folder = quantized("tiny", WeightFormat::kInt8);
  std::filesystem::copy(golden_folder("tiny") / "model.safetensors", folder / "model.safetensors");
  EXPECT_EQ(model::stored_format(folder), WeightFormat::kF32);
  const Row row = golden_row("tiny");
  Gpt2 plain = load(folder, WeightFormat::kF32);
  EXPECT_NEAR(mean(losses_of(plain, row)), mean(row.losses), 2e-5);
  // int8 comes from its file: a damaged one is noticed.
  base::write_file(folder / "model-int8.safetensors", "x");
  expect_part("model-int8.safetensors", [&] { load(folder, WeightFormat::kInt8); });
}

TEST_F(Packed, OtherFormatsOfAPackedFolderAreRefused) {
  const base::Path folder = quantized("tiny", WeightFormat::kInt8);
  expect_part(folder.string() +
                  ": the weights are int8 alone (model-int8.safetensors), expected bf16; use "
                  "--precision int8, or the directory they were made from",
              [&] { load(folder, WeightFormat::kBf16); });
  expect_part(folder.string() + ": the weights are int8 already (model-int8.safetensors)",
              [&] { model::quantize_model(folder, folder_.path(), WeightFormat::kInt4); });
  expect_part("expected bf16, int8 or int4 to write, got fp32", [&] {
    model::quantize_model(golden_folder("tiny"), folder_.path(), WeightFormat::kF32);
  });
  std::filesystem::remove(folder / "model-int8.safetensors");
  expect_part("no weights", [&] { load(folder, WeightFormat::kInt8); });
  expect_part("no weights", [&] { model::stored_format(folder); });
}

/// The packed file of "tiny" with one change made to its tensors or metadata.
class DamagedFile : public Packed {
 protected:
  using Change =
      std::function<void(std::vector<formats::TensorSpec>&, std::vector<std::vector<std::byte>>&,
                         std::map<std::string, std::string>&)>;
  void expect_refused(const std::string& message, const Change& change) {
    const base::Path folder = quantized("tiny", WeightFormat::kInt4);
    const base::Path path = folder / "model-int4.safetensors";
    std::vector<formats::TensorSpec> specs;
    std::vector<std::vector<std::byte>> contents;
    std::map<std::string, std::string> metadata;
    {
      const auto file = formats::TensorFile::open(path);
      metadata = file.metadata();
      for (const formats::Tensor& tensor : file.tensors()) {
        specs.push_back({tensor.name, *tensor.type, tensor.shape});
        contents.emplace_back(tensor.bytes.begin(), tensor.bytes.end());
      }
    }
    change(specs, contents, metadata);
    {
      formats::SafetensorsWriter writer(path, specs, metadata);
      for (const auto& bytes : contents) writer.write(bytes);
      writer.commit();
    }
    expect_part(path.string() + ": " + message, [&] { load(folder, WeightFormat::kInt4); });
    std::filesystem::remove_all(folder);
  }
  static std::size_t index_of(const std::vector<formats::TensorSpec>& specs,
                              const std::string& name) {
    const auto found = std::ranges::find(specs, name, &formats::TensorSpec::name);
    return static_cast<std::size_t>(found - specs.begin());
  }
};

TEST_F(DamagedFile, IsNamed) {
  const std::string weight = "h.1.mlp.c_fc.weight";
  expect_refused("metadata \"version\": expected 1, got 2; make it again with 'gpt2 quantize'",
                 [](auto&, auto&, auto& metadata) { metadata["version"] = "2"; });
  expect_refused("metadata \"weights\": expected int4, got int8",
                 [](auto&, auto&, auto& metadata) { metadata["weights"] = "int8"; });
  expect_refused("metadata \"format\": expected gpt2-packed, got none",
                 [](auto&, auto&, auto& metadata) { metadata.clear(); });
  expect_refused("tensor " + weight + ".step is missing", [&](auto& specs, auto& contents, auto&) {
    const auto i = static_cast<std::ptrdiff_t>(index_of(specs, weight + ".step"));
    specs.erase(specs.begin() + i);
    contents.erase(contents.begin() + i);
  });
  expect_refused("unknown tensor extra", [](auto& specs, auto& contents, auto&) {
    specs.push_back({"extra", DType::kU8, {1}});
    contents.emplace_back(1);
  });
  expect_refused("tensor " + weight + ": expected ", [&](auto& specs, auto&, auto&) {
    std::swap(specs[index_of(specs, weight)].shape[0], specs[index_of(specs, weight)].shape[3]);
  });
  expect_refused("tensor " + weight + ": expected type u8, got I8", [&](auto& specs, auto&, auto&) {
    specs[index_of(specs, weight)].type = DType::kI8;
  });
  expect_refused(weight + ": step[3]: expected -15 to 15, got 99",
                 [&](auto& specs, auto& contents, auto&) {
                   contents[index_of(specs, weight + ".step")][3] = std::byte{99};
                 });
  expect_refused(weight + ": scale[0]: expected a finite number, 0 or more, got -1",
                 [&](auto& specs, auto& contents, auto&) {
                   const float wrong = -1;
                   std::memcpy(contents[index_of(specs, weight + ".scale")].data(), &wrong, 4);
                 });
}

// ---- batches ----------------------------------------------------------------------------------

class Batch : public testing::TestWithParam<WeightFormat> {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_instruction_set(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
};

TEST_P(Batch, ASequenceHasTheSameBitsAloneAndAmongOthers) {
  Gpt2 model = load(golden_folder("small"), GetParam());
  const model::Config& config = model.config();
  const auto vocab = static_cast<std::size_t>(config.vocab_size);
  const DType type = model.backend().compute_type();
  const auto id = [&](std::size_t sequence, std::size_t t) {
    return static_cast<std::int32_t>((37 * sequence + 11 * t + 5) % vocab);
  };
  const auto start = [&](model::KvCache& cache, std::size_t sequence, std::vector<float>& logits) {
    std::vector<std::int32_t> prompt;
    for (std::size_t t = 0; t <= 2 * (sequence % 9); ++t) prompt.push_back(id(sequence, t));
    model.decode(cache, prompt, std::span(logits).first(vocab));
  };
  constexpr std::size_t kAll = 37, kSteps = 3;
  std::vector<std::vector<float>> alone;
  for (std::size_t i = 0; i < kAll; ++i) {
    model::KvCache cache(config, type);
    std::vector<float> logits(vocab);
    start(cache, i, logits);
    for (std::size_t step = 0; step < kSteps; ++step) {
      const std::int32_t next = id(i, 20 + step);
      model.decode(cache, {&next, 1}, logits);
      alone.push_back(logits);
    }
  }
  for (const std::size_t count :
       {std::size_t{2}, std::size_t{5}, std::size_t{16}, std::size_t{17}, kAll}) {
    std::vector<model::KvCache> caches;
    std::vector<model::KvCache*> pointers;
    std::vector<float> logits(count * vocab);
    caches.reserve(count);
    for (std::size_t n = 0; n < count; ++n) {
      pointers.push_back(&caches.emplace_back(config, type, 4));
      start(caches.back(), kAll - 1 - n, logits);
    }
    for (std::size_t step = 0; step < kSteps; ++step) {
      std::vector<std::int32_t> ids;
      for (std::size_t n = 0; n < count; ++n) ids.push_back(id(kAll - 1 - n, 20 + step));
      model.decode_batch(pointers, ids, logits);
      for (std::size_t n = 0; n < count; ++n) {
        const std::vector<float>& expected = alone[(kAll - 1 - n) * kSteps + step];
        ASSERT_EQ(std::memcmp(&logits[n * vocab], expected.data(), vocab * sizeof(float)), 0)
            << "sequence " << n << " of " << count << ", step " << step;
      }
    }
  }
}

TEST_P(Batch, LossesDoNotDependOnTheRowsBesideThem) {
  Gpt2 model = load(golden_folder("small"), GetParam());
  const auto length = static_cast<std::size_t>(model.config().context);
  const auto vocab = static_cast<std::size_t>(model.config().vocab_size);
  for (const std::size_t own : {length, length - 1, length / 2 + 1, std::size_t{1}}) {
    std::vector<std::int32_t> ids(own), targets(own);
    for (std::size_t t = 0; t < own; ++t) {
      ids[t] = static_cast<std::int32_t>((7 * t + 3) % vocab);
      targets[t] = static_cast<std::int32_t>((5 * t + 1) % vocab);
    }
    std::vector<float> alone(own);
    model.evaluate(ids, targets, 1, static_cast<std::int64_t>(own), alone);
    constexpr std::size_t kSequences = 5;
    std::vector<std::int32_t> all(kSequences * length, 9), all_targets(kSequences * length, 2);
    std::fill_n(all_targets.begin() + static_cast<std::ptrdiff_t>(3 * length), length,
                kernels::kIgnoredTarget);
    std::ranges::copy(ids, all.begin() + static_cast<std::ptrdiff_t>(3 * length));
    std::ranges::copy(targets, all_targets.begin() + static_cast<std::ptrdiff_t>(3 * length));
    std::vector<float> losses(kSequences * length);
    model.evaluate(all, all_targets, kSequences, static_cast<std::int64_t>(length), losses);
    EXPECT_EQ(std::memcmp(&losses[3 * length], alone.data(), own * sizeof(float)), 0)
        << own << " of " << length;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Batch, testing::ValuesIn(kFormats),
                         [](const auto& c) { return std::string(name_of(c.param)); });

}  // namespace
}  // namespace model_test
