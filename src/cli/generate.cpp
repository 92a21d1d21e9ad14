// gpt2 generate: a model continues a prompt, or many.
//
// stdout holds the samples and nothing else: each is the prompt and its continuation as text, or
// with --output-ids the new ids alone, and ends with a newline; with --prompts a line of JSON for
// each. Notes go to stderr.

#include "generate/generate.h"

#include <chrono>
#include <memory>
#include <random>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/model_input.h"
#include "cli/prompts.h"
#include "cli/token_writer.h"

namespace cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct GenerateOptions {
  CommonOptions common;
  ModelOptions model;
  std::optional<std::string> prompt, prompt_file, prompt_ids, prompts;
  std::vector<std::string> stops;
  std::optional<std::uint64_t> seed;
  std::int64_t samples = 1;
  std::int64_t batch = 16;  // enough for most of what sharing the weights' pass gives
  bool output_ids = false;
  generate::Options run;
};

/// What needs no model to be seen wrong.
void check_usage(const GenerateOptions& options) {
  for (const std::string& stop : options.stops) {
    if (stop.empty()) fail_usage("--stop: expected a text, got an empty one");
  }
  try {
    generate::validate(options.run.sampling);
  } catch (const base::Error& error) {  // a value out of range is wrong usage
    fail_usage("--" + std::string(error.what()));
  }
  if (!options.prompt_ids) return;
  try {
    parse_ids(*options.prompt_ids, "--prompt-ids");
  } catch (const base::Error& error) {
    fail_usage(error.what());
  }
}

struct Prompt {
  std::vector<std::int32_t> ids;
  bool shown = true;  ///< false: the <|endoftext|> that stands in for no prompt
};

Prompt make_prompt(const GenerateOptions& options, const LoadedModel& loaded) {
  Prompt prompt;
  if (options.prompt_ids) {
    prompt.ids = parse_ids(*options.prompt_ids, "--prompt-ids");
  } else if (options.prompt || options.prompt_file) {
    const std::string bytes = options.prompt ? *options.prompt : read_input(*options.prompt_file);
    if (!loaded.tokenizer && !bytes.empty()) {
      base::fail(
          "model {}: a text prompt needs a tokenizer, and the folder has no vocab.json and "
          "merges.txt; use --prompt-ids",
          loaded.folder.string());
    }
    if (!bytes.empty()) prompt.ids = encode_text(*loaded.tokenizer, bytes);
  }
  if (!prompt.ids.empty()) return prompt;

  const std::optional<std::int32_t> begin = loaded.model.config().end_of_text;
  if (!begin) {
    base::fail(
        "model {}: there is no prompt, and no <|endoftext|> in the model to start from; give a "
        "prompt",
        loaded.folder.string());
  }
  return {{*begin}, false};
}

/// How fast it went, over all sequences.
class Speed {
 public:
  explicit Speed(const GenerateOptions& options) : options_(options) {}

  void count_token() {
    if (tokens_++ == 0) first_ = Clock::now();
  }
  std::int64_t tokens() const { return tokens_; }
  double seconds() const { return seconds_since(start_); }

  /// `sequences`: samples made. `prompt_tokens`: of the prompt, where there is only one.
  void report(const LoadedModel& loaded, std::size_t sequences, std::size_t prompt_tokens) const {
    const double all = seconds();
    std::string line = fmt::format("{} tokens in {:.2f} s", tokens_, all);
    if (sequences == 1 && tokens_ > 1) {
      const double prompt = std::chrono::duration<double>(first_ - start_).count();
      line += fmt::format(", {:.1f} tokens/s after the first; prompt of {} tokens in {:.3f} s",
                          static_cast<double>(tokens_ - 1) / (all - prompt), prompt_tokens, prompt);
    } else if (sequences > 1) {
      line += fmt::format(
          ", {:.1f} tokens/s: {} sequences, up to {} at a time", static_cast<double>(tokens_) / all,
          sequences, std::min<std::int64_t>(static_cast<std::int64_t>(sequences), options_.batch));
    }
    line += fmt::format("; {} weights loaded in {:.3f} s", loaded.precision, loaded.seconds);
    note(options_.common, line);
  }

 private:
  const GenerateOptions& options_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point first_ = start_;
  std::int64_t tokens_ = 0;
};

// ---- samples of one prompt: text, streamed ----------------------------------------------------

/// Samples on their way to stdout, one after another: the first that has not ended is shown as it
/// grows, those after it wait.
class SampleOutput {
 public:
  SampleOutput(const GenerateOptions& options, const LoadedModel& loaded, const Prompt& prompt)
      : options_(options),
        loaded_(loaded),
        prompt_(prompt),
        samples_(static_cast<std::size_t>(options.samples)) {
    announce();
  }

