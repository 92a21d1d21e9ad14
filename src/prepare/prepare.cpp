// A run from its arguments to its manifest; pipeline.cpp and writer.cpp do the work.

#include "prepare/prepare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "prepare/output.h"
#include "prepare/pipeline.h"

namespace prepare {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(const Options& options) {
  if (options.shard_tokens < 1 || options.shard_tokens > kMaxShardTokens) {
    base::fail("shard tokens: expected 1 to {}, got {}", kMaxShardTokens, options.shard_tokens);
  }
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    base::fail("validation fraction: expected at least 0 and less than 1, got {}",
               options.validation_fraction);
  }
  if (!(options.max_rejected >= 0 && options.max_rejected <= 1)) {
    base::fail("max rejected: expected a share from 0 to 1, got {}", options.max_rejected);
  }
}

/// True for a file inside `folder`, or where it will be.
bool lies_inside(const std::string& file, const base::Path& folder) {
  std::error_code error;
  base::Path root = fs::weakly_canonical(folder, error);
  if (!root.has_filename()) root = root.parent_path();  // a trailing slash
  const base::Path path = fs::weakly_canonical(file, error);
  if (error) return false;
  const auto [root_end, path_at] =
      std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return root_end == root.end();
}

/// What will be read. The output may lie inside an input folder; its own files are no inputs.
std::vector<data::Input> inputs_of(const Options& options) {
  if (options.inputs.empty())
    base::fail("no input: name a .txt, .md, .jsonl or .parquet file, a folder, or '-'");
  std::vector<data::Input> inputs = data::find_inputs(options.inputs);
  std::erase_if(inputs, [&](const data::Input& input) {
    return input.path != "-" && lies_inside(input.path, options.out);
  });
  if (inputs.empty()) {
    base::fail("the output folder {} holds all the inputs; choose another one",
               options.out.string());
  }
  const auto unfit = std::find_if_not(inputs.begin(), inputs.end(), data::has_lines);
  if (options.mask_prompts && unfit != inputs.end()) {
    base::fail(
        "--mask prompt reads .jsonl files alone (also .gz, .zst), and {} is none; leave it "
        "out, or --mask",
        unfit->path == "-" ? "the standard input" : unfit->path);
  }
  return inputs;
}

[[noreturn]] void fail_without_text(const std::vector<data::Input>& inputs) {
  if (inputs.size() == 1) {
    const std::string& path = inputs.front().path;
    base::fail("{} holds no text; name an input that does",
               path == "-" ? "the standard input" : path);
  }
  base::fail("the {} inputs ({}, ...) hold no text; name one that does", inputs.size(),
             inputs.front().path);
}

void refuse_empty_files(const std::vector<data::Input>& inputs) {
  const auto is_empty_file = [](const data::Input& input) {
    std::error_code error;
    return input.path != "-" && input.bytes == 0 && fs::is_regular_file(input.path, error);
  };
  if (std::all_of(inputs.begin(), inputs.end(), is_empty_file)) fail_without_text(inputs);
}

/// The manifest as far as the arguments decide it.
data::Manifest plan(const Options& options, const std::vector<data::Input>& inputs,
                    const text::Tokenizer& tokenizer, text::TokenId end_of_text) {
  data::Manifest manifest;
  manifest.inputs = inputs;
  manifest.shard_tokens = options.shard_tokens;
  manifest.validation_fraction = options.validation_fraction;
  manifest.text_field = options.text_field;
  manifest.vocab_size = static_cast<std::int64_t>(tokenizer.vocab_size());
  manifest.vocab_hash = fmt::format("{:016x}", tokenizer.hash());
  manifest.end_of_text = end_of_text;
  manifest.format = options.format;
  manifest.utf8 = options.strict_utf8 ? "strict" : "keep";
  manifest.dedup = options.drop_duplicates ? "exact" : "none";
  manifest.mask = options.mask_prompts ? "prompt" : "none";
  return manifest;
}

void sum_up(const Writer& writer, data::Manifest& manifest) {
  manifest.documents = writer.documents();
  manifest.train_tokens = writer.train().tokens();
  manifest.validation_tokens = writer.validation().tokens();
  manifest.train = writer.train().shards();
  manifest.validation = writer.validation().shards();
  manifest.train_learnt = writer.train().learnt();
  manifest.validation_learnt = writer.validation().learnt();
  manifest.rejected = writer.state().rejected;
  manifest.duplicates = writer.state().duplicates;
}

}  // namespace

Result run(const Options& options, const text::Tokenizer& tokenizer,
           const std::function<void(const Progress&)>& progress) {
  const auto start = Clock::now();
  check(options);
  const auto end_of_text = tokenizer.end_of_text();
  if (!end_of_text) {
    base::fail("the tokenizer has no {}, which separates documents; use another one",
               text::kEndOfText);
  }
  std::vector<data::Input> inputs = inputs_of(options);
  data::identify(inputs);
  Result result;
  data::Manifest& manifest = result.manifest;
  manifest = plan(options, inputs, tokenizer, *end_of_text);
  if (!options.restart) {
    if (auto finished = find_finished(options.out, manifest)) {
      result.manifest = std::move(*finished);
      result.already_done = true;
      result.seconds = seconds_since(start);
      return result;
    }
  }
  refuse_empty_files(inputs);

  Output output(options.out, manifest, options.restart);
  result.resumed = output.state().has_value();
  const std::uint64_t bytes_total = data::known_bytes(inputs);
  Writer writer(options, output, std::all_of(inputs.begin(), inputs.end(), data::can_seek),
                bytes_total);
  tokenizer.write_files(output.folder());
  Pipeline pipeline(inputs, options, tokenizer, *end_of_text, writer);
  auto reported = start;
  const auto report = [&](bool end) {
    constexpr auto kInterval = std::chrono::milliseconds(100);
    if (!progress || (!end && Clock::now() - reported < kInterval)) return;
    reported = Clock::now();
    Progress now = writer.progress();
    // A chunk that was taken up in its middle is counted in part.
    now.bytes_done = end && bytes_total > 0 ? bytes_total : now.bytes_done;
    if (bytes_total > 0) now.bytes_done = std::min(now.bytes_done, bytes_total);
    now.bytes_total = bytes_total;
    now.bytes_before = output.state() ? output.state()->bytes_done : 0;
    now.seconds = seconds_since(start);
    progress(now);
  };
  pipeline.run([&] { report(false); });
  if (writer.state().text_bytes == 0 && writer.state().rejected == 0) fail_without_text(inputs);
  writer.finish();
  if (writer.train().tokens() == 0) {
    if (writer.state().text_bytes == 0) fail_without_text(inputs);
    base::fail("all of the text was drawn for validation; lower the validation fraction of {}",
               options.validation_fraction);
  }
  sum_up(writer, manifest);
  output.commit(manifest);
  report(true);
  result.forgotten = writer.forgotten();
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace prepare
