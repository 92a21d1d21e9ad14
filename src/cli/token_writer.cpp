// Streaming: stop texts over token borders, characters over token borders.

#include "cli/token_writer.h"

#include <algorithm>
#include <deque>

#include "base/error.h"

namespace cli {
namespace {

/// True when `cut` is the beginning of some character. A second byte's range depends on the first
/// (table 3-7): between them these three fit every lead byte.
bool begins_character(std::string_view cut) {
  for (std::size_t length = cut.size() + 1; length <= 4; ++length) {
    for (const char second : {'\x80', '\x90', '\xA0'}) {
      std::string whole(cut);
      if (whole.size() == 1) whole += second;
      whole.resize(length, '\x80');
      if (text::is_valid_utf8(whole)) return true;
    }
  }
  return false;
}

/// The bytes at the front of `bytes` that are one character, or one maximal part of none.
std::pair<std::size_t, bool> first_character(std::string_view bytes) {
  const std::size_t most = std::min<std::size_t>(bytes.size(), 4);
  for (std::size_t length = 1; length <= most; ++length) {
    if (text::is_valid_utf8(bytes.substr(0, length))) return {length, true};
  }
  std::size_t length = 1;
  while (length < most && begins_character(bytes.substr(0, length + 1))) ++length;
  return {length, false};
}

text::TokenId checked_id(const text::Tokenizer& tokenizer, std::int32_t id) {
  if (id < 0 || static_cast<std::size_t>(id) >= tokenizer.vocab_size()) {
    base::fail(
        "token {} is in the model's vocabulary but not in the tokenizer's, which has ids 0 to {}; "
        "use --output-ids",
        id, tokenizer.vocab_size() - 1);
  }
  return static_cast<text::TokenId>(id);
}

class TextWriter final : public TokenWriter {
 public:
  TextWriter(const text::Tokenizer& tokenizer, std::vector<std::string> stops, Output output)
      : tokenizer_(tokenizer),
        decoder_(tokenizer),
        filter_(std::move(stops)),
        output_(std::move(output)) {}

  void prompt(std::span<const std::int32_t> ids) override {
    std::string bytes;
    for (const std::int32_t id : ids) bytes += decoder_.push(checked_id(tokenizer_, id));
    show(bytes);
  }

  bool push(std::int32_t id) override {
    show(filter_.push(decoder_.push(checked_id(tokenizer_, id))));
    return !filter_.stopped();
  }

  void finish() override {
    std::string rest = filter_.push(decoder_.finish());
    rest += filter_.finish();
    output_(replace_invalid_utf8(rest) + "\n");
  }

 private:
  void show(const std::string& bytes) {
    if (!bytes.empty()) output_(replace_invalid_utf8(bytes));
  }

  const text::Tokenizer& tokenizer_;
  text::StreamDecoder decoder_;
  StopFilter filter_;
  Output output_;
};

class IdWriter final : public TokenWriter {
 public:
  IdWriter(const text::Tokenizer* tokenizer, std::vector<std::string> stops, Output output)
      : tokenizer_(tokenizer),
        has_stops_(!stops.empty()),
        filter_(std::move(stops)),
        output_(std::move(output)) {}

  void prompt(std::span<const std::int32_t>) override {}

  bool push(std::int32_t id) override {
    if (!has_stops_) {
      show(id);
      return true;
    }
    const std::string_view bytes = tokenizer_->token_bytes(checked_id(*tokenizer_, id));
    made_bytes_ += bytes.size();
    waiting_.push_back({id, made_bytes_});
    passed_bytes_ += filter_.push(bytes).size();
    show_passed();
    return !filter_.stopped();
  }

  void finish() override {
    passed_bytes_ += filter_.finish().size();
    show_passed();
    output_("\n");
  }

 private:
  struct Waiting {
    std::int32_t id;
    std::size_t end_bytes;  // where its text ends among the new bytes
  };

  void show(std::int32_t id) {
    output_(shown_ ? fmt::format(" {}", id) : fmt::format("{}", id));
    shown_ = true;
  }
  void show_passed() {
    while (!waiting_.empty() && waiting_.front().end_bytes <= passed_bytes_) {
      show(waiting_.front().id);
      waiting_.pop_front();
    }
  }

  const text::Tokenizer* tokenizer_;
  bool has_stops_;
  StopFilter filter_;
  Output output_;
  std::deque<Waiting> waiting_;
  std::size_t made_bytes_ = 0;
  std::size_t passed_bytes_ = 0;
  bool shown_ = false;
};

}  // namespace

std::string StopFilter::push(std::string_view bytes) {
  if (stopped_) return {};
  held_ += bytes;
  std::size_t found = std::string::npos;
  for (const std::string& stop : stops_) found = std::min(found, held_.find(stop));
  if (found != std::string::npos) {
    stopped_ = true;
    held_.resize(found);
    return std::exchange(held_, {});
  }
  // Keep the longest end that a stop text may begin with.
  std::size_t keep = held_.size();
  for (const std::string& stop : stops_) {
    const std::size_t longest = std::min(stop.size() - 1, held_.size());
    for (std::size_t length = longest; length > 0; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) {
        keep = std::min(keep, held_.size() - length);
        break;
      }
    }
  }
  std::string ready = held_.substr(0, keep);
  held_.erase(0, keep);
  return ready;
}

std::string StopFilter::finish() { return std::exchange(held_, {}); }

bool Continuation::push(std::int32_t id) {
  ids_.push_back(id);
  if (tokenizer_ == nullptr) return true;
  const std::string_view bytes = tokenizer_->token_bytes(checked_id(*tokenizer_, id));
  made_bytes_ += bytes.size();
  ends_.push_back(made_bytes_);
  bytes_ += filter_.push(bytes);
  return !filter_.stopped();
}

void Continuation::finish() {
  bytes_ += filter_.finish();
  kept_ids_ = ids_.size();
  if (tokenizer_ == nullptr) return;
  const auto first_cut = std::ranges::upper_bound(ends_, bytes_.size());
  kept_ids_ = static_cast<std::size_t>(first_cut - ends_.begin());
}

std::string replace_invalid_utf8(std::string_view bytes) {
  if (text::is_valid_utf8(bytes)) return std::string(bytes);
  std::string result;
  while (!bytes.empty()) {
    const auto [length, whole] = first_character(bytes);
    result += whole ? bytes.substr(0, length) : std::string_view("\xEF\xBF\xBD");
    bytes.remove_prefix(length);
  }
  return result;
}

std::unique_ptr<TokenWriter> make_text_writer(const text::Tokenizer& tokenizer,
                                              std::vector<std::string> stops, Output output) {
  return std::make_unique<TextWriter>(tokenizer, std::move(stops), std::move(output));
}

std::unique_ptr<TokenWriter> make_id_writer(const text::Tokenizer* tokenizer,
                                            std::vector<std::string> stops, Output output) {
  return std::make_unique<IdWriter>(tokenizer, std::move(stops), std::move(output));
}

}  // namespace cli
