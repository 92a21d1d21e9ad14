// Instruction data with masks: which ids are learnt, however the work is cut up.

#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "prepare/helpers.h"

namespace prepare_test {
namespace {

using data_test::expect_error_with;
using data_test::Folder;

constexpr std::int32_t kEndOfText = 50256;

/// The tokens of a split, those that are given as -1 - id.
std::vector<std::int32_t> marked(const base::Path& folder, data::Split split) {
  const auto stream = data::TokenStream::open(folder, split);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(stream.tokens()));
  stream.read(0, 65536, ids);
  std::vector<std::int32_t> targets = ids;
  stream.ignore_given(0, targets);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (targets[i] < 0) ids[i] = -1 - ids[i];
  }
  return ids;
}

std::vector<text::TokenId> ids_of(const std::string& text) {
  std::vector<text::TokenId> ids;
  text::Encoder(text::Tokenizer::gpt2()).encode(text, ids);
  return ids;
}

void add(std::vector<std::int32_t>& to, const std::string& text, bool learnt) {
  for (const text::TokenId id : ids_of(text)) {
    to.push_back(learnt ? id : -1 - std::int32_t{id});
  }
}

prepare::Options options_for(const Folder& folder) {
  prepare::Options options;
  options.inputs = {(folder.path() / "in.jsonl").string()};
  options.out = folder.path() / "out";
  options.validation_fraction = 0;
  options.mask_prompts = true;
  return options;
}

