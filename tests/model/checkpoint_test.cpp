// Model directories in all the forms that exist, and what is wrong with those that are refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include "expect_error.h"
#include "model/golden.h"
#include "temporary_folder.h"

namespace model_test {
namespace {

using base::DType;
using formats::TensorFile;
using formats::TensorSpec;
using model::Gpt2;
using testing::HasSubstr;

std::unique_ptr<kernels::Backend> reference() {
  return kernels::make_backend(kernels::Device::kReference, DType::kF32);
}

/// A tensor in memory, to be changed and written.
struct Entry {
  DType type = DType::kF32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};
using Entries = std::map<std::string, Entry>;

Entries entries_of(const TensorFile& file) {
  Entries entries;
  for (const formats::Tensor& t : file.tensors()) {
    entries[t.name] = {
        .type = *t.type, .shape = t.shape, .bytes = {t.bytes.begin(), t.bytes.end()}};
  }
  return entries;
}

void write(const base::Path& path, const Entries& entries) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, e] : entries) {
    specs.push_back({.name = name, .type = e.type, .shape = e.shape});
  }
  formats::SafetensorsWriter writer(path, specs, {{"format", "pt"}});
  for (const auto& [name, e] : entries) writer.write(e.bytes);
  writer.commit();
}

/// The golden "tiny", written in another form to a folder of its own.
class Checkpoint : public testing::Test {
 protected:
  Checkpoint() {
    std::filesystem::copy_file(golden_folder("tiny") / "config.json", folder_ / "config.json");
  }
  Entries tiny() const {
    return entries_of(TensorFile::open(golden_folder("tiny") / "model.safetensors"));
  }
  base::Path weights() const { return folder_ / "model.safetensors"; }
  Gpt2 load(std::optional<std::int64_t> context = std::nullopt) const {
    return model::load_model(folder_.path(), reference(), false, context);
  }
  void refuse(const Entries& entries, const std::string& message) const {
    write(weights(), entries);
    expect_error(weights().string() + ": " + message, [&] { load(); });
  }
  /// Expects the same values as the golden file's, each within `tolerance` of its size or `least`.
  void expect_tiny(const Gpt2& model, float tolerance = 0, float least = 0) const {
    const TensorFile file = TensorFile::open(golden_folder("tiny") / "model.safetensors");
    model.parameters().for_each([&](const base::View& view, const model::ParameterInfo& info) {
      const std::span<const float> got = file_values(view, info);
      const float* const known = file.find(info.name)->view().f32();
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_LE(std::abs(got[i] - known[i]), std::max(least, tolerance * std::abs(known[i])))
            << info.name;
      }
    });
  }
  TemporaryFolder folder_;
};

Entry converted(const Entry& entry, DType type) {
  Entry out{.type = type, .shape = entry.shape, .bytes = {}};
  const auto count = static_cast<std::int64_t>(entry.bytes.size() / sizeof(float));
  out.bytes.resize(static_cast<std::size_t>(count) * base::size_of(type));
  reference()->convert(base::View(out.bytes.data(), type, {count}),
                       base::ConstView(entry.bytes.data(), DType::kF32, {count}));
  return out;
}

// ---- forms that are read ----------------------------------------------------------------------

TEST_F(Checkpoint, LoadsPlainNames) {
  write(weights(), tiny());
  expect_tiny(load());
}

TEST_F(Checkpoint, LoadsThePrefixBuffersAndATiedHead) {
  Entries entries;
  for (const auto& [name, e] : tiny()) entries["transformer." + name] = e;
  entries["lm_head.weight"] = entries["transformer.wte.weight"];
  for (const std::string layer : {"0", "1"}) {
    entries["transformer.h." + layer + ".attn.bias"] = {.shape = {1, 1, 16, 16},
                                                        .bytes = std::vector<std::byte>(1024)};
    entries["transformer.h." + layer + ".attn.masked_bias"] = {.shape = {},
                                                               .bytes = std::vector<std::byte>(4)};
  }
  write(weights(), entries);
  expect_tiny(load());
}

TEST_F(Checkpoint, LoadsHalfPrecision) {
  for (const DType type : {DType::kBf16, DType::kF16}) {
    Entries entries;
    for (const auto& [name, e] : tiny()) entries[name] = converted(e, type);
    write(weights(), entries);
    // Half a unit in the last place of bf16's 8 bits is within 2^-8 of a value; f16's 11 bits stay
    // below that down to its subnormal numbers, which lie 2^-24 apart.
    expect_tiny(load(), 0x1p-8F, 0x1p-25F);
  }
}

