// UTF-8: validity, and characters that arrive in pieces.

#include "text/utf8.h"

#include <utility>

#include "text/text.h"

namespace text {

void append_utf8(std::string& out, char32_t code) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool is_valid_utf8(std::string_view bytes) {
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  while (p < end) {
    const Utf8Step step = utf8_step(p, end);
    if (step.kind != Utf8::kWhole) return false;
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
    const Utf8Step step = utf8_step(p, end);
    if (step.kind == Utf8::kCut) break;
    p += step.bytes;
  }
  std::string ready(begin, p);
  held_.erase(0, ready.size());
  return ready;
}

std::string StreamDecoder::finish() { return std::exchange(held_, {}); }

}  // namespace text
