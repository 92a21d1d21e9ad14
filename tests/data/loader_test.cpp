// Streams and loaders: no token lost or served twice, exact restores, ranks that share a batch.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "data/data.h"
#include "data/helpers.h"

namespace data_test {
namespace {

using data::Loader;
using data::LoaderState;
using data::Order;
using data::Split;
using data::TokenStream;

std::vector<std::int32_t> read_all(const TokenStream& stream) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(stream.tokens()));
  stream.read(0, kVocab, tokens);
  return tokens;
}

std::vector<std::int32_t> numbers(int first, int count) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST(TokenStream, FindsADamagedShardInTheBackground) {
  const Folder folder;
  write_prepared(folder.path(), 2'000'000, 800'000);
  auto stream = data::TokenStream::open(folder.path(), data::Split::kTrain);
  stream.check_in_background();
  EXPECT_TRUE(stream.wait_for_check());
  const auto path = folder.path() / stream.manifest()->train[1].file;
  std::string bytes = base::read_file(path);
  bytes[1'300'001] ^= 4;  // in the second MiB
  base::write_file(path, bytes);
  stream = data::TokenStream::open(folder.path(), data::Split::kTrain);
  stream.check_in_background();
  EXPECT_FALSE(stream.wait_for_check());
  std::vector<std::int32_t> out(10);
  expect_error_with("shard " + path.string() + " is damaged: its CRC-32C is ",
                    [&] { stream.read(0, 65536, out); });
}

TEST(TokenStream, JoinsOverlappingShardsForEveryLength) {
  for (const int total : {1, 2, 9, 10, 11, 12, 20, 21, 22, 95}) {
    const Folder folder;
    write_prepared(folder.path(), total, 10);
    const auto stream = TokenStream::open(folder.path(), Split::kTrain);
    EXPECT_TRUE(stream.has_manifest());
    EXPECT_EQ(stream.tokens(), total);
    EXPECT_EQ(read_all(stream), numbers(0, total)) << total;
  }
}

TEST(TokenStream, ReadsAnyRangeAcrossManyShards) {
  const Folder folder;
  write_prepared(folder.path(), 50, 1);  // 49 shards of two tokens
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  EXPECT_EQ(stream.shard_count(), 49U);
  for (int first = 0; first < 50; ++first) {
    for (int count = 0; first + count <= 50; ++count) {
      std::vector<std::int32_t> out(static_cast<std::size_t>(count));
      stream.read(first, kVocab, out);
      ASSERT_EQ(out, numbers(first, count));
    }
  }
}

TEST(TokenStream, WithoutAManifestJoinsByNameAndSplitsByName) {
  const Folder folder;
  write_shard(folder.path() / "fineweb_train_000002.bin", counting(5, 3));
  write_shard(folder.path() / "fineweb_train_000001.bin", counting(0, 5));
  write_shard(folder.path() / "fineweb_train_000000.bin", {});
  write_shard(folder.path() / "fineweb_val_000000.bin", counting(100, 4));
  folder.write("notes.md", "not a shard");
  const auto train = TokenStream::open(folder.path(), Split::kTrain);
  EXPECT_FALSE(train.has_manifest());
  EXPECT_EQ(read_all(train), numbers(0, 8));
  EXPECT_EQ(read_all(TokenStream::open(folder.path(), Split::kValidation)), numbers(100, 4));
}

TEST(TokenStream, ASplitWithoutShardsIsEmpty) {
  const Folder prepared;
  write_prepared(prepared.path(), 5, 10);
  EXPECT_EQ(TokenStream::open(prepared.path(), Split::kValidation).tokens(), 0);
  const Folder plain;
  write_shard(plain.path() / "a.bin", counting(0, 5));
  EXPECT_EQ(TokenStream::open(plain.path(), Split::kValidation).tokens(), 0);
}

TEST(TokenStream, RefusesAFolderWithoutShards) {
  const Folder folder;
  expect_error_with(
      folder.path().string() + " holds no shards: expected manifest.json or *.bin files",
      [&] { TokenStream::open(folder.path(), Split::kTrain); });
  expect_error_with("cannot open the data folder /nowhere: No such file or directory",
                    [] { TokenStream::open("/nowhere", Split::kTrain); });
}

TEST(TokenStream, RefusesAnUnfinishedPreparation) {
  const Folder folder;
  write_shard(folder.path() / "train_000000.bin", counting(0, 5));
  folder.write("prepare.json", "{}");
  expect_error_with("holds an unfinished preparation",
                    [&] { TokenStream::open(folder.path(), Split::kTrain); });
}

TEST(TokenStream, NamesTheShardThatIsMissing) {
  const Folder folder;
  write_prepared(folder.path(), 30, 10);
  std::filesystem::remove(folder.path() / "train_100010.bin");
  expect_error_with("train_100010.bin: No such file or directory",
                    [&] { TokenStream::open(folder.path(), Split::kTrain); });
}

TEST(TokenStream, NamesTheShardWhoseCountDisagrees) {
  const Folder folder;
  write_prepared(folder.path(), 30, 10);
  write_shard(folder.path() / "train_100010.bin", counting(10, 9));
  expect_error_with("train_100010.bin: manifest.json promises 11 tokens, the shard has 9",
                    [&] { TokenStream::open(folder.path(), Split::kTrain); });
}

TEST(TokenStream, NamesTheShardThatDoesNotJoin) {
  const Folder folder;
  write_prepared(folder.path(), 30, 10);
  write_shard(folder.path() / "train_100010.bin", counting(11, 11));
  expect_error_with(
      "train_100010.bin: expected its first token to be the last one of train_100000.bin",
      [&] { TokenStream::open(folder.path(), Split::kTrain); });
}

TEST(TokenStream, NamesShardAndPositionOfAnIdOutOfRange) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 10));
  write_shard(folder.path() / "b.bin", {3, 4, 60'000, 5});
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  std::vector<std::int32_t> out(14);
  expect_error_with("b.bin: token 2 has id 60000, the vocabulary has 50257 entries",
                    [&] { stream.read(0, 50257, out); });
  out.resize(12);
  EXPECT_NO_THROW(stream.read(0, 50257, out));
}

/// The inputs' first tokens, in the order of the batches; with counting tokens they tell the
/// window.
struct Batch {
  std::vector<std::int32_t> inputs, targets;
};
Batch next_of(Loader& loader, std::int64_t size) {
  Batch batch;
  batch.inputs.resize(static_cast<std::size_t>(size));
  batch.targets.resize(static_cast<std::size_t>(size));
  loader.next(batch.inputs, batch.targets);
  return batch;
}

TEST(Loader, EveryTokenIsAnInputOnceAndATargetOnceInAnEpoch) {
  for (const Order order : {Order::kSequential, Order::kShuffled}) {
    const Folder folder;
    write_prepared(folder.path(), 241, 7);
    const auto stream = TokenStream::open(folder.path(), Split::kTrain);
    Loader loader(stream, 4, 6, order, 1, kVocab);
    ASSERT_EQ(loader.windows(), 40);
    std::map<std::int32_t, int> inputs, targets;
    for (int i = 0; i < 10; ++i) {
      const Batch batch = next_of(loader, 24);
      for (std::size_t k = 0; k < 24; ++k) {
        ++inputs[batch.inputs[k]];
        ++targets[batch.targets[k]];
        EXPECT_EQ(batch.targets[k], batch.inputs[k] + 1);
      }
    }
    EXPECT_EQ(loader.state(), (LoaderState{1, 1, 0}));
    for (int token = 0; token < 241; ++token) {
      EXPECT_EQ(inputs[token], token < 240 ? 1 : 0) << token;
      EXPECT_EQ(targets[token], token > 0 ? 1 : 0) << token;
    }
  }
}

TEST(Loader, DropsTheTailThatFillsNoWindow) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 30));
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  EXPECT_EQ(Loader(stream, 1, 10, Order::kSequential, 0, kVocab).windows(), 2);
  EXPECT_EQ(Loader(stream, 1, 29, Order::kSequential, 0, kVocab).windows(), 1);
}

