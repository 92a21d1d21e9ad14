// Perplexity of texts a token, a word and a byte, as lm-eval's rolling log-likelihood.
//
// Source: lm_eval.utils.get_rolling_token_windows. The first token is predicted from <|endoftext|>;
// the first window scores all of its ids, each further one its last `stride`, and every one but a
// short text's has the whole context: the last is moved back to the text's end, not cut.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "evaluate/task_source.h"
#include "evaluate/windows.h"
#include "evaluate/words.h"

namespace evaluate {
namespace {

class PerplexityTask : public Task {
 public:
  explicit PerplexityTask(TaskSource& source)
      : context_(source.context()),
        stride_(source.options().stride.value_or(context_)),
        batch_(source.options().batch),
        rows_(source.options().rows) {
    if (stride_ < 1 || stride_ > context_) {
      base::fail("stride: expected 1 to {} (the context), got {}", context_, stride_);
    }
    if (source.origin().ends_with(".jsonl")) {
      source.for_each_object([&](const nlohmann::json& object) {
        const std::string& text = string_of(object, "text");
        add(source, text, source.encode(text));
      });
    } else {
      add_text(source);
    }
    if (tokens_ == 0) base::fail("{}: expected a text, got an empty one", source.origin());
  }

  std::int64_t examples() const override { return documents_; }
  std::int64_t truncated() const override { return 0; }

  TaskResult run(model::Gpt2& model,
                 const std::function<void(std::int64_t, std::int64_t)>& progress) const override {
    TaskResult result;
    const std::vector<double> sums = window_losses(model, progress, result.computed);
    const double loss = std::accumulate(sums.begin(), sums.end(), 0.0);
    const auto mean = [&](std::int64_t count) { return loss / static_cast<double>(count); };
    result.examples = documents_;
    result.tokens = result.computed;
    result.figures = {{"loss", mean(tokens_)},
                      {"perplexity", std::exp(mean(tokens_))},
                      {"word_perplexity", std::exp(mean(words_))},
                      {"byte_perplexity", std::exp(mean(bytes_))},
                      {"bits_per_byte", mean(bytes_) / std::numbers::ln2}};
    result.counts = {{"scored_tokens", tokens_}, {"words", words_}, {"bytes", bytes_}};
    return result;
  }

 private:
  /// A document: its ids, and the windows over them.
  void add(const TaskSource& source, std::string_view text, const Ids& ids) {
    ++documents_;
    words_ += count_words(text);
    bytes_ += static_cast<std::int64_t>(text.size());
    const auto count = static_cast<std::int64_t>(ids.size());
    tokens_ += count;
    const auto first = static_cast<std::int64_t>(ids_.size());
    ids_.push_back(source.prefix());
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    std::int64_t scored = 0;
    while (scored < count) {
      const std::int64_t end = std::min(scored + (scored == 0 ? context_ : stride_), count);
      windows_.push_back(
          {first + std::max<std::int64_t>(end - context_, 0), first + end, first + scored});
      scored = end;
    }
  }

  /// The whole file as one document, or what its first `limit` windows score.
  void add_text(TaskSource& source) {
    std::string_view text = source.content();
    Ids ids = source.encode(text);
    if (const auto limit = source.options().limit) {
      // Beyond the text whatever the stride, and no overflow.
      const std::int64_t windows = std::min(*limit, static_cast<std::int64_t>(ids.size()) + 1);
      const auto kept = static_cast<std::size_t>(context_ + (windows - 1) * stride_);
      if (kept < ids.size()) {
        ids.resize(kept);
        std::size_t bytes = 0;
        for (const std::int32_t id : ids) {
          bytes += source.tokenizer().token_bytes(static_cast<text::TokenId>(id)).size();
        }
        text = text.substr(0, bytes);
      }
    }
    add(source, text, ids);
  }

  /// The sum of each window's losses; windows of one length are computed together.
  std::vector<double> window_losses(model::Gpt2& model,
                                    const std::function<void(std::int64_t, std::int64_t)>& progress,
                                    std::int64_t& computed) const {
    std::vector<std::size_t> order(windows_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater(),
                             [&](std::size_t i) { return windows_[i].length(); });
    WindowBatch batch(model, ids_);
    std::vector<double> sums(windows_.size());
    std::vector<Window> together;
    std::int64_t done = 0;
    for (std::size_t first = 0; first < order.size();) {
      const std::int64_t length = windows_[order[first]].length();
      const std::int64_t most = batch_.value_or(std::max<std::int64_t>(rows_ / length, 1));
      together.clear();
      while (first + together.size() < order.size() && std::ssize(together) < most &&
             windows_[order[first + together.size()]].length() == length) {
        together.push_back(windows_[order[first + together.size()]]);
      }
      const std::span<const float> losses = batch.losses(together);
      for (std::size_t i = 0; i < together.size(); ++i) {
        const auto own =
            losses.subspan(i * static_cast<std::size_t>(length), static_cast<std::size_t>(length));
        for (const float loss : own) sums[order[first + i]] += static_cast<double>(loss);
        done += together[i].end - together[i].scored_from;
      }
      computed += std::ssize(losses);
      if (progress) progress(done, tokens_);
      first += together.size();
    }
    return sums;
  }

  std::int64_t context_, stride_;
  std::optional<std::int64_t> batch_;
  std::int64_t rows_;
  Ids ids_;  // of all documents, <|endoftext|> before each
  std::vector<Window> windows_;
  std::int64_t documents_ = 0, tokens_ = 0, words_ = 0, bytes_ = 0;
};

}  // namespace

std::unique_ptr<Task> make_perplexity(TaskSource& source) {
  return std::make_unique<PerplexityTask>(source);
}

}  // namespace evaluate
