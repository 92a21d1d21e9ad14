// UTF-8: validity, and characters that arrive in pieces.

#include <utility>

#include "base/utf8.h"
#include "text/text.h"

namespace text {

bool is_valid_utf8(std::string_view bytes) {
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  while (p < end) {
    const base::Utf8Step step = base::utf8_step(p, end);
    if (step.kind != base::Utf8::kWhole) return false;
    p += step.bytes;
  }
  return true;
}

std::string StreamDecoder::push(TokenId id) {
  held_ += tokenizer_->token_bytes(id);
  const char* const begin = held_.data();
  const char* const end = begin + held_.size();
  const char* p = begin;
  while (p < end) {
    const base::Utf8Step step = base::utf8_step(p, end);
    if (step.kind == base::Utf8::kCut) break;
    p += step.bytes;
  }
  std::string ready(begin, p);
  held_.erase(0, ready.size());
  return ready;
}

std::string StreamDecoder::finish() { return std::exchange(held_, {}); }

}  // namespace text
