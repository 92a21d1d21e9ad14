// gpt2 bench tokenizer: encoding and decoding in memory.

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/bench.h"
#include "cli/tokenizer_option.h"

namespace cli {
namespace {

constexpr double kMega = 1e6;
constexpr std::size_t kOwnTextBytes = std::size_t{16} << 20;

struct TokenizerBench {
  BenchOptions* bench = nullptr;
  TokenizerOption tokenizer;
  std::string input;
  std::int64_t passes = 9;
};

std::string row(const char* what, const std::string& text) {
  return fmt::format("{:<10} {}\n", what, text);
}

void print_tokenizing(const TokenizerBench& o, const std::string& source,
                      const measure::Tokenizing& r) {
  const auto speed = [&](double seconds) { return r.bytes / kMega / seconds; };
  const auto& [encode, decode, parallel] =
      std::tie(r.encode_seconds, r.decode_seconds, r.parallel_seconds);
  const double gain = encode.median() / parallel.median();
  if (o.bench->json) {
    const nlohmann::ordered_json json = {
        {"bench", "tokenizer"},
        {"text", source},
        {"bytes", r.bytes},
        {"tokens", r.tokens},
        {"isa", r.instruction_set},
        {"threads", base::thread_count()},
        {"clock", o.bench->cpu_time ? "cpu" : "wall"},
        {"encode_cold_mb_per_second", speed(r.cold_seconds)},
        {"encode_warm_mb_per_second", speed(encode.median())},
        {"best_encode_warm_mb_per_second", speed(encode.smallest())},
        {"decode_mb_per_second", speed(decode.median())},
        {"best_decode_mb_per_second", speed(decode.smallest())},
        {"encode_threads_mb_per_second", speed(parallel.median())},
        {"best_encode_threads_mb_per_second", speed(parallel.smallest())}};
    return write_output(json.dump() + "\n");
  }
  const auto median_and_best = [&](const measure::Series& seconds) {
    return fmt::format("{:.1f} MB/s median, {:.1f} best", speed(seconds.median()),
                       speed(seconds.smallest()));
  };
  write_output(
      row("text",
          fmt::format("{}: {}, {} tokens", source, human_bytes(r.bytes), human_count(r.tokens))) +
      row("machine", fmt::format("{}, {} threads", r.instruction_set, base::thread_count())) +
      row("cold", fmt::format("{:.1f} MB/s: encode, a first pass with an empty cache",
                              speed(r.cold_seconds))) +
      row("warm", fmt::format("{}: encode again", median_and_best(encode))) +
      row("decode", median_and_best(decode)) +
      row("threads", fmt::format("{}: encode again on all threads, {:.2f} times one",
                                 median_and_best(parallel), gain)));
}

void run_bench_tokenizer(TokenizerBench& o) {
  const text::Tokenizer& tokenizer = o.tokenizer.get();
  const bool own = o.input.empty();
  const std::string bytes =
      own ? measure::text_of_tokens(tokenizer, kOwnTextBytes) : read_input(o.input);
  const std::string source = own ? "random words, no FILE" : name_of_input(o.input);
  if (bytes.empty()) base::fail("bench tokenizer: {}: expected some text, got none", source);
  print_tokenizing(o, source,
                   measure::measure_tokenizer(tokenizer, bytes, o.passes, o.bench->clock()));
}

}  // namespace

void add_bench_tokenizer(CLI::App& command, BenchOptions& bench) {
  const auto options = std::make_shared<TokenizerBench>();
  options->bench = &bench;
  command.add_option("FILE", options->input,
                     "Text to encode; '-' is stdin (default: 16 MiB of the vocabulary's words, the "
                     "n-th drawn with a probability like 1/n)");
  command
      .add_option("--passes", options->passes,
                  "Timed passes of each kind; an untimed one goes first")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000}))
      ->capture_default_str();
  options->tokenizer.add(command);
  command.callback([options] { run_bench_tokenizer(*options); });
}

}  // namespace cli
