#pragma once
/// Tasks as eval and train take them from the command line. Private to the room.

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "evaluate/evaluate.h"

namespace cli {

/// A task and its file, before anything is read.
struct TaskChoice {
  std::string name;  ///< as results have it: "hellaswag"; "perplexity:wiki" where it comes twice
  evaluate::TaskKind kind;
  std::string file;  ///< '-' is stdin
};

/// Choices from `words`: NAME=FILE each, or NAME, to which `files` belong in their order. `flag`
/// names the words' option in messages. Ends with wrong usage for an unknown name, a file too few
/// or too many, stdin given twice, and for the same task twice with files of the same name.
std::vector<TaskChoice> choose_tasks(const std::string& flag, std::span<const std::string> words,
                                     std::span<const std::string> files);

/// "hellaswag, lambada, perplexity".
std::string known_tasks();

/// A task that is ready to run.
struct OpenTask {
  TaskChoice choice;
  std::unique_ptr<evaluate::Task> task;
};
/// Reads the files of all and opens them for a model.
std::vector<OpenTask> open_tasks(std::span<const TaskChoice> choices,
                                 const text::Tokenizer& tokenizer, const model::Config& config,
                                 const evaluate::TaskOptions& options);

/// "acc 0.2500 +- 0.0433, acc_norm 0.2700 +- 0.0446": the figures for a person.
std::string figures_line(const evaluate::TaskResult& result);

}  // namespace cli
