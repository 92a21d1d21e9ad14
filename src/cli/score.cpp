// gpt2 score: how likely a model finds a text.
//
// With --jsonl a line of log-probabilities for each line; else one JSON object for a whole file.

#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/model_input.h"
#include "cli/tokenizer_option.h"
#include "evaluate/evaluate.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

struct ScoreOptions {
  CommonOptions common;
  ModelOptions model;
  std::string input = "-";
  bool jsonl = false;
  bool ids = false;
  std::optional<std::int64_t> stride;
};

/// The ids of {"ids": [...]}.
std::vector<std::int32_t> ids_of(const Json& array, std::int64_t vocab_size) {
  if (!array.is_array())
    base::fail("\"ids\": expected a list of token ids, got {}", array.type_name());
  std::vector<std::int32_t> ids;
  for (const Json& value : array) {
    const bool in_range = value.is_number_unsigned() &&
                          value.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab_size);
    if (!in_range) {
      base::fail("\"ids\": position {} (from 0): expected a token id from 0 to {}, got {}",
                 ids.size(), vocab_size - 1,
                 value.dump(-1, ' ', false, Json::error_handler_t::replace));
    }
    ids.push_back(value.get<std::int32_t>());
  }
  return ids;
}

const text::Tokenizer& tokenizer_for_text(const LoadedModel& loaded, std::string_view advice) {
  if (loaded.tokenizer) return *loaded.tokenizer;
  base::fail(
      "model {}: scoring text needs a tokenizer, and the folder has no vocab.json and "
      "merges.txt; {}",
      loaded.folder.string(), advice);
}

std::vector<std::int32_t> ids_of_line(const LoadedModel& loaded, std::string_view line) {
  const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    base::fail("expected a JSON object with \"text\" or \"ids\", got {}",
               object.is_discarded() ? "broken JSON" : object.type_name());
  }
  const auto text = object.find("text");
  const auto ids = object.find("ids");
  if ((text == object.end()) == (ids == object.end())) {
    base::fail("expected either \"text\" or \"ids\", got {}",
               text == object.end() ? "neither" : "both");
  }
  if (ids != object.end()) return ids_of(*ids, loaded.model.config().vocab_size);
  if (!text->is_string()) base::fail("\"text\": expected a string, got {}", text->type_name());
  return encode_text(tokenizer_for_text(loaded, "use {\"ids\": [...]} lines"),
                     text->get_ref<const std::string&>());
}

/// {"logprobs": [null, ...], "tokens": n, "loss": mean}: the first token has nothing before it.
Json answer(const std::vector<std::int32_t>& ids, const std::vector<double>& scored) {
  Json logprobs = Json::array();
  if (!ids.empty()) logprobs.push_back(nullptr);
  double sum = 0;
  for (const double value : scored) {
    logprobs.push_back(value);
    sum -= value;
  }
  Json loss;  // null where nothing was scored
  if (!scored.empty()) loss = sum / static_cast<double>(scored.size());
  return {{"logprobs", std::move(logprobs)}, {"tokens", ids.size()}, {"loss", std::move(loss)}};
}

