// gpt2 prepare: text -> token shards.

#include "prepare/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "cli/cli.h"
#include "cli/hub_fetch.h"
#include "cli/max_rejected.h"
#include "cli/tokenizer_option.h"

namespace cli {
namespace {

struct PrepareOptions {
  CommonOptions common;
  TokenizerOption tokenizer;
  prepare::Options prepare;
  std::string out;
};

/// "[###...]  31%  1.2 GB of 4 GB, 310 M tokens, 9.8 MB/s, 3 min 20 s left".
std::string describe(const prepare::Progress& progress) {
  const auto done = static_cast<double>(progress.bytes_done);
  const auto total = static_cast<double>(progress.bytes_total);
  const double rate =
      (done - static_cast<double>(progress.bytes_before)) / std::max(progress.seconds, 1e-9);
  const std::string tokens = human_count(static_cast<double>(progress.tokens));
  const std::string speed = human_bytes(rate) + "/s";
  if (progress.bytes_total == 0) {  // from a pipe: no end in sight
    return fmt::format("prepare {}, {} tokens, {}", human_bytes(done), tokens, speed);
  }
  return fmt::format("prepare {}  {} of {}, {} tokens, {}, {} left", progress_bar(done / total),
                     human_bytes(done), human_bytes(total), tokens, speed,
                     human_duration((total - done) / std::max(rate, 1.0)));
}

/// "1 document", "7 documents".
std::string counted(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

/// What is in the folder.
std::string describe(const data::Manifest& manifest) {
  std::string text = fmt::format("{}, {} in {}", counted(manifest.documents, "document"),
                                 counted(manifest.train_tokens, "training token"),
                                 counted(std::ssize(manifest.train), "shard"));
  if (manifest.validation_tokens > 0) {
    text += fmt::format(", {} in {}", counted(manifest.validation_tokens, "validation token"),
                        counted(std::ssize(manifest.validation), "shard"));
  }
  if (manifest.mask != "none") {
    const auto total = static_cast<double>(manifest.train_tokens + manifest.validation_tokens);
    const auto learnt = static_cast<double>(manifest.train_learnt + manifest.validation_learnt);
    text += fmt::format("; {:.1f} % of the tokens learnt", 100 * learnt / std::max(total, 1.0));
  }
  if (manifest.duplicates > 0) {
    text += fmt::format("; {} dropped", counted(manifest.duplicates, "duplicate"));
  }
  if (manifest.rejected > 0) {
    text += fmt::format("; {} rejected (rejected.jsonl)", counted(manifest.rejected, "record"));
  }
  return text;
}

void add_record_options(CLI::App& command, PrepareOptions& options) {
  prepare::Options& values = options.prepare;
  add_max_rejected(
      command, values.max_rejected,
      "Stop when more than this part of the records is broken (0.01 or 1%); those that "
      "are stand in OUT/rejected.jsonl");
  command
      .add_option_function<std::string>(
          "--utf8", [&values](const std::string& word) { values.strict_utf8 = word == "strict"; },
          "What is not UTF-8: keep every byte, or (strict) reject the document")
      ->check(CLI::IsMember({"keep", "strict"}))
      ->default_str("keep");
  command
      .add_option_function<std::string>(
          "--dedup",
          [&values](const std::string& word) { values.drop_duplicates = word == "exact"; },
          "Of documents with the same text keep the first (exact); up to 1 GiB of memory, some 58 "
          "million documents")
      ->check(CLI::IsMember({"none", "exact"}))
      ->default_str("none");
  command
      .add_option_function<std::string>(
          "--format",
          [&values](const std::string& word) {
            values.format =
                word == "nanogpt" ? data::ShardFormat::kNanogpt : data::ShardFormat::kLlmc;
          },
          "Shards as llm.c reads them, or train.bin and val.bin as nanoGPT does")
      ->check(CLI::IsMember({"llmc", "nanogpt"}))
      ->default_str("llmc");
  command.add_flag(
      "--restart", values.restart,
      "Empty an output folder that is finished or was begun otherwise, and begin again");
}

void run_prepare(PrepareOptions& options) {
  options.prepare.out = options.out;
  options.prepare.inputs = with_fetched(options.prepare.inputs, options.common);
  const text::Tokenizer& tokenizer = options.tokenizer.get();
  StatusLine status(options.common, /*plain_lines=*/false);
  prepare::Progress last;
  const prepare::Result result =
      prepare::run(options.prepare, tokenizer, [&](const prepare::Progress& progress) {
        last = progress;
        const bool end = progress.bytes_done == progress.bytes_total;
        status.update(describe(progress), end);
      });
  status.finish();
  const std::string contents = describe(result.manifest);
  if (result.already_done) {
    note(options.common, fmt::format("{} is already prepared from these inputs: {}; nothing to do",
                                     options.out, contents));
    return;
  }
  if (result.forgotten > 0) {
    warn(fmt::format("no memory to remember {}: later equals of theirs were kept",
                     counted(result.forgotten, "document")));
  }
  const double seconds = std::max(result.seconds, 1e-9);
  const auto bytes = static_cast<double>(last.bytes_done - last.bytes_before);
  note(options.common, fmt::format("{}: {}; {}{:.1f} s, {}/s", options.out, contents,
                                   result.resumed ? "taken up where it had stopped, " : "",
                                   result.seconds, human_bytes(bytes / seconds)));
}

}  // namespace

void add_prepare(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("prepare", "Turn text into shards of tokens to train on");
  const auto options = std::make_shared<PrepareOptions>();
  command
      .add_option("INPUT", options->prepare.inputs,
                  ".txt and .md files (a document each), .jsonl files (a document a line, empty "
                  "lines skipped), both also as .gz and .zst, .parquet files (a document a row), "
                  "folders of them (recursively, sorted), '-' for stdin (one document of plain "
                  "text), or hf:OWNER/NAME[@revision][:glob]: the data set's .parquet or .jsonl "
                  "files, fetched from the Hugging Face hub")
      ->required();
  command
      .add_option("--out", options->out,
                  "Folder for the shards; new, empty, or begun by this very command: stopped in "
                  "whatever way, it goes on where it was")
      ->required();
  command
      .add_option("--shard-tokens", options->prepare.shard_tokens,
                  "Tokens of a full shard, beside the one it shares with the next")
      ->check(CLI::Range(std::int64_t{1}, prepare::kMaxShardTokens))
      ->capture_default_str();
  command
      .add_option("--val-fraction", options->prepare.validation_fraction,
                  "Part of the text set aside for validation, from 0 to less than 1")
      ->check([](const std::string& word) {
        double value = 0;
        const bool valid = CLI::detail::lexical_cast(word, value) && value >= 0 && value < 1;
        return valid ? std::string() : "expected a number from 0 to less than 1, got " + word;
      })
      ->capture_default_str();
  command
      .add_option("--text-field", options->prepare.text_field,
                  "Field of a JSONL line that holds the text; 'a.b' is b inside the object a")
      ->capture_default_str();
  command
      .add_option_function<std::string>(
          "--mask",
          [options](const std::string& word) { options->prepare.mask_prompts = word == "prompt"; },
          "Instruction data: .jsonl lines are {\"prompt\", \"completion\"} or {\"messages\": "
          "[{\"role\", \"content\"}, ...]}, and (prompt) a mask beside each shard says that the "
          "answers alone are learnt")
      ->check(CLI::IsMember({"none", "prompt"}))
      ->excludes("--text-field")
      ->default_str("none");
  add_record_options(command, *options);
  options->tokenizer.add(command);
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_prepare(*options); });
}

}  // namespace cli
