// Preparation from end to end: the very ids of the documents, whatever threads and sizes, and
// nothing left behind when it fails.

#include "prepare/prepare.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
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

/// Three formats of input, with a broken line and documents that come twice.
Options varied_inputs(const Folder& folder) {
  folder.write("in/a.txt", sample_text(7, 700'000));
  std::string lines;
  for (std::uint64_t i = 0; i < 400; ++i) lines += json_line(sample_text(i % 300, 40 + i * 3));
  folder.write("in/b.jsonl", lines + "{broken\n" + json_line(sample_text(4, 1'500'000)));
  folder.write("in/c.md", sample_text(8, 300'000));
  folder.write("in/d.txt", sample_text(7, 700'000));
  return {.inputs = {(folder / "in").string()},
          .out = folder / "out",
          .shard_tokens = 20'000,
          .validation_fraction = 0.2,
          .drop_duplicates = true};
}

TEST(Prepare, GoesOnWhereItWasStopped) {
  const Folder folder;
  Options options = varied_inputs(folder);
  for (const auto format : {data::ShardFormat::kLlmc, data::ShardFormat::kNanogpt}) {
    options.format = format;
    options.out = folder / ("whole" + std::to_string(static_cast<int>(format)));
    const Result whole = prepare_folder(options);
    EXPECT_EQ(whole.manifest.rejected, 1);
    EXPECT_GT(whole.manifest.duplicates, 0);
    const auto expected = files_in(options.out);
    EXPECT_EQ(expected.count("rejected.jsonl"), 1U);

    // States as they are after every full shard: each run begins with what the last one left, and
    // is cut off by a limit on what may be rejected, or not at all.
    options.out = folder / ("stopped" + std::to_string(static_cast<int>(format)));
    Options strict = options;
    strict.max_rejected = 0;
    expect_error_with(
        "1 of 402 records rejected (0.2488 %), more than --max-rejected 0 %; the first: " +
            (folder / "in/b.jsonl").string() + ":401: not valid JSON at byte 2",
        [&] { prepare_folder(strict); });
    EXPECT_TRUE(fs::exists(options.out / "prepare.state.json"));
    EXPECT_TRUE(fs::exists(options.out / "rejected.jsonl"));
    fs::resize_file(options.out / "rejected.jsonl",
                    1 + fs::file_size(options.out / "rejected.jsonl"));
    base::write_file(options.out / "train_000077.bin", "left over");
    const Result resumed = prepare_folder(options);
    EXPECT_TRUE(resumed.resumed);
    EXPECT_EQ(files_in(options.out), expected);
  }
}

TEST(Prepare, BeginsAgainWithoutAState) {
  const Folder folder;
  Options options = varied_inputs(folder);
  prepare_folder(options);
  const auto expected = files_in(options.out);
  fs::create_directories(folder / "killed");
  folder.write("killed/prepare.json.tmp.12", "{");
  options.out = folder / "killed";
  EXPECT_FALSE(prepare_folder(options).resumed);
  EXPECT_EQ(files_in(options.out), expected);
  options.restart = true;
  EXPECT_FALSE(prepare_folder(options).already_done);
  EXPECT_EQ(files_in(options.out), expected);
}

TEST(Prepare, RefusesToGoOnWithOtherInputs) {
  const Folder folder;
  Options options = varied_inputs(folder);
  Options strict = options;
  strict.max_rejected = 0;
  EXPECT_THROW(prepare_folder(strict), base::Error);
  const auto before = files_in(options.out);
  fs::last_write_time(folder / "in/c.md", fs::file_time_type::clock::now() - std::chrono::hours(1));
  expect_error_with(
      "holds an unfinished run with other input times; choose another folder, or begin "
      "again with --restart",
      [&] { prepare_folder(options); });
  EXPECT_EQ(files_in(options.out), before);
  options.restart = true;
  EXPECT_FALSE(prepare_folder(options).resumed);
}

TEST(Prepare, DropsDocumentsThatCameBefore) {
  const Folder folder;
  const std::string text = sample_text(1, 400'000);  // several pieces
  folder.write("in/a.txt", text);
  folder.write("in/b.jsonl",
               json_line("one") + json_line(text) + json_line("two") + json_line("one"));
  folder.write("in/c.txt", text + "!");
  folder.write("in/d.txt", text);
  const Options options{.inputs = {(folder / "in").string()},
                        .out = folder / "out",
                        .validation_fraction = 0,
                        .drop_duplicates = true};
  const Result result = prepare_folder(options);
  EXPECT_EQ(result.manifest.duplicates, 3);
  EXPECT_EQ(result.manifest.documents, 4);
  EXPECT_EQ(read_split(folder / "out", Split::kTrain), ids_of({text, "one", "two", text + "!"}));
}

TEST(Prepare, WritesWhatNanogptReads) {
  const Folder folder;
  const std::string text = sample_text(1, 400'000);
  folder.write("a.txt", text);
  prepare_folder({.inputs = {(folder / "a.txt").string()},
                  .out = folder / "out",
                  .shard_tokens = 1000,
                  .validation_fraction = 0,
                  .format = data::ShardFormat::kNanogpt});
  const Tokens expected = ids_of({text});
  const std::string bytes = base::read_file(folder / "out/train.bin");
  ASSERT_EQ(bytes.size(), expected.size() * 2);
  EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), bytes.size()), 0);
  EXPECT_EQ(read_split(folder / "out", Split::kTrain), expected);
  fs::remove(folder / "out/manifest.json");  // as nanoGPT's own preparation leaves it
  EXPECT_EQ(read_split(folder / "out", Split::kTrain), expected);
}

TEST(Prepare, ListsWhatItRejects) {
  const Folder folder;
  std::string lines;
  for (int i = 0; i < 300; ++i) lines += json_line("word");
  const auto path = folder.write(
      "a.jsonl", lines + "{\"text\": 5}\n" + json_line("last") + "{\"text\": \"\xFF\"}\n");
  Options options{.inputs = {path}, .out = folder / "out"};
  EXPECT_EQ(prepare_folder(options).manifest.rejected, 1);
  const std::string first =
      "{\"file\":\"" + path +
      "\",\"line\":301,\"reason\":\"field 'text': expected a string, got number\"}\n";
  EXPECT_EQ(base::read_file(folder / "out/rejected.jsonl"), first);
  EXPECT_EQ(prepare_folder(options).manifest.documents, 302);
  options.out = folder / "strict";
  options.strict_utf8 = true;
  EXPECT_EQ(prepare_folder(options).manifest.documents, 301);
  EXPECT_EQ(base::read_file(folder / "strict/rejected.jsonl"),
            first + "{\"file\":\"" + path +
                "\",\"line\":303,\"reason\":\"the text is not valid UTF-8\"}\n");
}

TEST(Prepare, GivesUpAsSoonAsNothingIsGood) {
  const Folder folder;
  std::string lines;
  for (int i = 0; i < 200'000; ++i) lines += "{\"body\": \"some more words in a line\"}\n";  // 8 MB
  const auto path = folder.write("a.jsonl", lines);
  const Options options{.inputs = {path}, .out = folder / "out"};
  const std::string message = error_of([&] { prepare_folder(options); });
  EXPECT_THAT(message, testing::HasSubstr("more than --max-rejected 1 %; the first: " + path +
                                          ":1: the field 'text' is missing"));
  EXPECT_LT(std::stoi(message), 20'000);  // records rejected until then
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

TEST(Prepare, AnErrorBeforeTheFirstShardLeavesNothing) {
  const Folder folder;
  const auto good = folder.write("a.txt", sample_text(9, 300'000));
  struct Stop {};
  const Options options{.inputs = {good}, .out = folder / "out/deep"};
  EXPECT_THROW(
      prepare::run(options, text::Tokenizer::gpt2(), [](const Progress&) { throw Stop(); }), Stop);
  EXPECT_TRUE(!fs::exists(folder / "out") || fs::exists(folder / "out/deep/manifest.json"));
}

TEST(Prepare, CutsTextThatHasNoPlaceForIt) {
  const Folder folder;
  const std::string text = "start " + std::string(9'000'000, 'x');
  const auto path = folder.write("a.txt", text);
  prepare_folder({.inputs = {path}, .out = folder / "out", .validation_fraction = 0});
  const Tokens tokens = read_split(folder / "out", Split::kTrain);
  EXPECT_EQ(text::Tokenizer::gpt2().decode(std::span(tokens).subspan(1)), text);
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

TEST(Prepare, OnAFullDiskKeepsWhatIsDone) {
  const Folder folder;
  const auto path = folder.write("a.txt", sample_text(10, 20'000'000));
  fs::create_directories(folder / "disk");
  const prepare_test::Mount disk(folder / "disk", 0, "size=4m");
  if (!disk.mounted()) GTEST_SKIP() << "needs root to mount a small tmpfs";
  const Options options{.inputs = {path}, .out = folder / "disk/out", .shard_tokens = 300'000};
  for (int i = 0; i < 2; ++i) {
    expect_error_with("No space left on device; free some space and try again",
                      [&] { prepare_folder(options); });
    EXPECT_TRUE(fs::exists(folder / "disk/out/train_000001.bin"));
  }
  ASSERT_EQ(::mount("tmpfs", (folder / "disk").c_str(), "tmpfs", MS_REMOUNT, "size=40m"), 0);
  EXPECT_TRUE(prepare_folder(options).resumed);
  Options whole = options;
  whole.out = folder / "whole";
  prepare_folder(whole);
  EXPECT_EQ(files_in(folder / "disk/out"), files_in(folder / "whole"));
}

}  // namespace
}  // namespace prepare
