#pragma once
/// Tasks that train evaluates as it goes. Private to the room.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/eval_tasks.h"
#include "text/text.h"
#include "train/train.h"

namespace cli {

/// Adds --eval-task, whose words go to `words`, --eval-every and --eval-limit.
void add_task_options(CLI::App& command, std::vector<std::string>& words, train::Options& options);

/// The same words with absolute paths, as a run keeps them. Ends with wrong usage as choose_tasks()
/// does, and for stdin.
std::vector<std::string> absolute_task_words(const std::vector<std::string>& words);

/// Opens the tasks of a run, or none where it has none to evaluate, and says what has to be said.
/// Examples longer than the run's context lose their beginnings. Throws Error where there is no
/// tokenizer, and for a file that is not a task's.
std::vector<OpenTask> open_run_tasks(const CommonOptions& common, const train::Trainer& trainer,
                                     const std::optional<text::Tokenizer>& tokenizer);

/// Runs them; what a log keeps of their figures (all but the standard errors).
train::Evaluations run_tasks(std::span<const OpenTask> tasks, model::Gpt2& model);

/// "hellaswag acc 0.2500, acc_norm 0.2700; perplexity loss 3.1000": for a person.
std::string evaluations_line(const train::Evaluations& evaluations);

}  // namespace cli
