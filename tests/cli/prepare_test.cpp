// gpt2 prepare, run as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "cli/prepare_kill.h"
#include "data/data.h"
#include "temporary_folder.h"
#include "text/text.h"

namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

struct Ran {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs `gpt2 prepare words` in `folder` through the shell, behind `before`.
Ran prepare(const TemporaryFolder& folder, const std::string& words,
            const std::string& before = "") {
  const TemporaryFolder streams;
  const std::string command =
      "cd '" + folder.path().string() + "' && " + before + " '" GPT2_BINARY "' prepare " + words +
      " >'" + (streams / "out").string() + "' 2>'" + (streams / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          base::read_file(streams / "out"), base::read_file(streams / "err")};
}

/// Expects exit code `code`, nothing on stdout and one line of error that begins with `message`.
void expect_failure(const Ran& ran, int code, const std::string& message) {
  EXPECT_EQ(ran.code, code);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, StartsWith("gpt2: error: " + message));
  EXPECT_EQ(ran.err.find('\n'), ran.err.size() - 1) << ran.err;
}

std::map<std::string, std::string> files_in(const base::Path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = base::read_file(entry.path());
  }
  return files;
}

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST(PrepareCommand, PreparesAFolderAndSumsUp) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "in/sub");
  base::write_file(folder / "in/a.txt", "One document.");
  base::write_file(folder / "in/sub/b.jsonl", "{\"text\": \"two\"}\n{\"text\": \"three\"}\n");
  const Ran ran = prepare(folder, "in --out out --threads 2 --val-fraction 0");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, MatchesRegex("gpt2: out: 3 documents, 8 training tokens in 1 shard; "
                                    "[0-9.]+ s, [0-9.]+ ?k?B/s\n"));
  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.documents, 3);
  EXPECT_EQ(manifest.shard_tokens, 20'971'520);
  EXPECT_TRUE(text::Tokenizer::present(folder / "out"));
}

TEST(PrepareCommand, ReadsStdinAsOneTextDocument) {
  const TemporaryFolder folder;
  const Ran ran =
      prepare(folder, "- --out out --val-fraction 0", "printf 'plain\\n{\"text\": 1}\\n' |");
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto stream = data::TokenStream::open(folder / "out", data::Split::kTrain);
  std::vector<std::int32_t> wide(static_cast<std::size_t>(stream.tokens()));
  stream.read(0, 50257, wide);
  EXPECT_EQ(wide.front(), 50256);
  const std::vector<text::TokenId> ids(wide.begin() + 1, wide.end());
  EXPECT_EQ(text::Tokenizer::gpt2().decode(ids), "plain\n{\"text\": 1}\n");
}

TEST(PrepareCommand, TakesItsFlags) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.jsonl",
                   "{\"body\": \"" + repeated("many words here. ", 20'000) + "\"}\n");
  const Ran ran = prepare(
      folder, "a.jsonl --out out --shard-tokens 7000 --val-fraction 0.5 --text-field body -q");
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.err, "");
  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.shard_tokens, 7000);
  EXPECT_EQ(manifest.validation_fraction, 0.5);
  EXPECT_EQ(manifest.text_field, "body");
  EXPECT_EQ(manifest.train.front().tokens, 7001);
  EXPECT_GT(manifest.validation_tokens, 0);
}

TEST(PrepareCommand, UsesAnotherTokenizer) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "hello");
  fs::create_directories(folder / "vocabulary");
  base::write_file(folder / "vocabulary/merges.txt", "#version: 0.2\n");
  const Ran absent = prepare(folder, "a.txt --out out --tokenizer vocabulary");
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.err, HasSubstr("vocab.json"));
  EXPECT_FALSE(fs::exists(folder / "out"));
  text::Tokenizer::gpt2().write_files(folder / "vocabulary");
  EXPECT_EQ(prepare(folder, "a.txt --out out --tokenizer vocabulary").code, 0);
}

TEST(PrepareCommand, SaysWhenThereIsNothingToDo) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "text");
  ASSERT_EQ(prepare(folder, "a.txt --out out").code, 0);
  const auto before = files_in(folder / "out");
  const Ran again = prepare(folder, "a.txt --out out");
  EXPECT_EQ(again.code, 0);
  EXPECT_EQ(again.err,
            "gpt2: out is already prepared from these inputs: 1 document, 2 training tokens in 1 "
            "shard; nothing to do\n");
  expect_failure(prepare(folder, "a.txt --out out --val-fraction 0.2"), 1,
                 "out already holds data prepared with other val-fraction");
  EXPECT_EQ(files_in(folder / "out"), before);
}

TEST(PrepareCommand, RefusesAnOutputWithOtherFiles) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "text");
  fs::create_directories(folder / "out");
  base::write_file(folder / "out/log.jsonl", "another run");
  expect_failure(prepare(folder, "a.txt --out out"), 1,
                 "out already holds other files (log.jsonl, for example)");
  EXPECT_EQ(files_in(folder / "out").size(), 1U);
}

