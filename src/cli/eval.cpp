// gpt2 eval: a model's figures on published tasks, one JSON object a task.

#include <memory>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/eval_tasks.h"
#include "cli/model_input.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

struct EvalOptions {
  CommonOptions common;
  ModelOptions model;
  std::vector<std::string> tasks, files;
  evaluate::TaskOptions options;
};

evaluate::TaskResult run_with_progress(const CommonOptions& common, const OpenTask& task,
                                       model::Gpt2& model) {
  StatusLine status(common, /*plain_lines=*/false);
  const double begun = base::seconds(base::Clock::kWall);
  return task.task->run(model, [&](std::int64_t done, std::int64_t all) {
    const double share = static_cast<double>(done) / static_cast<double>(all);
    status.update(
        fmt::format(
            "{}  {}  {} of {}, {} left", task.choice.name, progress_bar(share),
            human_count(static_cast<double>(done)), human_count(static_cast<double>(all)),
            human_duration((base::seconds(base::Clock::kWall) - begun) * (1 - share) / share)),
        done == all);
  });
}

/// The result of a task as docs/formats.md has it; what is not finite becomes null.
Json result_json(const EvalOptions& options, const LoadedModel& loaded, const OpenTask& task,
                 const evaluate::TaskResult& result, double seconds) {
  Json json = {{"task", task.choice.name}, {"file", task.choice.file}, {"n", result.examples}};
  for (const auto& [name, value] : result.figures) json[name] = value;
  for (const auto& [name, value] : result.counts) json[name] = value;
  const std::int64_t context = options.options.context.value_or(loaded.model.config().context);
  json["context"] = context;
  if (task.choice.kind == evaluate::TaskKind::kPerplexity) {
    json["stride"] = options.options.stride.value_or(context);
  } else {
    json["truncated"] = result.truncated;
  }
  json["precision"] = loaded.precision;
  json["tokens"] = result.tokens;
  json["computed_tokens"] = result.computed;
  json["seconds"] = seconds;
  json["tokens_per_second"] = static_cast<double>(result.computed) / seconds;
  return json;
}

void run_eval(const EvalOptions& options) {
  const std::vector<TaskChoice> choices = choose_tasks("--task", options.tasks, options.files);
  for (const TaskChoice& choice : choices) {  // before a large model is read
    if (choice.file != "-" && !std::filesystem::exists(choice.file)) {
      base::fail("cannot open {}: no such file", choice.file);
    }
  }
  LoadedModel loaded = load_for_inference(options.model, options.common);
  if (!loaded.tokenizer) {
    base::fail(
        "model {}: a task's text needs a tokenizer, and the folder has no vocab.json and "
        "merges.txt",
        loaded.folder.string());
  }
  const std::vector<OpenTask> tasks =
      open_tasks(choices, *loaded.tokenizer, loaded.model.config(), options.options);
  for (const OpenTask& task : tasks) {
    if (task.task->truncated() > 0) {
      note(options.common,
           fmt::format("{}: {} of {} examples are longer than the context: their "
                       "beginnings are left out",
                       task.choice.name, task.task->truncated(), task.task->examples()));
    }
    const double begun = base::seconds(base::Clock::kWall);
    const evaluate::TaskResult result = run_with_progress(options.common, task, loaded.model);
    const double seconds = std::max(base::seconds(base::Clock::kWall) - begun, 1e-9);
    write_output(result_json(options, loaded, task, result, seconds)
                     .dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) +
                 "\n");
    if (terminal()) {
      note(options.common, fmt::format("{}: {}", task.choice.name, figures_line(result)));
    }
  }
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "eval", "Try a model on perplexity, HellaSwag or LAMBADA, with lm-eval's figures");
  const auto options = std::make_shared<EvalOptions>();
  evaluate::TaskOptions& o = options->options;
  add_model_options(command, options->model);
  command
      .add_option("-t,--task", options->tasks,
                  fmt::format("{}; with its file as NAME=FILE, or by --file; may be repeated",
                              known_tasks()))
      ->required()
      ->allow_extra_args(false);
  command
      .add_option("-f,--file", options->files,
                  "File of a task (of each --task without one, in their order); '-' is stdin. "
                  "perplexity: a text, or .jsonl with {\"text\": ...} lines; the others: JSONL as "
                  "published")
      ->allow_extra_args(false);
  const CLI::Range from_one(std::int64_t{1}, INT64_MAX, "POSITIVE");
  command.add_option("--limit", o.limit, "First so many examples only (of a text: windows)")
      ->check(from_one);
  command.add_option("--context", o.context, "Longest sequence (default: the model's)")
      ->check(from_one);
  command
      .add_option("--stride", o.stride,
                  "perplexity: tokens by which the window moves (default: the context)")
      ->check(from_one);
  command
      .add_option("--batch", o.batch,
                  "Examples, or windows, computed together (default: some 4096 tokens)")
      ->check(from_one);
  command.add_flag("--truncate", o.truncate,
                   "Leave out the beginning of an example longer than the context, as lm-eval does "
                   "(default: an error)");
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_eval(*options); });
}

}  // namespace cli
