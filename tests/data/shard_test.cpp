// Shards and manifests: what is written is read back; what is damaged is refused by name.

#include <gtest/gtest.h>

#include <set>

#include <cstring>
#include <nlohmann/json.hpp>

#include "data/data.h"
#include "data/helpers.h"

namespace data_test {
namespace {

using data::TokenId;

std::string shard_bytes(std::int32_t magic, std::int32_t version, std::int32_t count,
                        std::size_t tokens) {
  std::vector<std::int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  std::string bytes(1024 + tokens * 2, '\0');
  std::memcpy(bytes.data(), header.data(), 1024);
  return bytes;
}

TEST(Shard, HasTheBytesOfLlmcsFormat) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", {50256, 1, 258});
  std::string expected = shard_bytes(20240520, 1, 3, 3);
  std::memcpy(expected.data() + 1024, "\x50\xC4\x01\x00\x02\x01", 6);
  EXPECT_EQ(base::read_file(folder.path() / "a.bin"), expected);
}

TEST(Shard, ReadsBackWhatWasWrittenInPieces) {
  const Folder folder;
  const auto all = counting(0, 10'000);
  data::ShardWriter writer(folder.path() / "a.bin");
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t count = std::min(all.size() - at, at % 977 + 1);
    writer.append(std::span(all).subspan(at, count));
    at += count;
  }
  EXPECT_EQ(writer.tokens(), 10'000);
  const std::uint32_t crc = writer.commit();
  const data::Shard shard(folder.path() / "a.bin");
  EXPECT_EQ(std::vector<TokenId>(shard.tokens().begin(), shard.tokens().end()), all);
  EXPECT_EQ(crc, base::crc32c(base::as_bytes(base::read_file(folder.path() / "a.bin"))));
}

TEST(Shard, ChecksumIsThatOfTheWholeFileForEveryLength) {
  const Folder folder;
  for (const int count : {0, 1, 2, 3, 64, 255, 4097}) {
    const std::uint32_t crc = write_shard(folder.path() / "a.bin", counting(count, count));
    EXPECT_EQ(crc, base::crc32c(base::as_bytes(base::read_file(folder.path() / "a.bin"))));
  }
}

TEST(Shard, AppearsOnlyWhenComplete) {
  const Folder folder;
  {
    data::ShardWriter writer(folder.path() / "a.bin");
    writer.append(counting(0, 100));
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "a.bin"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Shard, CutShortIsRefusedWithBothSizes) {
  const Folder folder;
  const auto path = folder.write("train_0007.bin", shard_bytes(20240520, 1, 20'971'521, 81'408));
  expect_error_with("shard " + path +
                        ": header promises 20971521 tokens (41944066 bytes), file has "
                        "163840 bytes; run 'gpt2 prepare' again",
                    [&] { data::Shard shard(path); });
}

TEST(Shard, TooLongIsRefused) {
  const Folder folder;
  const auto path = folder.write("a.bin", shard_bytes(20240520, 1, 3, 4));
  expect_error_with("header promises 3 tokens (1030 bytes), file has 1032 bytes",
                    [&] { data::Shard shard(path); });
}

TEST(Shard, CutInsideTheHeaderIsRefused) {
  const Folder folder;
  const auto path = folder.write("a.bin", std::string(100, 'x'));
  expect_error_with(path + ": expected a header of 1024 bytes, file has 100 bytes",
                    [&] { data::Shard shard(path); });
  const auto empty = folder.write("b.bin", "");
  expect_error_with(empty + ": expected a header of 1024 bytes, file has 0 bytes",
                    [&] { data::Shard shard(empty); });
}

TEST(Shard, WrongMagicVersionOrCountIsRefused) {
  const Folder folder;
  const auto magic = folder.write("a.bin", shard_bytes(20240801, 1, 3, 3));
  expect_error_with(magic + ": expected magic number 20240520, got 20240801",
                    [&] { data::Shard shard(magic); });
  const auto version = folder.write("b.bin", shard_bytes(20240520, 7, 3, 3));
  expect_error_with(version + ": expected version 1, got 7", [&] { data::Shard shard(version); });
  const auto count = folder.write("c.bin", shard_bytes(20240520, 1, -3, 3));
  expect_error_with(count + ": header promises -3 tokens", [&] { data::Shard shard(count); });
}

TEST(Shard, MissingIsRefused) {
  expect_error_with("cannot open /nowhere/a.bin: No such file or directory",
                    [] { data::Shard shard("/nowhere/a.bin"); });
}

data::Manifest example() {
  data::Manifest manifest;
  manifest.inputs = {{"books/emma.txt", 123, {}, 0}, {"-", 0, {}, 0}};
  manifest.documents = 5;
  manifest.train_tokens = 99;
  manifest.validation_tokens = 7;
  manifest.shard_tokens = 50;
  manifest.validation_fraction = 0.1;
  manifest.text_field = "content";
  manifest.vocab_size = 50257;
  manifest.vocab_hash = "00ff00ff00ff00ff";
  manifest.end_of_text = 50256;
  manifest.train = {{"train_000000.bin", 51, 0x0000beefU}, {"train_000001.bin", 49, 0xffffffffU}};
  manifest.validation = {{"val_000000.bin", 7, 1}};
  return manifest;
}

TEST(Manifest, ReadsBackWhatWasWritten) {
  const Folder folder;
  data::write_manifest(folder.path(), example());
  const data::Manifest read = data::read_manifest(folder.path());
  data::write_manifest(folder.path(), read);
  const data::Manifest again = data::read_manifest(folder.path());
  for (const data::Manifest& m : {read, again}) {
    EXPECT_EQ(m.version, 1);
    ASSERT_EQ(m.inputs.size(), 2U);
    EXPECT_EQ(m.inputs[0].path, "books/emma.txt");
    EXPECT_EQ(m.inputs[0].bytes, 123U);
    EXPECT_EQ(m.documents, 5);
    EXPECT_EQ(m.train_tokens, 99);
    EXPECT_EQ(m.validation_tokens, 7);
    EXPECT_EQ(m.overlap, 1);
    EXPECT_EQ(m.shard_tokens, 50);
    EXPECT_EQ(m.validation_fraction, 0.1);
    EXPECT_EQ(m.text_field, "content");
    EXPECT_EQ(m.vocab_size, 50257);
    EXPECT_EQ(m.vocab_hash, "00ff00ff00ff00ff");
    EXPECT_EQ(m.end_of_text, 50256);
    ASSERT_EQ(m.train.size(), 2U);
    EXPECT_EQ(m.train[0].file, "train_000000.bin");
    EXPECT_EQ(m.train[0].tokens, 51);
    EXPECT_EQ(m.train[0].crc32c, 0x0000beefU);
    EXPECT_EQ(m.train[1].crc32c, 0xffffffffU);
    ASSERT_EQ(m.validation.size(), 1U);
  }
}

TEST(Manifest, EveryMissingKeyIsNamed) {
  const Folder folder;
  data::write_manifest(folder.path(), example());
  const auto whole = nlohmann::json::parse(base::read_file(folder.path() / "manifest.json"));
  ASSERT_EQ(whole.size(), 20U);
  const std::set<std::string> newer = {"format", "utf8", "dedup", "rejected", "duplicates"};
  for (const auto& [key, value] : whole.items()) {
    auto damaged = whole;
    damaged.erase(key);
    const auto path = folder.write("manifest.json", damaged.dump());
    if (newer.contains(key)) {  // older manifests lack them
      EXPECT_NO_THROW(data::read_manifest(folder.path()));
    } else {
      expect_error_with(path + ": key '" + key + "' is missing; run 'gpt2 prepare' again",
                        [&] { data::read_manifest(folder.path()); });
    }
    damaged[key] = nlohmann::json::object({{"odd", 1}});
    folder.write("manifest.json", damaged.dump());
    expect_error_with("key '" + key + "'", [&] { data::read_manifest(folder.path()); });
  }
}

void expect_refused(const std::string& pointer, const nlohmann::json& value,
                    const std::string& message) {
  const Folder folder;
  data::write_manifest(folder.path(), example());
  auto json = nlohmann::json::parse(base::read_file(folder.path() / "manifest.json"));
  json[nlohmann::json::json_pointer(pointer)] = value;
  folder.write("manifest.json", json.dump());
  expect_error_with(message, [&] { data::read_manifest(folder.path()); });
}

TEST(Manifest, OtherVersionsAndValuesAreRefused) {
  expect_refused("/version", 2, "expected version 1, got 2");
  expect_refused("/tokens", 107,
                 "key 'tokens': expected the sum of 'train_tokens' and 'val_tokens', got 107");
  expect_refused("/overlap", 2, "key 'overlap': expected 0 or 1, got 2");
  expect_refused("/train/0/crc32c", "xyz",
                 "key 'crc32c': expected 8 hexadecimal digits, got 'xyz'");
  expect_refused("/train/1/file", "../a.bin", "expected a name inside the folder, got '../a.bin'");
  expect_refused("/train/1", 5, "key 'train': expected a list of objects");
  // A newline in a value does not make the message two lines.
  expect_refused("/train/0/crc32c", "x\ny", "expected 8 hexadecimal digits, got 'x?y'");
}

TEST(Manifest, NumbersThatAreNotTheIntegersMeantAreRefused) {
  expect_refused("/overlap", 4294967297, "key 'overlap': expected an integer from ");
  expect_refused("/overlap", true, "key 'overlap': expected an integer from ");
  expect_refused("/version", 1.5, "key 'version': expected an integer from ");
  expect_refused("/documents", 1e300, "key 'documents': expected an integer from ");
  expect_refused("/documents", 18446744073709551615ULL, "key 'documents': expected an integer ");
  expect_refused("/inputs/0/bytes", -1, "key 'bytes': expected an integer from 0 to ");
}

TEST(Manifest, BrokenOrMissingIsRefused) {
  const Folder folder;
  expect_error_with("cannot open " + (folder.path() / "manifest.json").string(),
                    [&] { data::read_manifest(folder.path()); });
  folder.write("manifest.json", "{\"version\": ");
  expect_error_with("manifest.json: not valid JSON", [&] { data::read_manifest(folder.path()); });
  folder.write("manifest.json", "[]");
  expect_error_with("manifest.json: expected a JSON object",
                    [&] { data::read_manifest(folder.path()); });
}

}  // namespace
}  // namespace data_test
