// Windows of several streams: their proportions, their order, going on anywhere.

#include <cmath>

#include "data/helpers.h"

namespace data_test {
namespace {

using data::Loader;
using data::Mixer;
using data::Order;
using data::TokenStream;

constexpr std::int64_t kLength = 4;

/// Streams of counting tokens: stream i has 12 + 8 i windows and begins at 10000 i.
class Mixing : public testing::Test {
 protected:
  Mixing() {
    for (int i = 0; i < 4; ++i) {
      const base::Path folder = folder_.path() / std::to_string(i);
      std::filesystem::create_directories(folder);
      write_shard(folder / "a.bin", counting(10'000 * i, 4 * (12 + 8 * i) + 1));
      streams_.push_back(TokenStream::open(folder, data::Split::kTrain));
    }
  }
  Loader loader(std::size_t stream, std::int64_t batch = 1, std::int64_t vocab = kVocab) const {
    return {streams_[stream], batch, kLength, Order::kShuffled, 5 + stream, vocab};
  }
  Mixer mixer(const std::vector<double>& weights, std::int64_t batch = 1) const {
    std::vector<Loader> loaders;
    for (std::size_t i = 0; i < weights.size(); ++i) loaders.push_back(loader(i));
    return {std::move(loaders), weights, batch, kLength};
  }
  static std::vector<std::int32_t> next(auto& from, std::int64_t batch = 1) {
    const auto size = static_cast<std::size_t>(batch * kLength);
    std::vector<std::int32_t> inputs(size), targets(size);
    from.next(inputs, targets);
    for (std::size_t i = 0; i < size; ++i) EXPECT_EQ(targets[i], inputs[i] + 1);
    return inputs;
  }
  Folder folder_;
  std::vector<TokenStream> streams_;
};

TEST_F(Mixing, OfOneStreamIsItsLoader) {
  Mixer mixed = mixer({1.0}, 5);
  Loader alone = loader(0, 5);
  for (int i = 0; i < 10; ++i) {  // over the ends of epochs
    EXPECT_EQ(next(mixed, 5), next(alone, 5));
    EXPECT_EQ(mixed.state(), std::vector{alone.state()});
  }
}

TEST_F(Mixing, ServesEachStreamItsShareAfterEveryWindow) {
  for (const std::vector<double>& weights :
       {std::vector<double>{0.7, 0.3}, {0.5, 0.5}, {0.999, 0.001}, {0.1, 0.2, 0.3, 0.4}}) {
    Mixer mixed = mixer(weights);
    std::vector<int> served(weights.size(), 0);
    const double most_behind = std::max(1.0, static_cast<double>(weights.size()) - 1);
    for (int n = 1; n <= 1000; ++n) {
      ++served[static_cast<std::size_t>(next(mixed)[0] / 10'000)];
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const double ahead = served[i] - weights[i] * n;
        EXPECT_LT(ahead, 1 + 1e-9);
        EXPECT_GT(ahead, -most_behind - 1e-9);
      }
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      EXPECT_EQ(served[i], std::lround(1000 * weights[i]));
    }
  }
}

TEST_F(Mixing, GoesByTheLargestDeficitAndTiesToTheFirst) {
  Mixer mixed = mixer({0.5, 0.25, 0.25});
  std::string order;
  for (int i = 0; i < 8; ++i) order += std::to_string(next(mixed)[0] / 10'000);
  EXPECT_EQ(order, "01200120");
}

TEST_F(Mixing, KeepsEachStreamsOwnOrder) {
  Mixer mixed = mixer({0.25, 0.75}, 3);
  std::vector<Loader> alone = {loader(0), loader(1)};
  for (int step = 0; step < 50; ++step) {
    const auto batch = next(mixed, 3);
    for (std::size_t row = 0; row < 3; ++row) {
      const std::vector window(batch.begin() + static_cast<std::ptrdiff_t>(row) * kLength,
                               batch.begin() + static_cast<std::ptrdiff_t>(row + 1) * kLength);
      EXPECT_EQ(window, next(alone[static_cast<std::size_t>(window[0] / 10'000)]));
    }
  }
}

TEST_F(Mixing, GoesOnFromEveryState) {
  const std::vector<double> weights = {0.6, 0.3, 0.1};
  Mixer whole = mixer(weights, 2);
  std::vector<std::vector<data::LoaderState>> states;
  std::vector<std::vector<std::int32_t>> batches;
  for (int i = 0; i < 60; ++i) {
    states.push_back(whole.state());
    Mixer skipping = whole;
    skipping.skip();
    EXPECT_EQ(whole.count_targets(), 2 * kLength);
    batches.push_back(next(whole, 2));
    EXPECT_EQ(skipping.state(), whole.state());
  }
  for (std::size_t i = 0; i < states.size(); i += 7) {
    Mixer again = mixer(weights, 2);
    again.restore(states[i]);
    for (std::size_t k = i; k < batches.size(); ++k) EXPECT_EQ(next(again, 2), batches[k]);
  }
  Mixer other = mixer({0.6, 0.4});
  expect_error_with("cannot continue from the places in 3 folders: there are 2",
                    [&] { other.restore(states[3]); });
}

TEST_F(Mixing, StaysWhereItIsWhenABatchFails) {
  std::vector<Loader> loaders;
  loaders.push_back(loader(0));
  loaders.push_back(loader(1, 1, 9000));  // ids from 10000 on
  Mixer mixed(std::move(loaders), {0.5, 0.5}, 4, kLength);
  const auto before = mixed.state();
  std::vector<std::int32_t> inputs(16), targets(16);
  expect_error_with("the vocabulary has 9000 entries", [&] { mixed.next(inputs, targets); });
  EXPECT_EQ(mixed.state(), before);
}

}  // namespace
}  // namespace data_test
