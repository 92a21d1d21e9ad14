// Masks: their bytes, what is left of one, what a loader makes of them.

#include "data/mask.h"

#include "base/rng.h"
#include "data/helpers.h"

namespace data_test {
namespace {

using Bits = std::vector<std::uint8_t>;

Bits random_bits(std::size_t count) {
  Bits bits;
  for (std::uint64_t i = 0; i < count; ++i) {
    bits.push_back(static_cast<std::uint8_t>(base::random_below(2, 3, 0, i)));
  }
  return bits;
}

TEST(Mask, HasABitForEachTokenFromTheLowestOn) {
  const Folder folder;
  data::MaskWriter writer(folder.path() / "a.mask");
  writer.append(Bits{1, 0, 0, 1, 0, 0, 0, 0, 0, 1});
  const std::uint32_t crc = writer.commit();
  const std::string bytes = base::read_file(folder.path() / "a.mask");
  using namespace std::string_literals;
  EXPECT_EQ(bytes, "gpt2mask\x01\0\0\0\0\0\0\0\x09\x02"s);
  EXPECT_EQ(crc, base::crc32c(base::as_bytes(bytes)));
  const data::Mask mask(folder.path() / "a.mask", 10);
  EXPECT_TRUE(mask.learnt(0) && mask.learnt(3) && mask.learnt(9));
  EXPECT_FALSE(mask.learnt(1) || mask.learnt(8));
}

TEST(Mask, GoesOnFromEveryLength) {
  const Bits bits = random_bits(40'000);
  const Folder folder;
  data::MaskWriter whole(folder.path() / "whole.mask");
  whole.append(bits);
  const std::uint32_t crc = whole.commit();
  for (std::size_t stop = 0; stop < bits.size(); stop = stop < 40 ? stop + 1 : stop * 3 + 1) {
    for (const bool committed : {false, true}) {
      const base::Path path = folder.path() / "a.mask";
      data::MaskProgress left;
      {
        data::MaskWriter first(path);
        first.append(std::span(bits).first(stop));
        left = first.sync();
        first.append(std::span(bits).subspan(stop, 5));  // lost
        if (committed) first.commit();
      }
      data::MaskWriter second(path, static_cast<std::int64_t>(stop), left);
      second.append(std::span(bits).subspan(stop));
      EXPECT_EQ(second.commit(), crc) << stop;
      EXPECT_EQ(base::read_file(path), base::read_file(folder.path() / "whole.mask"));
      std::filesystem::remove(path);
    }
  }
}

TEST(Mask, WhatWasNeverSyncedIsRemoved) {
  const Folder folder;
  { data::MaskWriter(folder.path() / "a.mask").append(Bits{1}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Mask, RefusesWhatIsNotTheMaskOfSoManyTokens) {
  const Folder folder;
  data::MaskWriter writer(folder.path() / "a.mask");
  writer.append(Bits(9, 1));
  writer.commit();
  expect_error_with("a.mask: expected 19 bytes for 17 tokens, file has 18",
                    [&] { data::Mask(folder.path() / "a.mask", 17); });
  folder.write("b.mask", "gpt2mask\x02 and so on ....");
  expect_error_with("b.mask: expected a header of 16 bytes that begins with 'gpt2mask'",
                    [&] { data::Mask(folder.path() / "b.mask", 9); });
  const data::MaskProgress wrong{1, 0};
  expect_error_with("a.mask.part is damaged",
                    [&] { data::MaskWriter(folder.path() / "a.mask", 9, wrong); });
}

/// `total` counting tokens in shards of `shard_tokens` + 1, of which every third is learnt.
data::TokenStream masked_stream(const Folder& folder, int total, int shard_tokens) {
  write_prepared(folder.path(), total, shard_tokens);
  data::Manifest manifest = data::read_manifest(folder.path());
  manifest.mask = "prompt";
  std::int64_t first = 0;
  for (data::ShardInfo& info : manifest.train) {
    data::MaskWriter writer(folder.path() / data::mask_name(info.file));
    Bits bits;
    for (std::int64_t i = 0; i < info.tokens; ++i) bits.push_back((first + i) % 3 == 0 ? 1 : 0);
    writer.append(bits);
    info.mask_crc32c = writer.commit();
    first += info.tokens - 1;
  }
  data::write_manifest(folder.path(), manifest);
  return data::TokenStream::open(folder.path(), data::Split::kTrain);
}

TEST(Mask, TakesTheTargetsThatAreGivenOutOfTheLoss) {
  const Folder folder;
  const auto stream = masked_stream(folder, 101, 7);
  EXPECT_TRUE(stream.has_masks());
  data::Loader loader(stream, 4, 5, data::Order::kShuffled, 1, 65536);
  for (int step = 0; step < 12; ++step) {  // over the ends of shards and epochs
    std::vector<std::int32_t> inputs(20), targets(20);
    const std::int64_t counted = loader.count_targets();
    data::Loader skipping = loader;
    skipping.skip();
    loader.next(inputs, targets);
    EXPECT_EQ(skipping.state(), loader.state());
    std::int64_t count = 0;
    for (std::size_t i = 0; i < 20; ++i) {
      const std::int32_t next = inputs[i] + 1;
      EXPECT_EQ(targets[i], next % 3 == 0 ? next : data::kIgnoredTarget);
      count += targets[i] >= 0 ? 1 : 0;
    }
    EXPECT_EQ(counted, count);
  }
  EXPECT_EQ(stream.count_learnt(0, 101), 34);
}

TEST(Mask, IsPartOfWhatIsVerified) {
  const Folder folder;
  masked_stream(folder, 101, 50);
  EXPECT_TRUE(data::verify(folder.path(), {}).empty());
  const base::Path path = folder.path() / "train_100050.mask";
  std::string bytes = base::read_file(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  base::write_file(path, bytes);
  auto damaged = data::verify(folder.path(), {});
  ASSERT_EQ(damaged.size(), 1U);
  EXPECT_EQ(damaged[0].file, "train_100050.mask");
  EXPECT_THAT(damaged[0].what, testing::StartsWith("expected CRC-32C "));
  auto stream = data::TokenStream::open(folder.path(), data::Split::kTrain);
  stream.check_in_background();
  EXPECT_FALSE(stream.wait_for_check());
  std::vector<std::int32_t> out(3);
  expect_error_with("mask " + path.string() + " is damaged", [&] { stream.read(0, 65536, out); });
  std::filesystem::remove(path);
  damaged = data::verify(folder.path(), {});
  ASSERT_EQ(damaged.size(), 1U);
  EXPECT_THAT(damaged[0].what, testing::HasSubstr("train_100050.mask: No such file"));
  expect_error_with("train_100050.mask: No such file",
                    [&] { data::TokenStream::open(folder.path(), data::Split::kTrain); });
}

TEST(Mask, ManifestsSayWhetherThereAreAny) {
  const Folder folder;
  write_prepared(folder.path(), 30, 10);
  EXPECT_EQ(base::read_file(folder.path() / "manifest.json").find("mask"), std::string::npos);
  EXPECT_EQ(data::read_manifest(folder.path()).mask, "none");
  data::Manifest manifest = data::read_manifest(folder.path());
  manifest.mask = "prompt";
  manifest.train_learnt = 5;
  data::write_manifest(folder.path(), manifest);
  expect_error_with("key 'mask_crc32c' is missing", [&] { data::read_manifest(folder.path()); });
  for (data::ShardInfo& info : manifest.train) info.mask_crc32c = 0x12;
  data::write_manifest(folder.path(), manifest);
  const data::Manifest again = data::read_manifest(folder.path());
  EXPECT_EQ(again.mask, "prompt");
  EXPECT_EQ(again.train_learnt, 5);
  EXPECT_EQ(again.train[1].mask_crc32c, 0x12U);
  manifest.mask = "answers";
  data::write_manifest(folder.path(), manifest);
  expect_error_with("key 'mask': expected none or prompt, got 'answers'",
                    [&] { data::read_manifest(folder.path()); });
}

}  // namespace
}  // namespace data_test
