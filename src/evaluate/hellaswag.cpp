// HellaSwag: which of the endings a model finds the likeliest, by its sum of log-probabilities
// (acc), and by that sum over its number of characters (acc_norm).
//
// The endings go on from one context, which is computed once and kept in a KV cache; sequences of
// all lengths are computed side by side, so nothing is padded.
// Source: Zellers et al. 2019 (arXiv:1905.07830); lm_eval/tasks/hellaswag for text and figures.

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "evaluate/task_source.h"
#include "evaluate/words.h"

namespace evaluate {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

/// lm-eval's preprocess(): WikiHow's [titles] and other brackets go.
std::string preprocess(std::string_view raw) {
  std::string text(strip(raw));
  replace_all(text, " [title]", ". ");
  for (std::size_t open = 0; (open = text.find('[', open)) != std::string::npos;) {
    const std::size_t end = text.find_first_of("]\n", open);  // a bracket ends in its line
    if (end == std::string::npos || text[end] == '\n') {
      ++open;
    } else {
      text.erase(open, end + 1 - open);
    }
  }
  replace_all(text, "  ", " ");
  return text;
}

/// The context of a line: from its parts, as lm-eval does, or as put together by somebody else.
std::string query_of(const nlohmann::json& object) {
  if (object.contains("ctx_a") || !object.contains("ctx")) {
    const std::string label = string_of(object, "activity_label") + ": ";
    const std::string first = string_of(object, "ctx_a") + " ";
    const std::string second = object.contains("ctx_b") ? string_of(object, "ctx_b") : "";
    return preprocess(label + first + capitalize(second));
  }
  const std::string label =
      object.contains("activity_label") ? string_of(object, "activity_label") + ": " : "";
  return preprocess(label + string_of(object, "ctx"));
}

/// The number of the right ending, which the hub's copy of the data has as a string.
std::size_t label_of(const nlohmann::json& object, std::size_t endings) {
  const auto found = object.find("label");
  if (found == object.end()) base::fail("the key \"label\" is missing");
  nlohmann::json value = *found;
  if (value.is_string()) {
    value = nlohmann::json::parse(value.get_ref<const std::string&>(), nullptr,
                                  /*allow_exceptions=*/false);
  }
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= endings) {
    base::fail("\"label\": expected an ending's number from 0 to {}, got {}", endings - 1,
               found->dump());
  }
  return value.get<std::size_t>();
}

/// Contexts whose endings are to be scored: one for an example, or one an ending where the context
/// has to be cut to a length of its own.
struct Question {
  Ids context;
  std::vector<Ids> endings;
  std::vector<std::size_t> scores;  ///< of each ending: its index among all of the task
};

/// Scores the endings of some questions at once.
class EndingScorer {
 public:
  EndingScorer(model::Gpt2& model, std::vector<double>& scores) : model_(model), scores_(scores) {}

  /// Returns the number of tokens that were computed.
  std::int64_t score(std::span<const Question> questions) {
    while (caches_.size() < questions.size()) {
      caches_.push_back(model_.make_cache(1));
    }
    computed_ = 0;
    read_contexts(questions);
    std::size_t most = 0;
    for (const Question& question : questions) most = std::max(most, question.endings.size());
    for (std::size_t number = 0; number < most; ++number) score_endings(questions, number);
    return computed_;
  }

 private:
  /// All but the contexts' last ids, whose outputs depend on no ending.
  void read_contexts(std::span<const Question> questions) {
    begin();
    for (std::size_t i = 0; i < questions.size(); ++i) {
      const auto context = std::span(questions[i].context);
      std::int64_t most = 0;
      for (const Ids& ending : questions[i].endings) most = std::max(most, std::ssize(ending));
      caches_[i].truncate(0);
      caches_[i].reserve(std::ssize(context) - 1 + most);
      if (context.size() > 1) append(i, context.first(context.size() - 1));
    }
    targets_.assign(ids_.size(), kernels::kIgnoredTarget);
    if (!ids_.empty()) compute();
  }

  /// The `number`-th ending of each question that has it.
  void score_endings(std::span<const Question> questions, std::size_t number) {
    begin();
    for (std::size_t i = 0; i < questions.size(); ++i) {
      if (number >= questions[i].endings.size()) continue;
      const auto ending = std::span(questions[i].endings[number]);
      caches_[i].truncate(std::ssize(questions[i].context) - 1);
      append(i, ending.first(ending.size() - 1), questions[i].context.back());
      targets_.insert(targets_.end(), ending.begin(), ending.end());
    }
    compute();
    std::size_t row = 0;
    for (const Question& question : questions) {
      if (number >= question.endings.size()) continue;
      double sum = 0;
      for (std::size_t t = 0; t < question.endings[number].size(); ++t) {
        sum -= static_cast<double>(losses_[row++]);
      }
      scores_[question.scores[number]] = sum;
    }
  }

  void begin() {
    members_.clear();
    counts_.clear();
    ids_.clear();
    targets_.clear();
  }
  void append(std::size_t cache, std::span<const std::int32_t> ids,
              std::optional<std::int32_t> before = std::nullopt) {
    members_.push_back(&caches_[cache]);
    counts_.push_back(std::ssize(ids) + (before ? 1 : 0));
    if (before) ids_.push_back(*before);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }
  void compute() {
    losses_.resize(ids_.size());
    model_.evaluate_cached(members_, counts_, ids_, targets_, losses_);
    computed_ += std::ssize(ids_);
  }