TEST_F(Checkpoint, LoadsSeveralFilesWithAnIndex) {
  std::map<std::string, Entries> files;
  json index = {{"metadata", {{"total_size", 116352}}}};
  for (const auto& [name, e] : tiny()) {
    const std::string file = name.starts_with("h.1") ? "model-00002-of-00002.safetensors"
                                                     : "model-00001-of-00002.safetensors";
    files[file]["transformer." + name] = e;
    index["weight_map"]["transformer." + name] = file;
  }
  for (const auto& [file, entries] : files) write(folder_ / file, entries);
  base::write_file(folder_ / "model.safetensors.index.json", index.dump());
  expect_tiny(load());
}

TEST_F(Checkpoint, LoadsTensorsThatStartAtOddBytes) {
  const std::string bytes = base::read_file(golden_folder("tiny") / "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const std::uint64_t odd = length + 1;  // one space more
  std::string shifted(8, '\0');
  std::memcpy(shifted.data(), &odd, 8);
  shifted += bytes.substr(8, length) + " " + bytes.substr(8 + length);
  base::write_file(weights(), shifted);
  expect_tiny(load());
}

TEST_F(Checkpoint, AShorterContextKeepsTheFirstPositions) {
  write(weights(), tiny());
  const Gpt2 whole = load(), half = load(8);
  EXPECT_EQ(half.config().context, 8);
  EXPECT_EQ(half.parameters().wpe.shape(), (base::Shape{8, 32}));
  EXPECT_EQ(std::memcmp(half.parameters().wpe.data(), whole.parameters().wpe.data(), 8 * 32 * 4),
            0);
  expect_error(folder_.path().string() + ": context: expected 1 to the model's 16, got 17",
               [&] { load(17); });
  expect_error(folder_.path().string() + ": context: expected 1 to the model's 16, got 0",
               [&] { load(0); });
}

// ---- forms that are refused -------------------------------------------------------------------

TEST_F(Checkpoint, RefusesAFolderWithoutWeights) {
  expect_error(folder_.path().string() +
                   ": no weights: expected model.safetensors or model.safetensors.index.json",
               [&] { load(); });
}

TEST_F(Checkpoint, NamesTheMissingTensor) {
  Entries entries = tiny();
  entries.erase("h.1.mlp.c_fc.bias");
  refuse(entries, "tensor h.1.mlp.c_fc.bias is missing");
}

TEST_F(Checkpoint, NamesTheUnknownTensor) {
  Entries entries = tiny();
  entries["transformer.h.2.ln_1.weight"] = entries["ln_f.weight"];
  refuse(entries,
         "unknown tensor transformer.h.2.ln_1.weight; a GPT-2 of this config.json has none of that "
         "name");
  entries = tiny();
  entries["h.x.attn.bias"] = entries["ln_f.weight"];  // no layer's number: not a buffer
  refuse(entries,
         "unknown tensor h.x.attn.bias; a GPT-2 of this config.json has none of that name");
}

TEST_F(Checkpoint, NamesTheMisshapenTensor) {
  Entries entries = tiny();
  entries["h.0.attn.c_attn.weight"].shape = {96, 32};  // torch.nn.Linear's orientation
  refuse(entries, "tensor h.0.attn.c_attn.weight: expected (32, 96), got (96, 32)");
  entries = tiny();
  entries["wte.weight"].shape = {128, 32};
  entries["wte.weight"].bytes.resize(128 * 32 * 4);
  refuse(entries, "tensor wte.weight: expected (97, 32), got (128, 32)");
  entries = tiny();
  entries["ln_f.bias"].shape = {1, 32};
  refuse(entries, "tensor ln_f.bias: expected (32), got (1, 32)");
}

TEST_F(Checkpoint, RefusesOtherElementTypes) {
  Entries entries = tiny();
  entries["ln_f.bias"].type = DType::kI32;
  refuse(entries, "tensor ln_f.bias: expected type f32, bf16, f16, got I32");
}

TEST_F(Checkpoint, RefusesAnUntiedHead) {
  Entries entries = tiny();
  entries["lm_head.weight"] = entries["wte.weight"];
  entries["lm_head.weight"].bytes[17] ^= std::byte{1};
  const std::string why =
      "differs from wte.weight; only a head that shares the token embedding is implemented";
  refuse(entries, "untied head: lm_head.weight " + why);
  entries["lm_head.weight"] = converted(entries["wte.weight"], DType::kBf16);
  refuse(entries, "untied head: lm_head.weight " + why);
}

TEST_F(Checkpoint, RefusesATensorUnderBothNames) {
  Entries entries = tiny();
  entries["transformer.wte.weight"] = entries["wte.weight"];
  refuse(entries, "tensor wte.weight is there twice, with and without \"transformer.\"");
}

// ---- writing ----------------------------------------------------------------------------------

TEST_F(Checkpoint, SavedModelsComeBackBitForBitAndUnpadded) {
  const Gpt2 golden = model::load_model(golden_folder("tiny"), reference(), false);
  model::save_model(folder_.path(), golden.parameters());
  expect_tiny(load());
  const TensorFile file = TensorFile::open(weights());
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.tensors().size(), 28U);
  EXPECT_EQ(file.find("wte.weight")->shape, (std::vector<std::int64_t>{97, 32}));
  EXPECT_EQ(model::read_config(folder_.path()), golden.config());
}