TEST(Loader, SequentialGoesThroughTheTextAndOnIntoTheNextEpoch) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 31));
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  Loader loader(stream, 2, 10, Order::kSequential, 0, kVocab);
  EXPECT_EQ(next_of(loader, 20).inputs, numbers(0, 20));
  const Batch across = next_of(loader, 20);
  EXPECT_EQ(across.inputs[0], 20);
  EXPECT_EQ(across.inputs[10], 0);
  EXPECT_EQ(loader.state(), (LoaderState{0, 1, 1}));
}

TEST(Loader, ABatchLargerThanAnEpochCrossesSeveral) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 31));
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  Loader loader(stream, 7, 10, Order::kShuffled, 5, kVocab);
  std::map<std::int32_t, int> starts;
  const Batch batch = next_of(loader, 70);
  for (std::size_t b = 0; b < 6; ++b) ++starts[batch.inputs[b * 10]];
  EXPECT_EQ(starts, (std::map<std::int32_t, int>{{0, 2}, {10, 2}, {20, 2}}));
  EXPECT_EQ(loader.state(), (LoaderState{5, 2, 1}));
}

TEST(Loader, ShuffledEpochsDifferAndSeedsDiffer) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 1001));
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  Loader loader(stream, 100, 10, Order::kShuffled, 1, kVocab);
  Loader other(stream, 100, 10, Order::kShuffled, 2, kVocab);
  const auto first = next_of(loader, 1000).inputs;
  EXPECT_NE(first, numbers(0, 1000));
  EXPECT_NE(first, next_of(loader, 1000).inputs);
  EXPECT_NE(first, next_of(other, 1000).inputs);
}

