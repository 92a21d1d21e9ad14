// A vocabulary from files: the same for any number of threads, all of its files or none.

#include "prepare/learn.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/parallel.h"
#include "expect_error.h"
#include "prepare/helpers.h"
#include "temporary_folder.h"

namespace {

using prepare_test::files_in;

std::string some_text(int lines) {
  std::string text;
  for (int i = 0; i < lines; ++i) {
    text += "Line " + std::to_string(i * 7919 % 1000) + " says the same as the line before.\n";
  }
  return text;
}

prepare::LearnOptions options_for(const TemporaryFolder& folder, const std::string& out) {
  prepare::LearnOptions options;
  options.inputs = {(folder / "a.txt").string(), (folder / "b.jsonl").string()};
  options.out = folder / out;
  options.vocabulary.vocab_size = 300;
  return options;
}

TEST(LearnFromFiles, GivesTheSameForAnyNumberOfThreads) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", some_text(20000));
  base::write_file(folder / "b.jsonl",
                   "{\"text\": \"another document\"}\n{\"text\": \"and one\"}\n");
  base::set_thread_count(1);
  prepare::learn(options_for(folder, "one"), {});
  for (const int threads : {2, 3}) {
    base::set_thread_count(threads);
    const std::string name = std::to_string(threads);
    const auto result = prepare::learn(options_for(folder, name), {});
    EXPECT_EQ(result.vocab_size, 300U);
    EXPECT_EQ(files_in(folder / name), files_in(folder / "one"));
  }
  EXPECT_EQ(files_in(folder / "one").size(), 3U);
}

TEST(LearnFromFiles, PassesOverBrokenRecords) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", some_text(100));
  std::string lines;
  for (int i = 0; i < 300; ++i) lines += "{\"text\": \"" + std::to_string(i) + " men\"}\n";
  base::write_file(folder / "b.jsonl", lines);
  prepare::learn(options_for(folder, "whole"), {});
  base::write_file(folder / "b.jsonl", "{\"text\": 7}\n" + lines + "no JSON\n");
  const auto result = prepare::learn(options_for(folder, "out"), {});
  EXPECT_EQ(result.records, 303);
  EXPECT_EQ(result.rejected, 2);
  EXPECT_NE(result.first_rejected.find("b.jsonl:1: "), std::string::npos) << result.first_rejected;
  EXPECT_EQ(files_in(folder / "out"), files_in(folder / "whole"));
}

TEST(LearnFromFiles, StopsWhenTooManyRecordsAreBroken) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", some_text(100));
  base::write_file(folder / "b.jsonl", "{\"text\": 7}\n{\"text\": \"a\"}\n");
  const std::string message = error_of([&] { prepare::learn(options_for(folder, "out"), {}); });
  EXPECT_NE(message.find("1 of 3 records are broken, more than --max-rejected 1 %; the first: " +
                         (folder / "b.jsonl").string() + ":1: "),
            std::string::npos)
      << message;
  prepare::LearnOptions lenient = options_for(folder, "out");
  lenient.max_rejected = 0.5;
  EXPECT_EQ(prepare::learn(lenient, {}).rejected, 1);
}

TEST(LearnFromFiles, LeavesAFolderThatHoldsSomethingAlone) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "text text");
  base::write_file(folder / "b.jsonl", "");
  base::create_folders(folder / "out");
  base::write_file(folder / "out" / "mine", "x");
  EXPECT_THROW(prepare::learn(options_for(folder, "out"), {}), base::Error);
  EXPECT_EQ(files_in(folder / "out").size(), 1U);
}

TEST(LearnFromFiles, LeavesAFolderThatIsNamedLikeATemporaryAlone) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", some_text(100));
  base::write_file(folder / "b.jsonl", "");
  base::create_folders(folder / "out.tmp");
  base::write_file(folder / "out.tmp" / "mine", "x");
  base::create_folders(folder / "out");  // empty: it may be filled
  prepare::learn(options_for(folder, "out"), {});
  EXPECT_EQ(files_in(folder / "out.tmp").count("mine"), 1U);
  EXPECT_EQ(files_in(folder / "out").size(), 3U);
}

TEST(LearnFromFiles, LeavesNothingBehindWhereThereIsNoText) {
  const TemporaryFolder folder;
  base::write_file(folder / "a.txt", "");
  base::write_file(folder / "b.jsonl", "");
  EXPECT_THROW(prepare::learn(options_for(folder, "out"), {}), base::Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  const auto begin = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin, std::filesystem::directory_iterator()), 2);  // the inputs
}

}  // namespace
