// gpt2 train-tokenizer: text -> a vocabulary of its own.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "cli/cli.h"
#include "cli/hub_fetch.h"
#include "cli/max_rejected.h"
#include "prepare/prepare.h"

namespace cli {
namespace {

struct TrainTokenizerOptions {
  CommonOptions common;
  prepare::LearnOptions learn;
  std::string out;
};

std::string describe(const prepare::LearnProgress& progress, std::size_t vocab_size) {
  if (progress.entries > 0) {
    const double done = static_cast<double>(progress.entries) / static_cast<double>(vocab_size);
    return fmt::format("merge   {}  {} of {} entries", progress_bar(done), progress.entries,
                       vocab_size);
  }
  const auto done = static_cast<double>(progress.bytes_done);
  const std::string speed = human_bytes(done / std::max(progress.seconds, 1e-9)) + "/s";
  if (progress.bytes_total == 0) return fmt::format("count {}, {}", human_bytes(done), speed);
  const auto total = static_cast<double>(progress.bytes_total);
  return fmt::format("count   {}  {} of {}, {}", progress_bar(done / total), human_bytes(done),
                     human_bytes(total), speed);
}

void run_train_tokenizer(TrainTokenizerOptions& options) {
  options.learn.out = options.out;
  options.learn.inputs = with_fetched(options.learn.inputs, options.common);
  StatusLine status(options.common, /*plain_lines=*/false);
  const std::size_t wanted = options.learn.vocabulary.vocab_size;
  const prepare::LearnResult result =
      prepare::learn(options.learn, [&](const prepare::LearnProgress& progress) {
        status.update(describe(progress, wanted), false);
      });
  status.finish();
  note(options.common,
       fmt::format("{}: {} entries from {} of text, {} pre-tokens, {} different ones; {:.1f} s",
                   options.out, result.vocab_size,
                   human_bytes(static_cast<double>(result.text_bytes)),
                   human_count(static_cast<double>(result.pieces)),
                   human_count(static_cast<double>(result.different_pieces)), result.seconds));
  if (result.rejected > 0) {
    warn(fmt::format("{} of {} records are broken and were passed over; the first: {}",
                     result.rejected, result.records, result.first_rejected));
  }
  if (result.vocab_size < wanted) {
    note(
        options.common,
        fmt::format("fewer than the {} asked for: no other pair occurs {} times or more; give more "
                    "text or a lower --min-frequency",
                    wanted, options.learn.vocabulary.min_frequency));
  }
}

}  // namespace

void add_train_tokenizer(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("train-tokenizer", "Learn a vocabulary from text");
  const auto options = std::make_shared<TrainTokenizerOptions>();
  command.add_option("INPUT", options->learn.inputs, "Text, as 'gpt2 prepare' takes it")
      ->required();
  command
      .add_option("--vocab-size", options->learn.vocabulary.vocab_size,
                  "Entries: 256 bytes, merges, and <|endoftext|>")
      ->check(CLI::Range(std::size_t{257}, std::size_t{65536}))
      ->required();
  command
      .add_option("--out", options->out,
                  "New or empty folder for vocab.json, merges.txt and tokenizer.json")
      ->required();
  command
      .add_option("--min-frequency", options->learn.vocabulary.min_frequency,
                  "Occurrences below which a pair of tokens is not joined")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--text-field", options->learn.text_field,
                  "Field of a record that holds the text")
      ->capture_default_str();
  add_max_rejected(command, options->learn.max_rejected,
                   "Stop when more than this part of the records is broken (0.01 or 1%)");
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_train_tokenizer(*options); });
}

}  // namespace cli