  bool push(std::size_t index, std::int32_t id) { return writer(index).push(id); }

  /// Ends come in order.
  void end(generate::Stop stop) {
    writer(shown_).finish();
    samples_[shown_].writer.reset();
    if (stop == generate::Stop::kContextFull) {
      note(options_.common,
           fmt::format("stopped at the end of the model's context ({} tokens); --slide "
                       "goes on with a sliding window",
                       loaded_.model.config().context));
    }
    if (++shown_ == samples_.size()) return;
    announce();
    write_output(std::exchange(samples_[shown_].held, {}));
  }

 private:
  struct Sample {
    std::unique_ptr<TokenWriter> writer;  // from its first token to its end
    std::string held;
  };

  void announce() const {
    if (samples_.size() == 1) return;
    note(options_.common, fmt::format("sample {} of {}", shown_ + 1, samples_.size()));
  }

  TokenWriter& writer(std::size_t index) {
    std::unique_ptr<TokenWriter>& writer = samples_[index].writer;
    if (writer) return *writer;
    const Output output = [this, index](std::string_view bytes) {
      if (index == shown_) return write_output(bytes);
      samples_[index].held += bytes;
    };
    const text::Tokenizer* tokenizer = loaded_.tokenizer ? &*loaded_.tokenizer : nullptr;
    writer = options_.output_ids || tokenizer == nullptr
                 ? make_id_writer(tokenizer, options_.stops, output)
                 : make_text_writer(*tokenizer, options_.stops, output);
    if (prompt_.shown) writer->prompt(prompt_.ids);
    return *writer;
  }

  const GenerateOptions& options_;
  const LoadedModel& loaded_;
  const Prompt& prompt_;
  std::vector<Sample> samples_;
  std::size_t shown_ = 0;
};

void make_samples(const GenerateOptions& options, LoadedModel& loaded,
                  const generate::Options& run) {
  const Prompt prompt = make_prompt(options, loaded);
  generate::check(loaded.model.config(), prompt.ids, run);  // before anything is printed
  std::vector<generate::Request> requests(static_cast<std::size_t>(options.samples),
                                          {prompt.ids, run});
  for (std::size_t i = 0; i < requests.size(); ++i) requests[i].options.stream = i;

  SampleOutput output(options, loaded, prompt);
  Speed speed(options);
  generate::run_batch(
      loaded.model, requests, options.batch,
      [&](std::size_t index, std::int32_t id) {
        speed.count_token();
        return output.push(index, id);
      },
      [&](std::size_t, generate::Stop stop) { output.end(stop); });
  speed.report(loaded, requests.size(), prompt.ids.size());
}

// ---- many prompts: a line of JSON each --------------------------------------------------------

std::string_view reason_of(generate::Stop stop) {
  switch (stop) {
    case generate::Stop::kMaxTokens:
      return "length";
    case generate::Stop::kEndOfText:
      return "eos";
    case generate::Stop::kContextFull:
      return "context";
    case generate::Stop::kCallback:
      return "stop";
  }
  return "";
}