TEST_F(Checkpoint, SavedInBf16EveryValueIsTheNearest) {
  const Gpt2 golden = model::load_model(golden_folder("tiny"), reference(), false);
  model::save_model(folder_.path(), golden.parameters(), DType::kBf16);
  const TensorFile file = TensorFile::open(weights());
  golden.parameters().for_each([&](const base::View& view, const model::ParameterInfo& info) {
    const std::span<const float> values = file_values(view, info);
    const base::ConstView stored = file.find(info.name)->view();
    ASSERT_EQ(stored.type(), DType::kBf16);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(stored.bf16()[i].bits, base::to_bf16(values[i]).bits) << info.name;
    }
  });
  expect_error(folder_.path().string() + ": model files are written in f32 or bf16, not f16",
               [&] { model::save_model(folder_.path(), golden.parameters(), DType::kF16); });
}

TEST_F(Checkpoint, AWideTensorIsWrittenInPieces) {
  // wte has 50257 x 32 elements, many times the staging buffer and no multiple of it.
  Gpt2 model(model::preset("tiny"), reference(), false);
  model.initialize(7);
  model::save_model(folder_.path(), model.parameters(), DType::kBf16);
  const TensorFile file = TensorFile::open(weights());
  const base::Bf16* const stored = file.find("wte.weight")->view().bf16();
  const std::span<const float> values =
      file_values(model.parameters().wte, model.parameters().info(0));
  std::size_t differing = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    differing += stored[i].bits != base::to_bf16(values[i]).bits ? 1 : 0;
  }
  EXPECT_EQ(differing, 0U);
}

TEST_F(Checkpoint, ParameterFilesComeBackBitForBit) {
  const Gpt2 golden = model::load_model(golden_folder("tiny"), reference(), false);
  const base::Path path = folder_ / "m.safetensors";
  const std::uint32_t checksum = model::save_parameters(path, golden.parameters());
  EXPECT_EQ(base::crc32c(base::as_bytes(base::read_file(path))), checksum);
  model::ParameterSet copy(golden.config());
  model::load_parameters(path, copy);
  for (std::size_t i = 0; i < copy.size(); ++i) {
    EXPECT_EQ(
        std::memcmp(copy.view(i).data(), golden.parameters().view(i).data(), copy.view(i).bytes()),
        0)
        << copy.info(i).name;
  }
  model::Config other = golden.config();
  other.context = 8;
  model::ParameterSet shorter(other);
  expect_error(path.string() + ": tensor wpe.weight: expected (8, 32), got (16, 32)",
               [&] { model::load_parameters(path, shorter); });
}

TEST_F(Checkpoint, ParameterFilesAreF32) {
  const Gpt2 golden = model::load_model(golden_folder("tiny"), reference(), false);
  model::save_model(folder_.path(), golden.parameters(), DType::kBf16);
  model::ParameterSet set(golden.config());
  expect_error(weights().string() + ": tensor wte.weight: expected type f32, got BF16",
               [&] { model::load_parameters(weights(), set); });
}

}  // namespace
}  // namespace model_test