TEST(Loader, RestoresExactlyAtEveryPoint) {
  const Folder folder;
  write_prepared(folder.path(), 141, 9);
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  for (const Order order : {Order::kSequential, Order::kShuffled}) {
    Loader loader(stream, 3, 7, order, 42, kVocab);
    for (int step = 0; step < 30; ++step) {  // 20 windows an epoch: several epochs
      const LoaderState state = loader.state();
      const Batch expected = next_of(loader, 21);
      Loader other(stream, 3, 7, order, 0, kVocab);  // the seed comes with the state
      other.restore(state);
      EXPECT_EQ(next_of(other, 21).inputs, expected.inputs);
      EXPECT_EQ(other.state(), loader.state());
    }
  }
}

TEST(Loader, RanksShareTheGlobalBatch) {
  const Folder folder;
  write_prepared(folder.path(), 211, 20);
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  Loader whole(stream, 6, 5, Order::kShuffled, 3, kVocab);
  std::vector<Loader> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.emplace_back(stream, 2, 5, Order::kShuffled, 3, kVocab, rank, 3);
  }
  for (int step = 0; step < 20; ++step) {  // 42 windows an epoch, 6 a step
    const Batch expected = next_of(whole, 30);
    std::vector<std::int32_t> joined;
    for (Loader& rank : ranks) {
      const Batch part = next_of(rank, 10);
      joined.insert(joined.end(), part.inputs.begin(), part.inputs.end());
      EXPECT_EQ(rank.state(), whole.state());
    }
    EXPECT_EQ(joined, expected.inputs);
  }
}

TEST(Loader, WindowStartTellsWhatNextServes) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 101));
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  Loader loader(stream, 1, 10, Order::kShuffled, 8, kVocab);
  for (int i = 0; i < 25; ++i) {
    const LoaderState state = loader.state();
    EXPECT_EQ(next_of(loader, 10).inputs[0], loader.window_start(state.epoch, state.window));
  }
}

TEST(Loader, ChecksIdsAsWindowsAreRead) {
  const Folder folder;
  auto tokens = counting(0, 31);
  tokens[25] = 999;
  write_shard(folder.path() / "a.bin", tokens);
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  Loader loader(stream, 1, 10, Order::kSequential, 0, 100);
  EXPECT_NO_THROW(next_of(loader, 10));
  EXPECT_NO_THROW(next_of(loader, 10));
  const LoaderState before = loader.state();
  expect_error_with("a.bin: token 25 has id 999, the vocabulary has 100 entries",
                    [&] { next_of(loader, 10); });
  EXPECT_EQ(loader.state(), before);
}

TEST(Loader, RefusesDataWithoutAWindow) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 10));
  const auto train = TokenStream::open(folder.path(), Split::kTrain);
  expect_error_with("the data has 10 tokens, one window of context 10 needs 11",
                    [&] { Loader(train, 1, 10, Order::kSequential, 0, kVocab); });
  const auto validation = TokenStream::open(folder.path(), Split::kValidation);
  expect_error_with("the data has 0 tokens",
                    [&] { Loader(validation, 1, 10, Order::kSequential, 0, kVocab); });
}

TEST(Loader, RefusesSizesRanksAndStatesThatCannotBe) {
  const Folder folder;
  write_shard(folder.path() / "a.bin", counting(0, 101));
  const auto stream = TokenStream::open(folder.path(), Split::kTrain);
  expect_error_with("expected a batch and a context of at least 1, got 0 and 10",
                    [&] { Loader(stream, 0, 10, Order::kSequential, 0, kVocab); });
  expect_error_with("expected a rank in [0, 2), got 2",
                    [&] { Loader(stream, 1, 10, Order::kSequential, 0, kVocab, 2, 2); });
  Loader loader(stream, 1, 10, Order::kSequential, 0, kVocab);
  expect_error_with("cannot continue at epoch 0, window 10: an epoch of this data has 10 windows",
                    [&] {
                      loader.restore({0, 0, 10});
                    });
  expect_error_with("cannot continue at epoch 0, window -1", [&] { loader.restore({0, 0, -1}); });
}

}  // namespace
}  // namespace data_test
