// gpt2 generate: a model continues a prompt.
//
// stdout holds the samples and nothing else: each is the prompt and its continuation as text, or
// with
// --output-ids the new ids alone, and ends with a newline. Notes go to stderr.

#include "generate/generate.h"

#include <chrono>
#include <memory>
#include <random>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/model_input.h"
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
  std::optional<std::string> prompt, prompt_file, prompt_ids;
  std::vector<std::string> stops;
  std::optional<std::uint64_t> seed;
  std::int64_t samples = 1;
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

/// How fast it went, over all samples.
struct Speed {
  std::int64_t tokens = 0;
  double first_seconds = 0;  // until each sample's first token: mostly the prompt
  double rest_seconds = 0;
  std::int64_t rest_tokens = 0;
};

void report(const GenerateOptions& options, const Speed& speed, std::size_t prompt_tokens) {
  const double seconds = speed.first_seconds + speed.rest_seconds;
  std::string line = fmt::format("{} tokens in {:.2f} s", speed.tokens, seconds);
  if (speed.rest_tokens > 0) {
    line += fmt::format(", {:.1f} tokens/s after the first; ",
                        static_cast<double>(speed.rest_tokens) / speed.rest_seconds);
  } else {
    line += "; ";
  }
  line += fmt::format("prompt of {} tokens in {:.3f} s", prompt_tokens,
                      speed.first_seconds / static_cast<double>(options.samples));
  note(options.common, line);
}

std::unique_ptr<TokenWriter> make_writer(const GenerateOptions& options,
                                         const LoadedModel& loaded) {
  const Output output = [](std::string_view bytes) { write_output(bytes); };
  const text::Tokenizer* tokenizer = loaded.tokenizer ? &*loaded.tokenizer : nullptr;
  if (options.output_ids || tokenizer == nullptr) {
    return make_id_writer(tokenizer, options.stops, output);
  }
  return make_text_writer(*tokenizer, options.stops, output);
}

void make_sample(const GenerateOptions& options, LoadedModel& loaded, const Prompt& prompt,
                 const generate::Options& run, Speed& speed) {
  const auto writer = make_writer(options, loaded);
  if (prompt.shown) writer->prompt(prompt.ids);

  const Clock::time_point start = Clock::now();
  Clock::time_point first = start;
  std::int64_t made = 0;
  const generate::Stop stop = generate::run(loaded.model, prompt.ids, run, [&](std::int32_t id) {
    if (made++ == 0) first = Clock::now();
    return writer->push(id);
  });
  writer->finish();

  const double seconds = seconds_since(start);
  const double until_first =
      made == 0 ? seconds : std::chrono::duration<double>(first - start).count();
  speed.tokens += made;
  speed.first_seconds += until_first;
  speed.rest_seconds += seconds - until_first;
  speed.rest_tokens += std::max<std::int64_t>(made - 1, 0);
  if (stop == generate::Stop::kContextFull) {
    note(options.common,
         fmt::format("stopped at the end of the model's context ({} tokens); --slide "
                     "goes on with a sliding window",
                     loaded.model.config().context));
  }
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
  const Prompt prompt = make_prompt(options, loaded);
  generate::Options run = options.run;
  run.seed = options.seed ? *options.seed : std::random_device()();
  generate::check(loaded.model.config(), prompt.ids, run);  // before anything is printed
  if (!options.seed && run.sampling.temperature > 0) {
    note(options.common, fmt::format("seed {} (--seed {} repeats this)", run.seed, run.seed));
  }

  Speed speed;
  for (std::int64_t sample = 0; sample < options.samples; ++sample) {
    if (options.samples > 1) {
      note(options.common, fmt::format("sample {} of {}", sample + 1, options.samples));
    }
    run.stream = static_cast<std::uint64_t>(sample);
    make_sample(options, loaded, prompt, run, speed);
  }
  report(options, speed, prompt.ids.size());
}

void add_prompt_options(CLI::App& command, GenerateOptions& options) {
  CLI::Option* text = command.add_option("-p,--prompt", options.prompt,
                                         "Text to continue (default: start from <|endoftext|>)");
  CLI::Option* file = command.add_option("--prompt-file", options.prompt_file,
                                         "File to continue, every byte of it; '-' is stdin");
  CLI::Option* ids = command.add_option("--prompt-ids", options.prompt_ids,
                                        "Token ids to continue, separated by spaces");
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
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
  command.add_option("--num-samples", options->samples, "Samples to make, one after another")
      ->check(CLI::PositiveNumber)
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
