#pragma once
/// What every task is made from: lines of JSON, pairs of context and continuation as ids.
/// Private to the room.

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/evaluate.h"

namespace evaluate {

using Ids = std::vector<std::int32_t>;

/// A text and what follows it, encoded together and cut where the text ends.
struct Pair {
  Ids context;       ///< never empty
  Ids continuation;  ///< never empty
};

/// A task's file, and what its texts are encoded for.
class TaskSource {
 public:
  /// All must outlive it. Throws Error for options that do not fit the model.
  TaskSource(const std::string& origin, std::string_view content, const text::Tokenizer& tokenizer,
             const model::Config& config, const TaskOptions& options);

  const std::string& origin() const { return origin_; }
  std::string_view content() const { return content_; }
  const TaskOptions& options() const { return options_; }
  std::int64_t context() const { return context_; }  ///< longest sequence of inputs
  const text::Tokenizer& tokenizer() const { return tokenizer_; }

  /// Calls `line` for the object of each line that is not blank, at most options.limit times. An
  /// Error that it throws, or that the line deserves, gets "file:line: " in front. Throws Error for
  /// a file without lines.
  void for_each_object(const std::function<void(const nlohmann::json&)>& line) const;

  /// Ids of a text; special tokens in it stay text. Throws Error for one outside the model's
  /// vocabulary.
  Ids encode(std::string_view text);
  /// What a text without a context is predicted from: the tokenizer's <|endoftext|>, else the
  /// model's. Throws Error where neither has one.
  std::int32_t prefix() const;
  /// Encodes both together; white space at the context's end goes to the continuation, as lm-eval
  /// does it, and an empty context becomes <|endoftext|>. Throws Error for nothing to predict.
  Pair encode_pair(std::string_view context, std::string_view continuation);
  /// Ids that are too many at the beginning of `context` for it and `continuation` (all but its
  /// last are inputs). Throws Error when that is an error by the options, or when the continuation
  /// is too long by itself.
  std::size_t excess(const Pair& pair) const;

 private:
  const std::string& origin_;
  std::string_view content_;
  const text::Tokenizer& tokenizer_;
  const model::Config& config_;
  TaskOptions options_;
  std::int64_t context_;
  text::Encoder encoder_;
  std::vector<text::TokenId> buffer_;
};

/// The string under `key`. Throws Error when it is missing or something else.
const std::string& string_of(const nlohmann::json& object, const char* key);

/// Mean and its standard error, the sample's deviation over the root of n (NaN for one value).
struct Mean {
  double mean = 0;
  double error = 0;
};
Mean mean_of(std::span<const double> values);

// What open_task() makes.
std::unique_ptr<Task> make_perplexity(TaskSource& source);
std::unique_ptr<Task> make_hellaswag(TaskSource& source);
std::unique_ptr<Task> make_lambada(TaskSource& source);

}  // namespace evaluate
