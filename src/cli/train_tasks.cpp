// Tasks that train evaluates as it goes: options, opening, what is logged and said of them.

#include "cli/train_tasks.h"

#include <algorithm>

#include "base/error.h"

namespace cli {
namespace {

constexpr const char* kFlag = "--eval-task";

}  // namespace

void add_task_options(CLI::App& command, std::vector<std::string>& words, train::Options& options) {
  command
      .add_option(kFlag, words,
                  fmt::format("NAME=FILE: evaluate a task as training goes on ({}; see 'gpt2 "
                              "eval'); may be repeated",
                              known_tasks()))
      ->allow_extra_args(false);
  const CLI::Range from_zero(std::int64_t{0}, INT64_MAX, "NONNEGATIVE");
  const CLI::Range from_one(std::int64_t{1}, INT64_MAX, "POSITIVE");
  command.add_option("--eval-every", options.evaluate_every, "Steps between evaluations; 0: never")
      ->check(from_zero);
  command.add_option("--eval-limit", options.eval_limit, "First so many examples of a task only")
      ->check(from_one);
}

std::vector<std::string> absolute_task_words(const std::vector<std::string>& words) {
  const std::vector<TaskChoice> choices = choose_tasks(kFlag, words, {});
  std::vector<std::string> result;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (choices[i].file == "-") {
      fail_usage(fmt::format("{} {}: expected a file, which can be read again", kFlag, words[i]));
    }
    result.push_back(words[i].substr(0, words[i].find('=') + 1) +
                     std::filesystem::absolute(choices[i].file).lexically_normal().string());
  }
  return result;
}

std::vector<OpenTask> open_run_tasks(const CommonOptions& common, const train::Trainer& trainer,
                                     const std::optional<text::Tokenizer>& tokenizer) {
  const train::Options& o = trainer.options();
  const train::Plan& plan = trainer.plan();
  if (!o.eval_tasks || plan.evaluate_every == 0) return {};
  if (!tokenizer) {
    base::fail(
        "{}: a task's text needs a tokenizer, and neither the data nor --init has vocab.json and "
        "merges.txt",
        kFlag);
  }
  evaluate::TaskOptions options;
  options.limit = o.eval_limit;
  options.truncate = true;
  options.rows = std::min(options.rows, plan.micro_batch * plan.length);  // as validation
  const std::vector<TaskChoice> choices = choose_tasks(kFlag, *o.eval_tasks, {});
  std::vector<OpenTask> tasks = open_tasks(choices, *tokenizer, plan.config, options);
  std::string line;
  for (const OpenTask& task : tasks) {
    line += fmt::format("{}{} ({} examples", line.empty() ? "" : ", ", task.choice.name,
                        task.task->examples());
    if (task.task->truncated() > 0) {
      line += fmt::format(", of which {} are longer than the context and lose their beginnings",
                          task.task->truncated());
    }
    line += ")";
  }
  note(common, fmt::format("tasks    every {} steps: {}", plan.evaluate_every, line));
  return tasks;
}

train::Evaluations run_tasks(std::span<const OpenTask> tasks, model::Gpt2& model) {
  train::Evaluations evaluations;
  for (const OpenTask& task : tasks) {
    const evaluate::TaskResult result = task.task->run(model, {});
    for (const auto& [name, value] : result.figures) {
      if (!name.ends_with("_stderr")) evaluations[task.choice.name][name] = value;
    }
  }
  return evaluations;
}

std::string evaluations_line(const train::Evaluations& evaluations) {
  std::string line;
  for (const auto& [task, figures] : evaluations) {
    line += (line.empty() ? "" : "; ") + task;
    const char* between = " ";
    for (const auto& [name, value] : figures) {
      line += fmt::format("{}{} {:.4f}", std::exchange(between, ", "), name, value);
    }
  }
  return line;
}

}  // namespace cli