TEST(Instructions, AnswersAndTheEndBehindThemAreLearnt) {
  const Folder folder;
  folder.write("in.jsonl", R"({"prompt": "Capital of France?", "completion": " Paris"}
{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Bye"}]}

{"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]}
)");
  prepare::Options options = options_for(folder);
  for (const std::int64_t shard_tokens : {2, 7, 1000}) {
    for (const auto format : {data::ShardFormat::kLlmc, data::ShardFormat::kNanogpt}) {
      options.shard_tokens = shard_tokens;
      options.format = format;
      options.restart = true;
      const auto result = prepare_folder(options);
      std::vector<std::int32_t> expected = {-1 - kEndOfText};
      add(expected, "Capital of France?", false);
      add(expected, " Paris", true);
      expected.push_back(kEndOfText);  // behind an answer
      add(expected, "User: Hi\nAssistant:", false);
      add(expected, " Hello!", true);
      add(expected, "\nUser: Bye", false);
      expected.push_back(-1 - kEndOfText);  // behind the user's words
      add(expected, "System: Be kind\nUser: 1 + 1\nAssistant:", false);
      add(expected, " 2", true);
      EXPECT_EQ(marked(options.out, data::Split::kTrain), expected);
      EXPECT_EQ(result.manifest.train_learnt,
                std::count_if(expected.begin(), expected.end(), [](auto id) { return id >= 0; }));
      EXPECT_EQ(result.manifest.mask, "prompt");
      EXPECT_TRUE(data::verify(options.out, {}).empty());
    }
  }
}

/// The boundary is where it is at inference, not where the joined text would have it.
TEST(Instructions, AreEncodedApartFromTheirPrompts) {
  const Folder folder;
  folder.write("in.jsonl", R"({"prompt": "hel", "completion": "lo"})");
  const prepare::Options options = options_for(folder);
  prepare_folder(options);
  std::vector<std::int32_t> expected = {-1 - kEndOfText};
  add(expected, "hel", false);
  add(expected, "lo", true);
  EXPECT_EQ(marked(options.out, data::Split::kTrain), expected);
  EXPECT_EQ(ids_of("hello").size(), 1U);  // joined, there would be no boundary
  EXPECT_GT(expected.size(), 2U);
}

/// Short, middling and long records (over 1 MiB), some broken, some twice.
std::string many_records(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const auto seed = static_cast<std::uint64_t>(i % 50);
    const auto text = [&](std::uint64_t stream, std::size_t bytes) {
      return nlohmann::json(sample_text(seed * 3 + stream, bytes)).dump();
    };
    const std::size_t size = i % 40 == 13 ? 1'500'000 : 20 + seed * 40;
    if (i % 17 == 5) {
      lines += "{\"prompt\": \"only\"}\n";
    } else if (i % 3 == 0) {
      lines += R"({"messages": [{"role": "user", "content": )" + text(0, size) +
               R"(}, {"role": "assistant", "content": )" + text(1, size / 2) +
               R"(}, {"role": "user", "content": )" + text(2, 30) + "}]}\n";
    } else {
      lines +=
          "{\"prompt\": " + text(0, size) + ", \"completion\": " + text(1, size / 3 + 1) + "}\n";
    }
  }
  return lines;
}

TEST(Instructions, GiveTheSameBytesForAnyNumberOfThreads) {
  const Folder folder;
  folder.write("in.jsonl", many_records(200));
  prepare::Options options = options_for(folder);
  options.shard_tokens = 50'000;
  options.validation_fraction = 0.2;
  options.max_rejected = 1;
  options.drop_duplicates = true;
  const int before = base::thread_count();
  std::map<std::string, std::string> expected;
  for (const int threads : {1, 2, 3, 7}) {
    base::set_thread_count(threads);
    options.out = folder.path() / std::to_string(threads);
    const auto result = prepare_folder(options);
    EXPECT_GT(result.manifest.duplicates, 0);
    EXPECT_GT(result.manifest.rejected, 0);
    EXPECT_GT(result.manifest.train.size(), 3U);
    EXPECT_GT(result.manifest.validation_learnt, 0);
    if (expected.empty()) expected = files_in(options.out);
    EXPECT_TRUE(files_in(options.out) == expected) << threads;
  }
  base::set_thread_count(before);
}

/// All the ids of the long records are as if each segment were encoded by itself.
TEST(Instructions, OfLongRecordsAreMarkedAsIfWhole) {
  const Folder folder;
  const std::string prompt = sample_text(1, 1'500'000);
  const std::string answer = sample_text(2, 700'000);
  folder.write("in.jsonl", nlohmann::json({{"prompt", prompt}, {"completion", answer}}).dump() +
                               "\n" + R"({"prompt": "a", "completion": "b"})");
  const prepare::Options options = options_for(folder);
  prepare_folder(options);
  std::vector<std::int32_t> expected = {-1 - kEndOfText};
  add(expected, prompt, false);
  add(expected, answer, true);
  expected.push_back(kEndOfText);
  add(expected, "a", false);
  add(expected, "b", true);
  EXPECT_TRUE(marked(options.out, data::Split::kTrain) == expected);
}

TEST(Instructions, TheEndOfAnAnswerIsLearntWithinASplitOnly) {
  const Folder folder;
  std::string lines;
  for (int i = 0; i < 200; ++i) {
    lines += R"({"prompt": "question number )" + std::to_string(i) + R"(", "completion": " yes"})" +
             "\n";
  }
  folder.write("in.jsonl", lines);
  prepare::Options options = options_for(folder);
  options.validation_fraction = 0.3;
  prepare_folder(options);
  std::size_t ends = 0;
  for (const auto split : {data::Split::kTrain, data::Split::kValidation}) {
    const auto ids = marked(options.out, split);
    ASSERT_EQ(ids[0], -1 - kEndOfText);
    for (std::size_t i = 1; i < ids.size(); ++i) {
      EXPECT_NE(ids[i], -1 - kEndOfText);  // each stands behind an answer
      ends += ids[i] == kEndOfText ? 1 : 0;
    }
  }
  EXPECT_EQ(ends, 198U);
}

TEST(Instructions, RejectWhatIsNone) {
  const Folder folder;
  folder.write("in.jsonl",
               "{\"prompt\": \"a\", \"completion\": \" b\"}\n{\"text\": \"c\"}\n{\"prompt\": "
               "\"a\", \"completion\": \"\xFF\"}\n");
  prepare::Options options = options_for(folder);
  options.max_rejected = 1;
  options.strict_utf8 = true;
  EXPECT_EQ(prepare_folder(options).manifest.rejected, 2);
  EXPECT_EQ(base::read_file(options.out / "rejected.jsonl"),
            "{\"file\":\"" + options.inputs[0] +
                "\",\"line\":2,\"reason\":\"the fields 'prompt' and 'completion' (or 'messages') "
                "are missing\"}\n{\"file\":\"" +
                options.inputs[0] + "\",\"line\":3,\"reason\":\"the text is not valid UTF-8\"}\n");
}

TEST(Instructions, RefuseOtherInputsAndOtherArguments) {
  const Folder folder;
  folder.write("in.jsonl", R"({"prompt": "a", "completion": " b", "text": "c"})");
  folder.write("notes.txt", "a text");
  prepare::Options options = options_for(folder);
  options.inputs = {folder.path().string()};
  expect_error_with("--mask prompt reads .jsonl files alone (also .gz, .zst), and " +
                        (folder.path() / "notes.txt").string() + " is none",
                    [&] { prepare_folder(options); });
  options.inputs = {"-"};
  expect_error_with("and the standard input is none", [&] { prepare_folder(options); });
  EXPECT_FALSE(std::filesystem::exists(options.out));
  options = options_for(folder);
  prepare_folder(options);
  options.mask_prompts = false;
  expect_error_with("prepared with other mask; choose", [&] { prepare_folder(options); });
}

/// A folder that was begun before there were masks is gone on with.
TEST(Instructions, AreNoneWhereNothingIsSaidOfThem) {
  const Folder folder;
  folder.write("in.jsonl", "{\"text\": \"" + sample_text(3, 0) + std::string(90'000, 'a') +
                               "\"}\n{\"text\": 1}\n");
  prepare::Options options = options_for(folder);
  options.mask_prompts = false;
  options.max_rejected = 0;
  expect_error_with("1 of 2 records rejected", [&] { prepare_folder(options); });
  auto marker = nlohmann::json::parse(base::read_file(options.out / "prepare.json"));
  ASSERT_EQ(marker.erase("mask"), 1U);
  base::write_file(options.out / "prepare.json", marker.dump(1) + "\n");
  options.max_rejected = 1;
  EXPECT_TRUE(prepare_folder(options).resumed);
  options.mask_prompts = true;
  expect_error_with("other mask", [&] { prepare_folder(options); });
}

}  // namespace
}  // namespace prepare_test
