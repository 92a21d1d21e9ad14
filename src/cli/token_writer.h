#pragma once
/// Generated tokens on their way to stdout: as text, or as ids.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/text.h"

namespace cli {

/// Lets text through up to the first stop text, holding back what may be the beginning of one.
class StopFilter {
 public:
  /// None of the stop texts may be empty.
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Takes more text and returns what can be shown. After a stop was found: nothing.
  std::string push(std::string_view bytes);
  /// The text's end: what was held back, unless a stop was found.
  std::string finish();
  /// True once a stop text was found; it and what follows it are dropped.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

/// `bytes` with U+FFFD for each maximal part that is not UTF-8, as Python's errors="replace" does.
/// Source: The Unicode Standard 16.0, section 3.9, "U+FFFD Substitution of Maximal Subparts".
std::string replace_invalid_utf8(std::string_view bytes);

/// Where the tokens of one sample go.
class TokenWriter {
 public:
  virtual ~TokenWriter() = default;
  /// The prompt, before the first new token.
  virtual void prompt(std::span<const std::int32_t> ids) = 0;
  /// A new token. False: a stop text is complete, no more tokens are wanted.
  virtual bool push(std::int32_t id) = 0;
  /// The sample's end: what is held back, and a newline.
  virtual void finish() = 0;
};

/// Collects a continuation up to the first stop text, for output that is written when it is whole.
class Continuation {
 public:
  /// `tokenizer` may be null when there are no stop texts; then there is no text either.
  Continuation(const text::Tokenizer* tokenizer, std::vector<std::string> stops)
      : tokenizer_(tokenizer), filter_(std::move(stops)) {}

  /// A new token. False: a stop text is complete. Throws Error for an id that the tokenizer does
  /// not have.
  bool push(std::int32_t id);
  /// The end: nothing more comes.
  void finish();
  /// After finish(): the ids whose text ends before the stop text, and the bytes before it.
  std::span<const std::int32_t> ids() const { return std::span(ids_).first(kept_ids_); }
  const std::string& bytes() const { return bytes_; }

 private:
  const text::Tokenizer* tokenizer_;
  StopFilter filter_;
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> ends_;  // where each id's text ends among all bytes
  std::size_t made_bytes_ = 0;
  std::size_t kept_ids_ = 0;
  std::string bytes_;
};

/// Takes finished pieces of output.
using Output = std::function<void(std::string_view)>;

/// Prompt and continuation as UTF-8 text. What is not UTF-8 in them (an unfinished character at the
/// end, bytes no character has) comes out as U+FFFD. `tokenizer` must outlive the writer.
/// push() throws Error for an id that the tokenizer does not have.
std::unique_ptr<TokenWriter> make_text_writer(const text::Tokenizer& tokenizer,
                                              std::vector<std::string> stops, Output output);

/// New ids only, separated by spaces. Ids that reach into a stop text are dropped. `tokenizer` may
/// be null when there are no stop texts.
std::unique_ptr<TokenWriter> make_id_writer(const text::Tokenizer* tokenizer,
                                            std::vector<std::string> stops, Output output);

}  // namespace cli