  model::Gpt2& model_;
  std::vector<double>& scores_;
  std::deque<model::KvCache> caches_;  // a question's each; addresses stay
  std::vector<model::KvCache*> members_;
  std::vector<std::int64_t> counts_;
  Ids ids_, targets_;
  std::vector<float> losses_;
  std::int64_t computed_ = 0;
};

struct Example {
  std::size_t first_score = 0;
  std::vector<double> characters;  ///< of each ending
  std::size_t label = 0;
};

class HellaSwagTask : public Task {
 public:
  explicit HellaSwagTask(TaskSource& source)
      : batch_(source.options().batch), rows_(source.options().rows) {
    source.for_each_object([&](const nlohmann::json& object) { add(source, object); });
  }

  std::int64_t examples() const override { return std::ssize(examples_); }
  std::int64_t truncated() const override { return truncated_; }

  TaskResult run(model::Gpt2& model,
                 const std::function<void(std::int64_t, std::int64_t)>& progress) const override {
    TaskResult result;
    std::vector<double> scores(scores_);
    EndingScorer scorer(model, scores);
    for (std::size_t first = 0; first < questions_.size();) {
      const std::size_t count = batch_from(first);
      result.computed += scorer.score(std::span(questions_).subspan(first, count));
      first += count;
      if (progress) progress(static_cast<std::int64_t>(first), std::ssize(questions_));
    }
    std::vector<double> right, right_normed;
    for (const Example& example : examples_) {
      const auto own = std::span(scores).subspan(example.first_score, example.characters.size());
      std::vector<double> normed(own.begin(), own.end());
      for (std::size_t i = 0; i < normed.size(); ++i) normed[i] /= example.characters[i];
      const auto best = [](std::span<const double> values) {  // the first of equals, as NumPy's
        return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
      };
      right.push_back(best(own) == example.label ? 1 : 0);
      right_normed.push_back(best(normed) == example.label ? 1 : 0);
    }
    const Mean acc = mean_of(right), normed = mean_of(right_normed);
    result.examples = examples();
    result.truncated = truncated_;
    result.tokens = tokens_;
    result.figures = {{"acc", acc.mean},
                      {"acc_stderr", acc.error},
                      {"acc_norm", normed.mean},
                      {"acc_norm_stderr", normed.error}};
    return result;
  }

 private:
  void add(TaskSource& source, const nlohmann::json& object) {
    const std::string query = query_of(object);
    const auto endings = object.find("endings");
    if (endings == object.end()) base::fail("the key \"endings\" is missing");
    if (!endings->is_array() || endings->size() < 2) {
      base::fail(
          "\"endings\": expected a list of two or more, got {}",
          endings->is_array() ? fmt::format("one of {}", endings->size()) : endings->type_name());
    }
    Example example;
    example.first_score = scores_;
    example.label = label_of(object, endings->size());
    Question whole;
    bool cut = false;
    for (const nlohmann::json& ending : *endings) {
      if (!ending.is_string()) {
        base::fail("\"endings\": expected strings, got {}", ending.type_name());
      }
      const std::string text = preprocess(ending.get_ref<const std::string&>());
      example.characters.push_back(static_cast<double>(count_characters(text)));
      Pair pair = source.encode_pair(query, " " + text);
      const std::size_t excess = source.excess(pair);
      tokens_ += std::ssize(pair.context) + std::ssize(pair.continuation) - 1 -
                 static_cast<std::int64_t>(excess);
      if (excess > 0) {
        cut = true;
        pair.context.erase(pair.context.begin(),
                           pair.context.begin() + static_cast<std::ptrdiff_t>(excess));
        questions_.push_back({std::move(pair.context), {std::move(pair.continuation)}, {scores_}});
      } else {
        whole.context = std::move(pair.context);
        whole.endings.push_back(std::move(pair.continuation));
        whole.scores.push_back(scores_);
      }
      ++scores_;
    }
    if (!whole.endings.empty()) questions_.push_back(std::move(whole));
    truncated_ += cut ? 1 : 0;
    examples_.push_back(std::move(example));
  }

  /// Questions from `first` on that are computed together.
  std::size_t batch_from(std::size_t first) const {
    const std::size_t left = questions_.size() - first;
    if (batch_) return std::min(left, static_cast<std::size_t>(*batch_));
    std::size_t count = 0;
    std::int64_t rows = 0;
    while (count < left) {
      rows += std::ssize(questions_[first + count].context);
      if (count > 0 && rows > rows_ / kContextShare) break;
      ++count;
    }
    return count;
  }

  static constexpr std::int64_t kContextShare = 2;  // a cache is larger than a row's activations

  std::optional<std::int64_t> batch_;
  std::int64_t rows_;
  std::vector<Example> examples_;
  std::vector<Question> questions_;
  std::size_t scores_ = 0;  // endings in all
  std::int64_t tokens_ = 0, truncated_ = 0;
};

}  // namespace

std::unique_ptr<Task> make_hellaswag(TaskSource& source) {
  return std::make_unique<HellaSwagTask>(source);
}

}  // namespace evaluate
