// Tasks of eval and train: words of the command line into tasks, results into a line.

#include "cli/eval_tasks.h"

#include <algorithm>

#include "cli/cli.h"

namespace cli {
namespace {

/// Where a name comes twice, its file's name is put behind each.
void tell_apart(const std::string& flag, std::vector<TaskChoice>& choices) {
  std::vector<std::string> names;
  for (const TaskChoice& choice : choices) names.push_back(choice.name);
  for (TaskChoice& choice : choices) {
    if (std::ranges::count(names, choice.name) > 1) {
      choice.name += ":" + base::Path(choice.file).stem().string();
    }
  }
  for (std::size_t i = 0; i < choices.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (choices[i].name == choices[k].name) {
        fail_usage(
            fmt::format("{} {}: given twice; results are told apart by the task and the name of "
                        "its file",
                        flag, choices[i].name));
      }
    }
  }
}

}  // namespace

std::string known_tasks() {
  std::string names;
  for (const auto& [name, kind] : evaluate::task_names()) {
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

std::vector<TaskChoice> choose_tasks(const std::string& flag, std::span<const std::string> words,
                                     std::span<const std::string> files) {
  std::vector<TaskChoice> choices;
  std::size_t next = 0;  // of files
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto known = evaluate::task_names().find(name);
    if (known == evaluate::task_names().end()) {
      fail_usage(fmt::format("{}: expected one of {}, got '{}'", flag, known_tasks(), name));
    }
    std::string file = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (equals == std::string::npos && next < files.size()) file = files[next++];
    if (file.empty()) {
      fail_usage(fmt::format("{} {}: its file is missing, expected {}=FILE", flag, name, name));
    }
    choices.push_back({name, known->second, std::move(file)});
  }
  if (next < files.size()) {
    fail_usage(fmt::format("--file {}: no task is left for it", files[next]));
  }
  if (std::ranges::count(choices, "-", &TaskChoice::file) > 1) {
    fail_usage("the standard input can only be one task's file");
  }
  tell_apart(flag, choices);
  return choices;
}

std::vector<OpenTask> open_tasks(std::span<const TaskChoice> choices,
                                 const text::Tokenizer& tokenizer, const model::Config& config,
                                 const evaluate::TaskOptions& options) {
  std::vector<OpenTask> tasks;
  for (const TaskChoice& choice : choices) {
    evaluate::TaskOptions own = options;
    if (choice.kind != evaluate::TaskKind::kPerplexity) own.stride.reset();
    const std::string origin = choice.file == "-" ? "stdin" : choice.file;
    tasks.push_back({choice, evaluate::open_task(choice.kind, origin, read_input(choice.file),
                                                 tokenizer, config, own)});
  }
  return tasks;
}

std::string figures_line(const evaluate::TaskResult& result) {
  constexpr std::string_view kError = "_stderr";
  std::string line;
  for (const auto& [name, value] : result.figures) {
    line += name.ends_with(kError)
                ? fmt::format(" +- {:.4f}", value)
                : fmt::format("{}{} {:.4f}", line.empty() ? "" : ", ", name, value);
  }
  return line;
}

}  // namespace cli