TEST(PrepareCommand, BadInputIsOneLine) {
  const TemporaryFolder folder;
  base::write_file(folder / "empty.txt", "");
  base::write_file(folder / "bad.jsonl", "{\"text\": \"fine\"}\n{\"words\": \"x\"}\n");
  base::write_file(folder / "broken.jsonl", "{\"text\": \"fine\"}\n{\"text\": \n");
  base::write_file(folder / "paper.pdf", "x");
  fs::create_directories(folder / "nothing");
  const std::map<std::string, std::string> cases = {
      {"absent.txt", "cannot open input absent.txt: No such file or directory"},
      {"empty.txt", "empty.txt holds no text"},
      {"paper.pdf",
       "input paper.pdf: expected a .txt, .md, .jsonl (also .gz, .zst) or .parquet file or a "
       "folder"},
      {"nothing", "folder nothing holds no .txt, .md, .jsonl or .parquet file"},
      {"- </dev/null", "the standard input holds no text"}};
  for (const auto& [input, message] : cases) {
    expect_failure(prepare(folder, "--out out " + input), 1, message);
    EXPECT_FALSE(fs::exists(folder / "out")) << input;
  }
}

TEST(PrepareCommand, TooManyBrokenRecordsAreOneLine) {
  const TemporaryFolder folder;
  base::write_file(folder / "bad.jsonl", "{\"text\": \"fine\"}\n{\"words\": \"x\"}\n");
  expect_failure(
      prepare(folder, "bad.jsonl --out out"), 1,
      "1 of 2 records rejected (50 %), more than --max-rejected 1 %; the first: "
      "bad.jsonl:2: the field 'text' is missing; name the field that holds the text with "
      "--text-field; all of them: out/rejected.jsonl\n");
  EXPECT_TRUE(fs::exists(folder / "out/rejected.jsonl"));
  const Ran ran = prepare(folder, "bad.jsonl --out out --max-rejected 50%");  // goes on
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("1 document, 2 training tokens in 1 shard; 1 record rejected "
                                 "(rejected.jsonl); taken up where it had stopped, "));
}

TEST(PrepareCommand, RestartBeginsAgain) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "text");
  ASSERT_EQ(prepare(folder, "a.txt --out out").code, 0);
  base::write_file(folder / "a.txt", "another text");
  expect_failure(prepare(folder, "a.txt --out out"), 1,
                 "out already holds data prepared with other inputs; choose another folder, or "
                 "begin again with --restart");
  EXPECT_EQ(prepare(folder, "a.txt --out out --restart").code, 0);
  EXPECT_EQ(data::read_manifest(folder / "out").train_tokens, 3);
}

/// Runs `gpt2 verify words` in `folder`.
Ran verify(const TemporaryFolder& folder, const std::string& words) {
  const TemporaryFolder streams;
  const std::string command = "cd '" + folder.path().string() + "' && '" GPT2_BINARY "' verify " +
                              words + " >'" + (streams / "out").string() + "' 2>'" +
                              (streams / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WEXITSTATUS(status), base::read_file(streams / "out"), base::read_file(streams / "err")};
}

TEST(VerifyCommand, NamesEachDamagedShard) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", repeated("some words, over and over. ", 3000));
  for (const char* format : {"llmc", "nanogpt"}) {
    const std::string words = std::string("a.txt --shard-tokens 4000 --val-fraction 0.2 --format ");
    const std::string out = std::string("out-") + format;
    ASSERT_EQ(prepare(folder, words + format + " --out " + out).code, 0);
    Ran ran = verify(folder, out);
    EXPECT_EQ(ran.code, 0);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err,
                MatchesRegex("gpt2: " + out + ": all of [0-9.]+ kB is as it was written\n"));
    const auto manifest = data::read_manifest(folder / out);
    std::string expected;
    for (const data::ShardInfo& info : manifest.train) {  // each last byte flipped
      std::string bytes = base::read_file(folder / out / info.file);
      bytes.back() = static_cast<char>(bytes.back() ^ 1);
      base::write_file(folder / out / info.file, bytes);
      expected += fmt::format("{}: expected CRC-32C {:08x}, found {:08x}\n", info.file, info.crc32c,
                              base::crc32c(base::as_bytes(bytes)));
    }
    ran = verify(folder, out + " --quiet");
    EXPECT_EQ(ran.code, 1);
    EXPECT_EQ(ran.out, expected);
    EXPECT_EQ(ran.err, "");
    fs::resize_file(folder / out / manifest.train[0].file, 2000);
    EXPECT_EQ(verify(folder, out).code, 1);
    fs::remove(folder / out / manifest.validation[0].file);
    EXPECT_THAT(verify(folder, out).out,
                HasSubstr("\n" + manifest.validation[0].file + ": cannot open"));
  }
  expect_failure(verify(folder, "."), 1, ". has no manifest.json");
  base::write_file(folder / "out-llmc/prepare.json", "{}");
  expect_failure(verify(folder, "out-llmc"), 1, "out-llmc holds an unfinished preparation");
}

