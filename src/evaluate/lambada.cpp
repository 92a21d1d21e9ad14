// LAMBADA: the last word of a passage. acc: every token of it is the likeliest; perplexity: of
// whole words.
//
// Source: Paperno et al. 2016 (arXiv:1606.06031); lm_eval/tasks/lambada, lambada_openai, for text
// and figures. perplexity = exp(-mean log-probability of the word); its standard error is that of
// the mean times the perplexity (first order), where lm-eval draws samples.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "evaluate/task_source.h"

namespace evaluate {
namespace {

/// Rows of logits at a time: 50 MB with GPT-2's vocabulary.
constexpr std::size_t kLogitRows = 256;

struct Passage {
  Ids ids;                 ///< context and word
  std::size_t length = 0;  ///< of the word
  std::size_t inputs() const { return ids.size() - 1; }
};

struct WordScore {
  double log_probability = 0;
  bool likeliest = true;
};

/// Scores the last words of some passages at once, the longest of them first; shorter ones are
/// padded at their end, which causality keeps from them.
class WordScorer {
 public:
  explicit WordScorer(model::Gpt2& model) : model_(model) {}

  /// Returns the number of tokens that were computed.
  std::int64_t score(std::span<const Passage* const> passages, std::span<WordScore* const> scores) {
    const std::size_t length = passages.front()->inputs();
    const auto vocab = static_cast<std::size_t>(model_.config().vocab_size);
    inputs_.assign(passages.size() * length, 0);
    rows_.clear();
    for (std::size_t i = 0; i < passages.size(); ++i) {
      const Passage& passage = *passages[i];
      std::copy_n(passage.ids.begin(), passage.inputs(),
                  inputs_.begin() + static_cast<std::ptrdiff_t>(i * length));
      for (std::size_t t = 0; t < passage.length; ++t) {
        rows_.push_back(
            static_cast<std::int64_t>(i * length + passage.inputs() - passage.length + t));
      }
    }
    logits_.resize(rows_.size() * vocab);
    model_.logits_at(inputs_, std::ssize(passages), static_cast<std::int64_t>(length), rows_,
                     logits_);
    std::size_t row = 0;
    for (std::size_t i = 0; i < passages.size(); ++i) {
      for (const std::int32_t id : std::span(passages[i]->ids).last(passages[i]->length)) {
        add(*scores[i], std::span(logits_).subspan(vocab * row++, vocab), id);
      }
    }
    return std::ssize(inputs_);
  }

 private:
  static void add(WordScore& score, std::span<const float> logits, std::int32_t id) {
    const auto most = std::ranges::max_element(logits);  // the first of equals, as PyTorch's
    score.likeliest = score.likeliest && most - logits.begin() == id;
    const auto largest = static_cast<double>(*most);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
    score.log_probability +=
        static_cast<double>(logits[static_cast<std::size_t>(id)]) - largest - std::log(sum);
  }

  model::Gpt2& model_;
  Ids inputs_;                      // (B, T)
  std::vector<std::int64_t> rows_;  // (R)
  std::vector<float> logits_;       // (R, V)
};

class LambadaTask : public Task {
 public:
  explicit LambadaTask(TaskSource& source)
      : batch_(source.options().batch), rows_(source.options().rows) {
    source.for_each_object([&](const nlohmann::json& object) { add(source, object); });
  }

  std::int64_t examples() const override { return std::ssize(passages_); }
  std::int64_t truncated() const override { return truncated_; }

  TaskResult run(model::Gpt2& model,
                 const std::function<void(std::int64_t, std::int64_t)>& progress) const override {
    TaskResult result;
    std::vector<WordScore> scores(passages_.size());
    WordScorer scorer(model);
    std::vector<std::size_t> order(passages_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater(),
                             [&](std::size_t i) { return passages_[i].ids.size(); });
    for (std::span<const std::size_t> rest = order; !rest.empty();) {
      const std::size_t count = alike(rest);
      std::vector<const Passage*> passages;
      std::vector<WordScore*> own;
      for (const std::size_t i : rest.first(count)) {
        passages.push_back(&passages_[i]);
        own.push_back(&scores[i]);
      }
      result.computed += scorer.score(passages, own);
      rest = rest.subspan(count);
      if (progress) progress(examples() - std::ssize(rest), examples());
    }
    std::vector<double> right, log_probabilities;
    for (const WordScore& score : scores) {
      right.push_back(score.likeliest ? 1 : 0);
      log_probabilities.push_back(score.log_probability);
    }
    const Mean acc = mean_of(right), mean = mean_of(log_probabilities);
    const double perplexity = std::exp(-mean.mean);
    result.examples = examples();
    result.truncated = truncated_;
    for (const Passage& passage : passages_) {
      result.tokens += static_cast<std::int64_t>(passage.inputs());
    }
    result.figures = {{"acc", acc.mean},
                      {"acc_stderr", acc.error},
                      {"perplexity", perplexity},
                      {"perplexity_stderr", perplexity * mean.error}};
    return result;
  }

 private:
  void add(TaskSource& source, const nlohmann::json& object) {
    const std::string& text = string_of(object, "text");
    if (text.empty()) base::fail("\"text\": expected a passage, got an empty string");
    // Words are what single spaces separate: text.split(' ')[-1], with a space before it.
    const std::size_t space = text.rfind(' ');
    const std::string context = space == std::string::npos ? "" : text.substr(0, space);
    const std::string word = " " + text.substr(space == std::string::npos ? 0 : space + 1);
    Pair pair = source.encode_pair(context, word);
    const std::size_t excess = source.excess(pair);
    truncated_ += excess > 0 ? 1 : 0;
    Passage passage;
    passage.length = pair.continuation.size();
    passage.ids.assign(pair.context.begin() + static_cast<std::ptrdiff_t>(excess),
                       pair.context.end());
    passage.ids.insert(passage.ids.end(), pair.continuation.begin(), pair.continuation.end());
    passages_.push_back(std::move(passage));
  }

  /// How many of `order`, from the longest on, go together: little padding, few logits.
  std::size_t alike(std::span<const std::size_t> order) const {
    const std::size_t length = passages_[order.front()].inputs();
    const std::size_t most =
        batch_ ? static_cast<std::size_t>(*batch_)
               : std::max<std::size_t>(static_cast<std::size_t>(rows_) / length, 1);
    std::size_t count = 0, logits = 0;
    while (count < std::min(order.size(), most)) {
      const Passage& passage = passages_[order[count]];
      logits += passage.length;
      const bool fits = logits <= kLogitRows && passage.inputs() >= length - length / 8;
      if (count > 0 && !fits) break;
      ++count;
    }
    return count;
  }

  std::optional<std::int64_t> batch_;
  std::int64_t rows_;
  std::vector<Passage> passages_;
  std::int64_t truncated_ = 0;
};

}  // namespace

std::unique_ptr<Task> make_lambada(TaskSource& source) {
  return std::make_unique<LambadaTask>(source);
}

}  // namespace evaluate
