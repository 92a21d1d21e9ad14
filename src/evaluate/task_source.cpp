// A task's file: its lines, its pairs of texts, the options that belong to all tasks.

#include "evaluate/task_source.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "evaluate/words.h"

namespace evaluate {

TaskSource::TaskSource(const std::string& origin, std::string_view content,
                       const text::Tokenizer& tokenizer, const model::Config& config,
                       const TaskOptions& options)
    : origin_(origin),
      content_(content),
      tokenizer_(tokenizer),
      config_(config),
      options_(options),
      context_(options.context.value_or(config.context)),
      encoder_(tokenizer) {
  if (context_ < 1 || context_ > config.context) {
    base::fail("context: expected 1 to {} (the model's), got {}", config.context, context_);
  }
  if (options.limit && *options.limit < 1) {
    base::fail("limit: expected 1 or more, got {}", *options.limit);
  }
  if (options.batch.value_or(options.rows) < 1) {
    base::fail("batch: expected 1 or more, got {}", options.batch.value_or(options.rows));
  }
}

void TaskSource::for_each_object(const std::function<void(const nlohmann::json&)>& line) const {
  std::int64_t number = 0, objects = 0;
  for (std::string_view rest = content_; !rest.empty();) {
    const std::string_view text = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    ++number;
    if (strip(text).empty()) continue;
    if (objects == options_.limit) return;
    ++objects;
    try {
      const auto object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
      if (!object.is_object()) {
        base::fail("expected a JSON object, got {}",
                   object.is_discarded() ? "broken JSON" : object.type_name());
      }
      line(object);
    } catch (const base::Error& error) {
      base::fail("{}:{}: {}", origin_, number, error.what());
    }
  }
  if (objects == 0) base::fail("{}: expected lines of JSON, got an empty file", origin_);
}

Ids TaskSource::encode(std::string_view text) {
  buffer_.clear();
  encoder_.encode(text, buffer_);
  for (const text::TokenId id : buffer_) {
    if (id >= config_.vocab_size) {
      base::fail(
          "the tokenizer gives id {}, but the model's vocabulary has {} entries; use the "
          "tokenizer that it was trained with",
          id, config_.vocab_size);
    }
  }
  return {buffer_.begin(), buffer_.end()};
}

std::int32_t TaskSource::prefix() const {
  if (const auto id = tokenizer_.end_of_text(); id && *id < config_.vocab_size) return *id;
  if (!config_.end_of_text) {
    base::fail("the first token is predicted from <|endoftext|>, which this model does not have");
  }
  return *config_.end_of_text;
}

Pair TaskSource::encode_pair(std::string_view context, std::string_view continuation) {
  const std::string_view before = without_trailing_space(context);
  const std::string whole = std::string(context).append(continuation);
  Pair pair{encode(before), {}};
  const Ids all = encode(whole);
  if (all.size() <= pair.context.size())
    base::fail("there is nothing to predict after the context");
  pair.continuation.assign(all.begin() + static_cast<std::ptrdiff_t>(pair.context.size()),
                           all.end());
  if (pair.context.empty()) pair.context.push_back(prefix());
  return pair;
}

std::size_t TaskSource::excess(const Pair& pair) const {
  const auto context = static_cast<std::size_t>(context_);
  const std::size_t tokens = pair.context.size() + pair.continuation.size();
  if (pair.continuation.size() > context) {
    base::fail("what is to be predicted has {} tokens, more than the context of {}",
               pair.continuation.size(), context);
  }
  if (tokens <= context + 1) return 0;
  if (!options_.truncate) {
    base::fail(
        "expected at most {} tokens (the context and one), got {}; use --truncate to leave out "
        "the beginnings of such examples",
        context + 1, tokens);
  }
  return tokens - (context + 1);
}

const std::string& string_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) base::fail("the key \"{}\" is missing", key);
  if (!found->is_string()) {
    base::fail("\"{}\": expected a string, got {}", key, found->type_name());
  }
  return found->get_ref<const std::string&>();
}

Mean mean_of(std::span<const double> values) {
  const auto count = static_cast<double>(values.size());
  Mean result;
  for (const double value : values) result.mean += value;
  result.mean /= count;
  if (values.size() < 2) {
    result.error = std::numeric_limits<double>::quiet_NaN();
    return result;
  }
  double squares = 0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  result.error = std::sqrt(squares / (count - 1) / count);
  return result;
}

const std::map<std::string, TaskKind>& task_names() {
  static const std::map<std::string, TaskKind> names = {{"perplexity", TaskKind::kPerplexity},
                                                        {"hellaswag", TaskKind::kHellaSwag},
                                                        {"lambada", TaskKind::kLambada}};
  return names;
}

std::unique_ptr<Task> open_task(TaskKind kind, const std::string& origin, std::string_view content,
                                const text::Tokenizer& tokenizer, const model::Config& config,
                                const TaskOptions& options) {
  TaskSource source(origin, content, tokenizer, config, options);
  if (kind == TaskKind::kPerplexity) return make_perplexity(source);
  if (options.stride) base::fail("stride: only for perplexity");
  return kind == TaskKind::kHellaSwag ? make_hellaswag(source) : make_lambada(source);
}

}  // namespace evaluate
