#pragma once
/// How likely a text is: log-probabilities, perplexity, and the figures of published tasks.
///
/// Law: token ids or a task's file in, numbers out.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/model.h"
#include "text/text.h"

namespace evaluate {

/// Natural log-probability of each id given those before it; entry i belongs to ids[i + 1], so
/// there are ids.size() - 1 of them. ids.size() <= context + 1; throws Error with both numbers
/// otherwise, and for an id outside the vocabulary (naming its position).
std::vector<double> log_probabilities(model::Gpt2& model, std::span<const std::int32_t> ids);

/// The same for many sequences, those of similar length evaluated together; entry i of the result
/// belongs to sequences[i] and does not depend on the others. Errors do not say which one is wrong:
/// call check() on each before.
std::vector<std::vector<double>> log_probabilities_each(
    model::Gpt2& model, std::span<const std::vector<std::int32_t>> sequences);

/// Throws the Error that log_probabilities() would throw for `ids`.
void check(const model::Config& config, std::span<const std::int32_t> ids);

/// Loss over a long text.
struct Perplexity {
  std::int64_t tokens = 0;  ///< scored ones: all but the first
  double loss = 0;          ///< mean negative log-probability, nats
  double perplexity = 0;    ///< exp(loss)
};

/// Strided window: windows of up to `context` inputs that advance by `stride`; in each only the
/// tokens not scored before count, so every token but the first is scored once, with at least
/// context - stride tokens of history where the text has them.
/// Source: Hugging Face, "Perplexity of fixed-length models" (the procedure).
/// A window of `context` inputs predicts `context` ids, so unlike there nothing is left unscored at
/// a border when stride equals context.
/// `progress` gets (scored, to score) now and then; may be empty.
/// Throws Error unless 1 <= stride <= context, for fewer than two ids, and for an id outside the
/// vocabulary (naming its position).
Perplexity perplexity(model::Gpt2& model, std::span<const std::int32_t> ids, std::int64_t stride,
                      const std::function<void(std::int64_t, std::int64_t)>& progress);

// ---- tasks ------------------------------------------------------------------------------------

/// What a model can be tried on. Prompts, figures and their normalisation are those of EleutherAI's
/// lm-evaluation-harness (lm-eval 0.4.13) without examples in the prompt.
enum class TaskKind : std::uint8_t {
  kPerplexity,  ///< any text; its rolling log-likelihood, as for wikitext
  kHellaSwag,   ///< Zellers et al. 2019 (arXiv:1905.07830): which of four endings
  kLambada,     ///< Paperno et al. 2016 (arXiv:1606.06031): the last word; lambada_openai
};
/// "perplexity", "hellaswag", "lambada".
const std::map<std::string, TaskKind>& task_names();

struct TaskOptions {
  /// Take the first so many examples only (of a text that is no JSONL: windows).
  std::optional<std::int64_t> limit;
  std::optional<std::int64_t> context;  ///< longest sequence (default, and at most: the model's)
  std::optional<std::int64_t> stride;   ///< perplexity: of its window (default: the context)
  std::optional<std::int64_t> batch;    ///< examples computed together
  std::int64_t rows = 4096;             ///< without `batch`: tokens computed together, about
  /// Leave out the beginning of an example that is longer than the context, as lm-eval does; else
  /// it is an error.
  bool truncate = false;
};

/// What a task came to.
struct TaskResult {
  std::int64_t examples = 0;   ///< perplexity: documents
  std::int64_t truncated = 0;  ///< examples of which the beginning was left out
  /// By name, in the order to print them. hellaswag: acc, acc_norm; lambada: acc, perplexity; each
  /// with its standard error NAME_stderr behind it, NaN for a single example. perplexity: loss
  /// (nats a token), perplexity, word_perplexity, byte_perplexity, bits_per_byte.
  std::vector<std::pair<std::string, double>> figures;
  /// Counts that belong to the figures, by name: perplexity's tokens, words and bytes.
  std::vector<std::pair<std::string, std::int64_t>> counts;
  std::int64_t tokens = 0;    ///< that a pass over each sequence by itself would compute
  std::int64_t computed = 0;  ///< that were computed: shared beginnings once, padding included
};

/// A task's examples as a model's token ids, ready to be run as often as wanted.
class Task {
 public:
  virtual ~Task() = default;
  virtual std::int64_t examples() const = 0;
  /// Examples longer than the context, of which the beginning is left out.
  virtual std::int64_t truncated() const = 0;
  /// `model` has the Config that the task was opened for. `progress` gets (done, all) in examples,
  /// of a text in tokens, now and then; may be empty. Neither batches nor threads change a result
  /// beyond rounding.
  virtual TaskResult run(model::Gpt2& model,
                         const std::function<void(std::int64_t, std::int64_t)>& progress) const = 0;
};

/// Reads, checks and encodes a task's file. `content` is what stands in it, `origin` its name.
///   kPerplexity  one text, or where `origin` ends in ".jsonl" one a line: {"text": ...}
///   kHellaSwag   lines {"activity_label", "ctx_a", "ctx_b", "endings", "label"}, as published
///                (other keys are skipped; "ctx", already put together, where "ctx_a" is absent)
///   kLambada     lines {"text": ...}
/// Throws Error naming the file, and the line, for a line that is broken, lacks a key or has one of
/// a wrong type, a label without its ending, a sequence longer than the context or ids outside
/// the vocabulary, for a file without examples, and for options that do not fit the model.
std::unique_ptr<Task> open_task(TaskKind kind, const std::string& origin, std::string_view content,
                                const text::Tokenizer& tokenizer, const model::Config& config,
                                const TaskOptions& options);

}  // namespace evaluate