/// Tokens a second, since it was made.
class Rate {
 public:
  double of(double tokens) const {
    return tokens /
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Lines are answered in their order, some thousands at a time: enough of them to find others of
/// similar length for each.
void score_jsonl(const ScoreOptions& options, LoadedModel& loaded) {
  constexpr std::size_t kPendingTokens = std::size_t{1} << 16;
  StatusLine status(options.common, /*plain_lines=*/false);
  const Rate rate;
  std::vector<std::vector<std::int32_t>> pending;
  std::size_t pending_tokens = 0, lines = 0, tokens = 0;
  const auto flush = [&] {
    const auto scored = evaluate::log_probabilities_each(loaded.model, pending);
    std::string output;
    for (std::size_t i = 0; i < pending.size(); ++i) {
      output += answer(pending[i], scored[i]).dump() + "\n";
    }
    write_output(output);
    lines += pending.size();
    tokens += std::exchange(pending_tokens, 0);
    pending.clear();
    status.update(fmt::format("score {} lines, {} tokens, {} tokens/s", lines,
                              human_count(static_cast<double>(tokens)),
                              human_count(rate.of(static_cast<double>(tokens)))));
  };
  for_each_input_line(options.input, [&](std::string_view line, std::int64_t number) {
    if (line.find_first_not_of(" \t") == std::string_view::npos)
      return;  // an empty line says nothing
    try {
      pending.push_back(ids_of_line(loaded, line));
      evaluate::check(loaded.model.config(), pending.back());
    } catch (const base::Error& error) {
      base::fail("{}:{}: {}", name_of_input(options.input), number, error.what());
    }
    pending_tokens += pending.back().size() + 1;  // an empty one takes memory, too
    if (pending_tokens >= kPendingTokens) flush();
  });
  if (!pending.empty()) flush();
}

/// The bytes of all tokens that are scored, or nothing without a tokenizer.
std::optional<double> scored_bytes(const LoadedModel& loaded,
                                   const std::vector<std::int32_t>& ids) {
  if (!loaded.tokenizer) return std::nullopt;
  double bytes = 0;
  for (std::size_t i = 1; i < ids.size(); ++i) {
    if (static_cast<std::size_t>(ids[i]) >= loaded.tokenizer->vocab_size()) return std::nullopt;
    bytes += static_cast<double>(
        loaded.tokenizer->token_bytes(static_cast<text::TokenId>(ids[i])).size());
  }
  return bytes;
}

evaluate::Perplexity measure(const ScoreOptions& options, LoadedModel& loaded,
                             const std::vector<std::int32_t>& ids, std::int64_t stride) {
  StatusLine status(options.common, /*plain_lines=*/false);
  const Rate since;
  const auto progress = [&](std::int64_t done, std::int64_t all) {
    const double rate = since.of(static_cast<double>(done));
    status.update(
        fmt::format("score {}  {} of {} tokens, {} tokens/s, {} left",
                    progress_bar(static_cast<double>(done) / static_cast<double>(all)),
                    human_count(static_cast<double>(done)), human_count(static_cast<double>(all)),
                    human_count(rate), human_duration(static_cast<double>(all - done) / rate)),
        done == all);
  };
  try {
    return evaluate::perplexity(loaded.model, ids, stride, progress);
  } catch (const base::Error& error) {
    base::fail("{}: {}", name_of_input(options.input), error.what());
  }
}

void score_file(const ScoreOptions& options, LoadedModel& loaded) {
  const std::int64_t context = loaded.model.config().context;
  const std::int64_t stride = options.stride.value_or(std::max<std::int64_t>(context / 2, 1));
  if (stride > context) {
    base::fail("--stride: expected at most {} (the model's context), got {}", context, stride);
  }
  const std::string content = read_input(options.input);
  const std::vector<std::int32_t> ids =
      options.ids
          ? parse_ids(content, name_of_input(options.input))
          : encode_text(tokenizer_for_text(loaded, "use --ids with a file of token ids"), content);
  const evaluate::Perplexity result = measure(options, loaded, ids, stride);

  Json bits_per_byte;  // null without a tokenizer
  if (const std::optional<double> bytes = scored_bytes(loaded, ids)) {
    bits_per_byte = result.loss * static_cast<double>(result.tokens) / std::numbers::ln2 / *bytes;
  }
  const Json object = {{"tokens", ids.size()},
                       {"scored", result.tokens},
                       {"loss", result.loss},
                       {"perplexity", result.perplexity},
                       {"bits_per_byte", bits_per_byte},
                       {"stride", stride}};
  write_output(object.dump() + "\n");
}

void run_score(const ScoreOptions& options) {
  if (options.jsonl && options.stride)
    fail_usage("--stride: only for a whole file, not with --jsonl");
  LoadedModel loaded = load_for_inference(options.model, options.common);
  if (options.jsonl) {
    score_jsonl(options, loaded);
  } else {
    score_file(options, loaded);
  }
}

}  // namespace

void add_score(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("score", "Tell how likely a model finds a text");
  const auto options = std::make_shared<ScoreOptions>();
  add_model_options(command, options->model);
  command.add_option("FILE", options->input, "What to score; '-' is stdin")->capture_default_str();
  CLI::Option* jsonl = command.add_flag(
      "--jsonl", options->jsonl,
      "Score each line {\"text\": ...} or {\"ids\": [...]}: natural logarithms of every token's "
      "probability, and their mean as the loss");
  command.add_flag("--ids", options->ids, "The file holds token ids separated by spaces, not text")
      ->excludes(jsonl);
  command
      .add_option("--stride", options->stride,
                  "Tokens by which the window over a whole file moves (default: half the context)")
      ->check(CLI::PositiveNumber);
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_score(*options); });
}

}  // namespace cli