/// {"index": 0, "id": ..., "sample": 0, "prompt": ..., "text": ..., "ids": [...],
/// "finish_reason": ...}: "id" where the line has one, "sample" where there are several.
std::string answer(const GenerateOptions& options, const LoadedModel& loaded,
                   const std::vector<PromptLine>& lines, std::size_t request,
                   const Continuation& continuation, generate::Stop stop) {
  const auto samples = static_cast<std::size_t>(options.samples);
  const PromptLine& line = lines[request / samples];
  nlohmann::ordered_json object = {{"index", request / samples}};
  if (line.id) object["id"] = *line.id;
  if (samples > 1) object["sample"] = request % samples;
  object.update(line.prompt);
  if (loaded.tokenizer && !options.output_ids) {
    object["text"] = replace_invalid_utf8(continuation.bytes());
  }
  object["ids"] = continuation.ids();
  object["finish_reason"] = reason_of(stop);
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void answer_prompts(const GenerateOptions& options, LoadedModel& loaded,
                    const generate::Options& run) {
  const std::vector<PromptLine> lines =
      read_prompts(*options.prompts, loaded, {run, options.stops});
  const text::Tokenizer* tokenizer =
      loaded.tokenizer && !options.output_ids ? &*loaded.tokenizer : nullptr;
  std::vector<generate::Request> requests;
  std::vector<Continuation> continuations;
  for (const PromptLine& line : lines) {
    const text::Tokenizer* own =
        tokenizer == nullptr && !line.stops.empty() ? &*loaded.tokenizer : tokenizer;
    for (std::int64_t sample = 0; sample < options.samples; ++sample) {
      requests.push_back(line.request);
      requests.back().options.stream = static_cast<std::uint64_t>(sample);
      continuations.emplace_back(own, line.stops);
    }
  }
  StatusLine status(options.common, /*plain_lines=*/false);
  Speed speed(options);
  std::size_t done = 0;
  const auto show = [&](bool force) {
    status.update(
        fmt::format("generate {}  {} of {} sequences, {:.1f} tokens/s",
                    progress_bar(static_cast<double>(done) / static_cast<double>(requests.size())),
                    done, requests.size(), static_cast<double>(speed.tokens()) / speed.seconds()),
        force);
  };
  generate::run_batch(
      loaded.model, requests, options.batch,
      [&](std::size_t index, std::int32_t id) {
        speed.count_token();
        show(false);
        return continuations[index].push(id);
      },
      [&](std::size_t index, generate::Stop stop) {
        Continuation& ended = continuations[index];
        ended.finish();
        write_output(answer(options, loaded, lines, index, ended, stop));
        ended = Continuation(nullptr, {});  // its memory is no longer needed
        show(++done == requests.size());
      });
  status.finish();
  speed.report(loaded, requests.size(), lines.empty() ? 0 : requests.front().prompt.size());
}

void run_generate(const GenerateOptions& options) {
  check_usage(options);
  LoadedModel loaded = load_for_inference(options.model, options.common);
  if (!loaded.tokenizer) {
    if (!options.stops.empty()) {
      base::fail(
          "model {}: --stop needs a tokenizer, and the folder has no vocab.json and merges.txt",
          loaded.folder.string());
    }
    if (!options.output_ids) {
      note(options.common, "the model directory has no tokenizer files: printing ids");
    }
  }
  generate::Options run = options.run;
  run.seed = options.seed ? *options.seed : std::random_device()();
  if (!options.seed && run.sampling.temperature > 0) {
    note(options.common, fmt::format("seed {} (--seed {} repeats this)", run.seed, run.seed));
  }
  if (options.prompts) {
    answer_prompts(options, loaded, run);
  } else {
    make_samples(options, loaded, run);
  }
}

void add_prompt_options(CLI::App& command, GenerateOptions& options) {
  CLI::Option* text = command.add_option("-p,--prompt", options.prompt,
                                         "Text to continue (default: start from <|endoftext|>)");
  CLI::Option* file = command.add_option("--prompt-file", options.prompt_file,
                                         "File to continue, every byte of it; '-' is stdin");
  CLI::Option* ids = command.add_option("--prompt-ids", options.prompt_ids,
                                        "Token ids to continue, separated by spaces");
  CLI::Option* lines =
      command.add_option("--prompts", options.prompts,
                         "File of lines {\"prompt\": ...} or {\"prompt_ids\": [...]}, continued "
                         "together; '-' is stdin. "
                         "Each is answered by a line of JSON, in the file's order");
  text->excludes(file)->excludes(ids)->excludes(lines);
  file->excludes(ids)->excludes(lines);
  ids->excludes(lines);
}

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  generate::Sampling& sampling = options.run.sampling;
  command
      .add_option("--temperature", sampling.temperature,
                  "Below 1 safer, above 1 wilder; 0: always the most likely token")
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "Choose among the K most likely tokens; 0: all")
      ->capture_default_str();
  command
      .add_option("--top-p", sampling.top_p,
                  "Then among the fewest tokens that together have this probability")
      ->capture_default_str();
  command
      .add_option("--min-p", sampling.min_p,
                  "Then among tokens with at least this part of the best one's probability")
      ->capture_default_str();
  command
      .add_option("--seed", options.seed,
                  "Repeat a generation exactly (default: another one each time)")
      ->check(CLI::NonNegativeNumber);  // CLI11 would wrap a negative one around
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("generate", "Write text with a model");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_options(command, options->model);
  add_prompt_options(command, *options);
  command.add_option("-n,--max-tokens", options->run.max_tokens, "New tokens to make at most")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_sampling_options(command, *options);
  command.add_option("--stop", options->stops, "End before this text; may be given several times")
      ->allow_extra_args(false);
  command.add_option("--num-samples", options->samples, "Samples to make of each prompt")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--batch", options->batch,
                  "Sequences to make at a time: they share each pass over the weights")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command.add_flag("--ignore-eos", options->run.ignore_end_of_text,
                   "Go on after <|endoftext|> instead of ending there");
  command.add_flag("--slide", options->run.slide,
                   "Go on past the model's context with a sliding window (slower)");
  command.add_flag("--output-ids", options->output_ids,
                   "Print the new token ids, separated by spaces, instead of text");
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_generate(*options); });
}

}  // namespace cli