TEST(PrepareCommand, WrongUsageIsCode2) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "text");
  for (const char* words :
       {"", "a.txt", "--out out", "a.txt --out out --shard-tokens 0",
        "a.txt --out out --shard-tokens 2147483647", "a.txt --out out --val-fraction 1",
        "a.txt --out out --val-fraction -0.1", "a.txt --out out --val-fraction some",
        "a.txt --out out --val-fraction nan", "a.txt --out out --what",
        "a.txt --out out --threads 0", "a.txt --out out --max-rejected 2",
        "a.txt --out out --max-rejected -1%", "a.txt --out out --max-rejected few",
        "a.txt --out out --utf8 maybe", "a.txt --out out --dedup fuzzy",
        "a.txt --out out --format csv"}) {
    const Ran ran = prepare(folder, words);
    expect_failure(ran, 2, "");
    EXPECT_THAT(ran.err, EndsWith("see 'gpt2 prepare --help'\n"));
    EXPECT_FALSE(fs::exists(folder / "out"));
  }
}

TEST(PrepareCommand, OnAFullOrReadOnlyDiskSaysSo) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", repeated("some words, over and over. ", 300'000));
  fs::create_directories(folder / "disk");
  const auto mount = [&](unsigned long flags) {
    return ::mount("tmpfs", (folder / "disk").c_str(), "tmpfs", flags, "size=2m") == 0;
  };
  const auto unmount = [&] { ::umount2((folder / "disk").c_str(), MNT_DETACH); };
  if (!mount(0)) GTEST_SKIP() << "needs root to mount a small tmpfs";
  expect_failure(prepare(folder, "a.txt --out disk/out"), 1,
                 "cannot write disk/out/train_000000.bin.part: No space left on device");
  EXPECT_TRUE(fs::is_empty(folder / "disk"));
  unmount();
  ASSERT_TRUE(mount(MS_RDONLY));
  expect_failure(prepare(folder, "a.txt --out disk/out"), 1,
                 "cannot create folder disk/out: Read-only file system");
  expect_failure(prepare(folder, "a.txt --out disk"), 1,
                 "cannot create disk/prepare.json: Read-only file system");
  unmount();
}

TEST(PrepareCommand, GoesOnAfterBeingKilled) {
  const TemporaryFolder folder;
  prepare_kill::write_inputs(folder.path(), 6'000'000);
  prepare_kill::kill_and_compare(folder.path(), 10);
}

/// The sanitizers' own memory is several times the program's.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Peak resident bytes of a run.
std::int64_t peak_bytes(const std::vector<std::string>& words) {
  int status = 0;
  rusage usage{};
  const pid_t child = prepare_kill::start(words);
  EXPECT_EQ(::wait4(child, &status, 0, &usage), child);
  EXPECT_EQ(status, 0);
  return usage.ru_maxrss * 1024;
}

TEST(PrepareMemory, DoesNotGrowWithTheInput) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  const std::string line =
      repeated("It is a truth universally acknowledged, that 3 of 4. ", 20'000);
  {
    std::ofstream text(folder / "a.txt");
    std::ofstream lines(folder / "b.jsonl");
    for (int i = 0; i < 100; ++i) text << line << '\n';                         // 106 MB
    for (int i = 0; i < 100; ++i) lines << "{\"text\": \"" << line << "\"}\n";  // 106 MB
  }
  const std::int64_t peak =
      peak_bytes({"prepare", (folder / "a.txt").string(), (folder / "b.jsonl").string(), "--out",
                  (folder / "out").string(), "--quiet", "--threads", "4"});
  EXPECT_LT(peak, std::int64_t{160} << 20);
  RecordProperty("peak_mib", static_cast<int>(peak >> 20));
}

TEST(PrepareMemory, StaysUnderAGibibyteOnHostileInput) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    // The longest stretch without a cut, the longest line, and a great many tiny documents.
    std::ofstream(folder / "a.txt")
        << std::string(8'000'000, 'a') << ' ' << std::string(8'000'000, 'b');
    std::ofstream(folder / "b.jsonl")
        << "{\"text\": \"" << repeated("word ", 13'000'000) << "\"}\n";
    std::ofstream(folder / "c.jsonl") << repeated("{\"text\": \"\"}\n", 1'000'000);
  }
  const std::int64_t peak = peak_bytes({"prepare", folder.path().string(), "--out",
                                        (folder / "out").string(), "--quiet", "--threads", "4"});
  EXPECT_LT(peak, std::int64_t{1} << 30);
  RecordProperty("peak_mib", static_cast<int>(peak >> 20));
}

TEST(PrepareMemory, FitsAnAddressSpaceSmallerThanTheInput) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    std::ofstream text(folder / "a.txt");
    const std::string block = repeated("It is a truth universally acknowledged.\n", 25'000);
    for (int i = 0; i < 600; ++i) text << block;  // 600 MB
  }
  const Ran ran = prepare(folder, "a.txt --out out --quiet --threads 2", "ulimit -v 560000 &&");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
}

}  // namespace
