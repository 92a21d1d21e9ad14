// The tokenizer's speed.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "measure/measure.h"

namespace measure {
namespace {

using Ids = std::vector<text::TokenId>;

template <class Pass>
double seconds_of(Clock clock, Pass&& pass) {
  const double begin = base::seconds(clock);
  pass();
  return base::seconds(clock) - begin;
}

/// Every thread's encoder and ids.
struct Part {
  text::Encoder encoder;
  std::string_view bytes;
  Ids ids;
};

void measure_parallel(const text::Tokenizer& tokenizer, std::string_view bytes, std::int64_t passes,
                      const Ids& expected, Tokenizing& result) {
  std::vector<Part> parts;
  for (const auto part :
       text::cut_for_threads(bytes, static_cast<std::size_t>(base::thread_count()))) {
    parts.push_back({text::Encoder(tokenizer), part, {}});
  }
  const auto pass = [&] {
    base::parallel_for(static_cast<std::int64_t>(parts.size()), [&](std::int64_t i) {
      Part& part = parts[static_cast<std::size_t>(i)];
      part.ids.clear();
      part.encoder.encode(part.bytes, part.ids);
    });
  };
  pass();
  for (std::int64_t i = 0; i < passes; ++i) {
    result.parallel_seconds.add(seconds_of(Clock::kWall, pass));
  }
  auto at = expected.begin();
  for (const Part& part : parts) {
    const auto left = static_cast<std::size_t>(expected.end() - at);
    if (part.ids.size() > left || !std::equal(part.ids.begin(), part.ids.end(), at)) {
      base::fail("bench tokenizer: {} threads give other ids than one", parts.size());
    }
    at += static_cast<std::ptrdiff_t>(part.ids.size());
  }
}

}  // namespace

Tokenizing measure_tokenizer(const text::Tokenizer& tokenizer, std::string_view bytes,
                             std::int64_t passes, Clock clock) {
  Tokenizing result;
  result.bytes = static_cast<double>(bytes.size());
  Ids ids;
  const double begin = base::seconds(clock);
  text::Encoder encoder(tokenizer);
  encoder.encode(bytes, ids);
  result.cold_seconds = base::seconds(clock) - begin;
  result.tokens = static_cast<double>(ids.size());
  result.instruction_set = encoder.instruction_set();
  for (std::int64_t i = 0; i < passes; ++i) {
    ids.clear();
    result.encode_seconds.add(seconds_of(clock, [&] { encoder.encode(bytes, ids); }));
  }
  for (std::int64_t i = 0; i < passes; ++i) {
    std::string decoded;
    result.decode_seconds.add(seconds_of(clock, [&] { decoded = tokenizer.decode(ids); }));
    if (decoded != bytes) base::fail("bench tokenizer: decoding does not give the text back");
  }
  measure_parallel(tokenizer, bytes, passes, ids, result);
  return result;
}

std::string text_of_tokens(const text::Tokenizer& tokenizer, std::size_t bytes) {
  constexpr std::uint64_t kSeed = 1;
  std::vector<text::TokenId> words;
  for (std::size_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = static_cast<text::TokenId>(id);
    if (tokenizer.token_bytes(token).starts_with(' ')) words.push_back(token);
  }
  if (words.empty()) base::fail("bench tokenizer: the vocabulary has no words; give a FILE");
  std::string text;
  for (std::uint64_t i = 0; text.size() < bytes; ++i) {
    const double uniform = static_cast<double>(base::random_bits(kSeed, 0, i) >> 11) * 0x1p-53;
    // exp of a uniform number has density 1 / x.
    const double rank = std::exp(uniform * std::log(static_cast<double>(words.size()))) - 1;
    text += tokenizer.token_bytes(words[static_cast<std::size_t>(rank)]);
  }
  return text;
}

}  // namespace measure
