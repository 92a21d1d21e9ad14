// Shard sequences for every length, and the choice between training and validation.

#include "prepare/split.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/rng.h"
#include "data/helpers.h"
#include "prepare/prepare.h"

namespace prepare {
namespace {

using data_test::Folder;
using Tokens = std::vector<data::TokenId>;

Tokens tokens_of(const base::Path& path) {
  const data::Shard shard(path);
  return {shard.tokens().begin(), shard.tokens().end()};
}

/// The shards joined, each checked against its neighbour and its entry.
Tokens join(const base::Path& folder, const std::vector<data::ShardInfo>& shards,
            std::int64_t shard_tokens) {
  Tokens all;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const Tokens tokens = tokens_of(folder / shards[i].file);
    EXPECT_EQ(std::ssize(tokens), shards[i].tokens);
    EXPECT_EQ(base::crc32c(base::as_bytes(base::read_file(folder / shards[i].file))),
              shards[i].crc32c);
    if (i + 1 < shards.size()) {
      EXPECT_EQ(std::ssize(tokens), shard_tokens + 1);
    } else {
      EXPECT_LE(std::ssize(tokens), shard_tokens + 1);
    }
    if (i > 0) {
      EXPECT_GT(tokens.size(), 1U) << "a shard of the shared token alone";
      EXPECT_EQ(tokens.front(), all.back());
      all.pop_back();
    }
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return all;
}

TEST(ShardSequence, SharesOneTokenBetweenShardsForEveryLength) {
  for (const std::int64_t shard_tokens : {1, 2, 10}) {
    for (const std::int64_t total :
         {std::int64_t{1}, shard_tokens, shard_tokens + 1, shard_tokens + 2, 3 * shard_tokens,
          3 * shard_tokens + 1, 3 * shard_tokens + 2}) {
      const Folder folder;
      ShardSequence sequence({folder.path(), "train", shard_tokens, data::ShardFormat::kLlmc});
      const Tokens tokens = data_test::counting(7, static_cast<int>(total));
      for (std::size_t at = 0; at < tokens.size();) {  // in parts of 1, 2, 3, 1, 2, 3, ...
        const std::size_t count = std::min(at % 3 + 1, tokens.size() - at);
        sequence.append(std::span(tokens).subspan(at, count));
        at += count;
      }
      sequence.finish();
      EXPECT_EQ(sequence.tokens(), total);
      EXPECT_EQ(std::ssize(sequence.shards()),
                total == 1 ? 1 : (total - 1 + shard_tokens - 1) / shard_tokens);
      EXPECT_EQ(join(folder.path(), sequence.shards(), shard_tokens), tokens);
    }
  }
}

TEST(ShardSequence, WithoutTokensWritesNothing) {
  const Folder folder;
  ShardSequence sequence({folder.path(), "val", 10, data::ShardFormat::kLlmc});
  sequence.append({});
  sequence.finish();
  EXPECT_TRUE(sequence.shards().empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(ShardSequence, NamesShardsInOrder) {
  const Folder folder;
  ShardSequence sequence({folder.path(), "val", 2, data::ShardFormat::kLlmc});
  sequence.append(data_test::counting(0, 6));
  sequence.finish();
  ASSERT_EQ(sequence.shards().size(), 3U);
  EXPECT_EQ(sequence.shards()[0].file, "val_000000.bin");
  EXPECT_EQ(sequence.shards()[2].file, "val_000002.bin");
}

TEST(ShardSequence, GoesOnFromEveryState) {
  const Tokens tokens = data_test::counting(7, 35);
  for (const auto format : {data::ShardFormat::kLlmc, data::ShardFormat::kNanogpt}) {
    const Folder whole;
    const SequenceOptions there{whole.path(), "train", 10, format};
    ShardSequence expected(there);
    expected.append(tokens);
    expected.finish();
    for (std::size_t stop = 0; stop <= tokens.size(); ++stop) {
      const Folder folder;
      const SequenceOptions here{folder.path(), "train", 10, format};
      SequenceState state;
      {
        ShardSequence first(here);
        first.append(std::span(tokens).first(stop));
        state = first.sync();
        first.append(std::span(tokens).subspan(stop, std::min<std::size_t>(12, 35 - stop)));
        if (stop % 2 == 0) first.finish();  // killed after the open shard was completed
      }
      ShardSequence second(here, state);
      EXPECT_EQ(second.tokens(), static_cast<std::int64_t>(stop));
      second.append(std::span(tokens).subspan(stop));
      second.finish();
      ASSERT_EQ(second.shards().size(), expected.shards().size());
      for (std::size_t i = 0; i < expected.shards().size(); ++i) {
        EXPECT_EQ(second.shards()[i].crc32c, expected.shards()[i].crc32c);
        EXPECT_EQ(base::read_file(folder / second.shards()[i].file),
                  base::read_file(whole / expected.shards()[i].file));
      }
    }
  }
}

TEST(ShardSequence, WritesTheSameMasksFromEveryState) {
  const Tokens tokens = data_test::counting(7, 60);
  std::vector<Mark> marks;
  for (std::uint64_t i = 0; i < tokens.size(); ++i) {
    marks.push_back(static_cast<Mark>(base::random_below(3, 5, 0, i)));
  }
  const auto files_of = [](const base::Path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      files[entry.path().filename().string()] = base::read_file(entry.path());
    }
    return files;
  };
  for (const auto format : {data::ShardFormat::kLlmc, data::ShardFormat::kNanogpt}) {
    const Folder whole;
    const auto append = [&](ShardSequence& to, std::size_t from, std::size_t end) {
      for (std::size_t i = from; i < end; ++i) {
        to.append(std::span(tokens).subspan(i, 1), std::span(marks).subspan(i, 1));
        if (i % 4 == 1) to.end_answer();
      }
    };
    ShardSequence expected({whole.path(), "train", 10, format, true});
    append(expected, 0, tokens.size());
    expected.finish();
    EXPECT_GT(expected.learnt(), 10);
    for (std::size_t stop = 0; stop <= tokens.size(); ++stop) {
      const Folder folder;
      const SequenceOptions here{folder.path(), "train", 10, format, true};
      SequenceState state;
      {
        ShardSequence first(here);
        append(first, 0, stop);
        state = first.sync();
        append(first, stop, std::min<std::size_t>(stop + 12, tokens.size()));  // lost
      }
      ShardSequence second(here, state);
      append(second, stop, tokens.size());
      second.finish();
      EXPECT_EQ(second.learnt(), expected.learnt());
      EXPECT_TRUE(files_of(folder.path()) == files_of(whole.path())) << stop;
    }
  }
}

TEST(ShardSequence, KnowsADamagedShardAgain) {
  const Folder folder;
  const SequenceOptions options{folder.path(), "train", 100, data::ShardFormat::kLlmc};
  SequenceState state;
  {
    ShardSequence sequence(options);
    sequence.append(data_test::counting(0, 30));
    state = sequence.sync();
  }
  const auto part = folder / "train_000000.bin.part";
  std::string bytes = base::read_file(part);
  bytes[1030] ^= 1;
  base::write_file(part, bytes);
  data_test::expect_error_with("train_000000.bin.part is damaged",
                               [&] { ShardSequence again(options, state); });
  std::filesystem::resize_file(part, 1024);
  data_test::expect_error_with("is damaged", [&] { ShardSequence again(options, state); });
}

struct Halves {
  Tokens train, validation;
};

/// Documents of the given lengths; document d's tokens are d * 1000 + its 4,096-piece's number.
Halves split(const std::vector<std::int64_t>& lengths, double fraction, std::size_t part) {
  const Folder folder;
  ShardSequence train({folder.path(), "train", 1 << 20, data::ShardFormat::kLlmc});
  ShardSequence validation({folder.path(), "val", 1 << 20, data::ShardFormat::kLlmc});
  Splitter splitter(train, validation, fraction, {});
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    Tokens tokens;
    for (std::int64_t i = 1; i <= lengths[d]; ++i) {
      tokens.push_back(static_cast<data::TokenId>(d * 1000 + static_cast<std::size_t>(i / 4096)));
    }
    splitter.begin_document();
    const auto first = static_cast<data::TokenId>(d * 1000);
    splitter.append({&first, 1});
    for (std::size_t at = 0; at < tokens.size(); at += part) {
      splitter.append(std::span(tokens).subspan(at, std::min(part, tokens.size() - at)));
    }
  }
  EXPECT_EQ(splitter.documents(), std::ssize(lengths));
  train.finish();
  validation.finish();
  return {join(folder.path(), train.shards(), 1 << 20),
          join(folder.path(), validation.shards(), 1 << 20)};
}

TEST(Splitter, SendsPiecesWholeAndInOrder) {
  const std::vector<std::int64_t> lengths = {100'000, 4095, 4096, 0, 10, 50'000};
  const Halves halves = split(lengths, 0.3, 1000);
  EXPECT_EQ(std::ssize(halves.train) + std::ssize(halves.validation), 158'201 + 6);
  EXPECT_FALSE(halves.validation.empty());
  EXPECT_TRUE(std::is_sorted(halves.train.begin(), halves.train.end()));
  EXPECT_TRUE(std::is_sorted(halves.validation.begin(), halves.validation.end()));
  for (const data::TokenId token : halves.train) {  // no piece is on both sides
    ASSERT_FALSE(std::binary_search(halves.validation.begin(), halves.validation.end(), token));
  }
}

TEST(Splitter, DoesNotDependOnHowIdsArrive) {
  const std::vector<std::int64_t> lengths = {30'000, 1, 8191, 0, 12'288};
  const Halves expected = split(lengths, 0.4, 1'000'000);
  for (const std::size_t part : {1, 17, 4095, 4096, 4097}) {
    const Halves halves = split(lengths, 0.4, part);
    EXPECT_EQ(halves.train, expected.train);
    EXPECT_EQ(halves.validation, expected.validation);
  }
}

TEST(Splitter, KeepsAboutTheFraction) {
  const std::vector<std::int64_t> documents(4000, 20);
  const double tokens = 4000 * 21;
  EXPECT_EQ(split(documents, 0, 100).validation.size(), 0U);
  for (const double fraction : {0.01, 0.1, 0.5}) {
    const auto validation = static_cast<double>(split(documents, fraction, 100).validation.size());
    const double spread = std::sqrt(fraction * (1 - fraction) / 4000);
    EXPECT_NEAR(validation / tokens, fraction, 4 * spread);
  }
}

TEST(Splitter, ALargerFractionOnlyAddsToValidation) {
  const std::vector<std::int64_t> lengths = {400'000};
  const Halves few = split(lengths, 0.05, 5000);
  const Halves many = split(lengths, 0.3, 5000);
  EXPECT_FALSE(few.validation.empty());
  EXPECT_TRUE(std::includes(many.validation.begin(), many.validation.end(), few.validation.begin(),
                            few.validation.end()));
}

TEST(Splitter, TheSmallestCorpusIsForTraining) {
  EXPECT_EQ(split({100}, 0.99, 100).train.size(), 101U);
}

}  // namespace
}  // namespace prepare
