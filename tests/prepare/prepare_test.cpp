// Preparation from end to end: the very ids of the documents, whatever threads and sizes, and
// nothing left behind when it fails.

#include "prepare/prepare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "prepare/helpers.h"

namespace prepare {
namespace {

namespace fs = std::filesystem;
using data::Split;
using data_test::expect_error_with;
using data_test::Folder;
using prepare_test::files_in;
using prepare_test::names_in;
using prepare_test::prepare_folder;
using prepare_test::read_split;
using prepare_test::sample_text;
using Tokens = std::vector<data::TokenId>;

constexpr data::TokenId kEnd = 50256;

/// The ids of documents, one after another, each preceded by <|endoftext|>.
Tokens ids_of(const std::vector<std::string>& documents) {
  Tokens ids;
  text::Encoder encoder(text::Tokenizer::gpt2());
  for (const std::string& document : documents) {
    ids.push_back(kEnd);
    encoder.encode(document, ids);
  }
  return ids;
}

std::string json_line(const std::string& text) {
  return nlohmann::json{{"text", text}}.dump() + "\n";
}

TEST(Prepare, WritesTheIdsOfEveryDocument) {
  const Folder folder;
  const std::vector<std::string> documents = {"One document.", "", sample_text(1, 300'000),
                                              "line <|endoftext|>\n", sample_text(2, 200'000)};
  folder.write("in/a.txt", documents[0]);
  folder.write("in/b.txt", documents[1]);
  folder.write("in/c.txt", documents[2]);
  folder.write("in/d.jsonl", json_line(documents[3]) + "\n" + json_line(documents[4]));
  const Options options{.inputs = {(folder / "in").string()},
                        .out = folder / "out",
                        .shard_tokens = 10'000,
                        .validation_fraction = 0};
  const Result result = prepare_folder(options);
  EXPECT_FALSE(result.already_done);
  const Tokens expected = ids_of(documents);
  EXPECT_EQ(read_split(folder / "out", Split::kTrain), expected);
  EXPECT_EQ(read_split(folder / "out", Split::kValidation), Tokens());

  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.documents, 5);
  EXPECT_EQ(manifest.train_tokens, std::ssize(expected));
  EXPECT_EQ(manifest.validation_tokens, 0);
  EXPECT_EQ(manifest.overlap, 1);
  EXPECT_EQ(manifest.shard_tokens, 10'000);
  EXPECT_EQ(manifest.vocab_size, 50257);
  EXPECT_EQ(manifest.end_of_text, kEnd);
  EXPECT_EQ(manifest.vocab_hash, fmt::format("{:016x}", text::Tokenizer::gpt2().hash()));
  EXPECT_EQ(manifest.inputs.size(), 4U);
  EXPECT_EQ(manifest.inputs[2].bytes, documents[2].size());
  EXPECT_EQ(std::ssize(manifest.train), (std::ssize(expected) - 1 + 9'999) / 10'000);
  EXPECT_TRUE(text::Tokenizer::present(folder / "out"));
  EXPECT_EQ(text::Tokenizer::load(folder / "out").hash(), text::Tokenizer::gpt2().hash());
  EXPECT_FALSE(fs::exists(folder / "out/prepare.json"));
}

TEST(Prepare, WritesTheSameBytesForAnyNumberOfThreads) {
  const Folder folder;
  folder.write("in/a.txt", sample_text(3, 1'500'000));
  std::string lines;
  for (std::uint64_t i = 0; i < 500; ++i) lines += json_line(sample_text(100 + i, i * 7));
  folder.write("in/b.jsonl", lines);
  const int threads_before = base::thread_count();
  std::map<std::string, std::string> expected;
  for (const int threads : {1, 2, 3, 7}) {
    base::set_thread_count(threads);
    const base::Path out = folder / ("out" + std::to_string(threads));
    const Result result = prepare_folder({.inputs = {(folder / "in").string()},
                                          .out = out,
                                          .shard_tokens = 77'777,
                                          .validation_fraction = 0.1});
    EXPECT_GT(result.manifest.validation_tokens, 0);
    EXPECT_GT(result.manifest.train.size(), 3U);
    const auto files = files_in(out);
    if (expected.empty()) expected = files;
    EXPECT_EQ(files, expected) << threads << " threads";
  }
  base::set_thread_count(threads_before);
}

TEST(Prepare, SplitsWithoutLosingAToken) {
  const Folder folder;
  const std::string document = sample_text(4, 400'000);
  folder.write("a.txt", document);
  prepare_folder(
      {.inputs = {(folder / "a.txt").string()}, .out = folder / "out", .validation_fraction = 0.3});
  const Tokens train = read_split(folder / "out", Split::kTrain);
  const Tokens validation = read_split(folder / "out", Split::kValidation);
  // Merged back piece by piece, the two are the document.
  Tokens expected = ids_of({document});
  auto t = train.begin();
  auto v = validation.begin();
  for (std::size_t at = 0; at < expected.size(); at += kSplitPieceTokens) {
    const auto piece = std::span(expected).subspan(
        at, std::min<std::size_t>(kSplitPieceTokens, expected.size() - at));
    auto& side =
        train.end() - t >= std::ssize(piece) && std::equal(piece.begin(), piece.end(), t) ? t : v;
    ASSERT_TRUE(std::equal(piece.begin(), piece.end(), side));
    side += std::ssize(piece);
  }
  EXPECT_EQ(t, train.end());
  EXPECT_EQ(v, validation.end());
  EXPECT_GT(validation.size(), 0U);
}

TEST(Prepare, EncodesLongDocumentsAsIfWhole) {
  // Longer than a piece, with stretches that cannot be cut and others that are nothing but cuts.
  const Folder folder;
  std::string text = sample_text(5, 100'000);
  text += std::string(150'000, 'a') + std::string(70'000, ' ') + "b" + std::string(70'000, '\n');
  for (int i = 0; i < 30'000; ++i) text += "\xE4\xBD\xA0\xE5\xA5\xBD";
  for (int i = 0; i < 30'000; ++i) text += "'s1";
  text += sample_text(6, 100'000);
  folder.write("a.txt", text);
  folder.write("b.jsonl", json_line(text));
  prepare_folder({.inputs = {(folder / "a.txt").string(), (folder / "b.jsonl").string()},
                  .out = folder / "out",
                  .validation_fraction = 0});
  EXPECT_EQ(read_split(folder / "out", Split::kTrain), ids_of({text, text}));
}

TEST(Prepare, SaysWhenTheOutputIsFinishedAndLeavesIt) {
  const Folder folder;
  folder.write("a.txt", "Some text.");
  const Options options{.inputs = {(folder / "a.txt").string()}, .out = folder / "out"};
  prepare_folder(options);
  const auto before = files_in(folder / "out");
  const Result again = prepare_folder(options);
  EXPECT_TRUE(again.already_done);
  EXPECT_EQ(again.manifest.documents, 1);
  EXPECT_EQ(files_in(folder / "out"), before);

  Options other = options;
  other.shard_tokens = 5;
  other.validation_fraction = 0.5;
  expect_error_with("already holds data prepared with other shard-tokens and val-fraction",
                    [&] { prepare_folder(other); });
  folder.write("a.txt", "Some other text.");
  expect_error_with("already holds data prepared with other inputs",
                    [&] { prepare_folder(options); });
  EXPECT_EQ(files_in(folder / "out"), before);
}

TEST(Prepare, MakesAgainWhatAKilledRunLeft) {
  const Folder folder;
  folder.write("a.txt", sample_text(7, 50'000));
  const Options options{
      .inputs = {(folder / "a.txt").string()}, .out = folder / "out", .shard_tokens = 1000};
  prepare_folder(options);
  const auto expected = files_in(folder / "out");
  // A manifest's absence and the marker's presence is what a killed run looks like.
  Options with_other_out = options;
  with_other_out.out = folder / "killed";
  fs::create_directories(with_other_out.out);
  prepare_folder(with_other_out);
  fs::remove(folder / "killed/manifest.json");
  fs::remove(folder / "killed/train_000001.bin");
  folder.write("killed/train_000002.bin", "damaged");
  folder.write("killed/train_000099.bin.tmp.12", "partial");
  const nlohmann::json arguments = {
      {"inputs", nlohmann::json::array({nlohmann::json::array(
                     {options.inputs[0], fs::file_size(options.inputs[0])})})},
      {"shard-tokens", 1000},
      {"val-fraction", 0.01},
      {"text-field", "text"},
      {"tokenizer", fmt::format("{:016x}", text::Tokenizer::gpt2().hash())}};
  folder.write("killed/prepare.json", arguments.dump());
  EXPECT_FALSE(prepare_folder(with_other_out).already_done);
  EXPECT_EQ(files_in(folder / "killed"), expected);
}

TEST(Prepare, DoesNotReadItsOwnOutput) {
  const Folder folder;
  folder.write("a.txt", "Some text.");
  const Options options{.inputs = {folder.path().string()}, .out = folder / "out/"};
  EXPECT_EQ(prepare_folder(options).manifest.inputs.size(), 1U);
  EXPECT_TRUE(prepare_folder(options).already_done);
  expect_error_with("holds all the inputs", [&] {
    prepare_folder({.inputs = {folder.path().string()}, .out = folder.path()});
  });
}

TEST(Prepare, ReportsProgressUpToTheEnd) {
  const Folder folder;
  folder.write("a.txt", sample_text(8, 200'000));
  std::vector<Progress> seen;
  prepare::run({.inputs = {(folder / "a.txt").string()}, .out = folder / "out"},
               text::Tokenizer::gpt2(),
               [&](const Progress& progress) { seen.push_back(progress); });
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back().bytes_total, fs::file_size(folder / "a.txt"));
  EXPECT_EQ(seen.back().bytes_done, seen.back().bytes_total);
  EXPECT_EQ(seen.back().documents, 1);
  EXPECT_EQ(seen.back().tokens, std::ssize(ids_of({base::read_file(folder / "a.txt")})));
}

/// Expects preparation to fail with `part` in its message and the output folder to be absent.
void expect_refused(const Folder& folder, const std::vector<std::string>& inputs,
                    const std::string& part) {
  expect_error_with(part, [&] { prepare_folder({.inputs = inputs, .out = folder / "out/deep"}); });
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Prepare, RefusesInputsWithoutText) {
  const Folder folder;
  const auto empty = folder.write("empty.txt", "");
  const auto blank = folder.write("blank.jsonl", "\n\n\n");
  const auto nothing = folder.write("nothing.jsonl", json_line("") + json_line(""));
  expect_refused(folder, {empty}, empty + " holds no text; name an input that does");
  expect_refused(folder, {blank}, blank + " holds no text");
  expect_refused(folder, {nothing}, nothing + " holds no text");
  expect_refused(folder, {empty, blank}, "the 2 inputs (" + empty + ", ...) hold no text");
  expect_refused(folder, {"/nowhere/a.txt"}, "cannot open input /nowhere/a.txt");
  expect_refused(folder, {}, "no input");
}

TEST(Prepare, AnErrorHalfwayLeavesNothing) {
  const Folder folder;
  const auto good = folder.write("a.txt", sample_text(9, 300'000));
  const auto bad = folder.write("b.jsonl", json_line("fine") + "{\"body\": \"no text\"}\n");
  expect_refused(folder, {good, bad}, bad + ":2: the field 'text' is missing");
  fs::create_directories(folder / "there");
  expect_error_with(bad + ":2", [&] {
    prepare_folder({.inputs = {good, bad}, .out = folder / "there"});
  });
  EXPECT_TRUE(fs::is_empty(folder / "there"));
}

TEST(Prepare, RefusesTextThatCannotBeCut) {
  const Folder folder;
  const auto path = folder.write("a.txt", "start " + std::string(9'000'000, 'x'));
  expect_refused(folder, {path}, path + ": 8388608 bytes without a place to cut them");
}

TEST(Prepare, RefusesOptionsOutOfRange) {
  const Folder folder;
  const auto path = folder.write("a.txt", "text");
  const auto with = [&](std::int64_t shard_tokens, double fraction) {
    prepare_folder({.inputs = {path},
                    .out = folder / "out",
                    .shard_tokens = shard_tokens,
                    .validation_fraction = fraction});
  };
  expect_error_with("shard tokens: expected 1 to 2147483646, got 0", [&] { with(0, 0); });
  expect_error_with("shard tokens", [&] { with(2147483647, 0); });
  expect_error_with("validation fraction: expected at least 0 and less than 1, got 1",
                    [&] { with(10, 1); });
  expect_error_with("validation fraction", [&] { with(10, -0.1); });
  expect_error_with("validation fraction", [&] { with(10, std::nan("")); });
}

TEST(Prepare, RefusesAVocabularyWithoutEndOfText) {
  const Folder folder;
  text::Tokenizer::gpt2().write_files(folder.path());
  auto vocabulary = nlohmann::json::parse(base::read_file(folder / "vocab.json"));
  vocabulary.erase("<|endoftext|>");
  folder.write("vocab.json", vocabulary.dump());
  const auto tokenizer = text::Tokenizer::load(folder.path());
  const auto path = folder.write("a.txt", "text");
  expect_error_with("the tokenizer has no <|endoftext|>", [&] {
    prepare::run({.inputs = {path}, .out = folder / "out"}, tokenizer, {});
  });
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Prepare, OnAFullDiskLeavesNothing) {
  const Folder folder;
  const auto path = folder.write("a.txt", sample_text(10, 20'000'000));
  fs::create_directories(folder / "disk");
  const prepare_test::Mount disk(folder / "disk", 0, "size=4m");
  if (!disk.mounted()) GTEST_SKIP() << "needs root to mount a small tmpfs";
  for (const char* out : {"disk", "disk/out"}) {
    expect_error_with("No space left on device; free some space and try again", [&] {
      prepare_folder({.inputs = {path}, .out = folder / out, .shard_tokens = 300'000});
    });
    EXPECT_TRUE(fs::is_empty(folder / "disk"));
  }
}

}  // namespace
}  // namespace prepare
