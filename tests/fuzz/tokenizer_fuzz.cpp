// Any bytes as text: every instruction set gives the ids of the slow tokenizer, and decoding gives
// the bytes back; cuts change nothing; the check of UTF-8 agrees with a plain one.

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "prepare/cut.h"
#include "text/slow_tokenizer.h"
#include "text/text.h"

namespace {

using Ids = std::vector<text::TokenId>;
constexpr std::size_t kMostForSlow = 2048;  // its merges are searched one by one

/// One encoder for each instruction set of this processor; their caches fill as the fuzzer goes.
std::vector<text::Encoder>& encoders() {
  static std::vector<text::Encoder> all = [] {
    std::vector<text::Encoder> made;
    for (const char* name : {"generic", "avx2", "avx512"}) {
      ::setenv("GPT2_CPU_ISA", name, 1);
      try {
        made.emplace_back(text::Tokenizer::gpt2());
      } catch (const base::Error&) {  // not of this processor
      }
    }
    ::unsetenv("GPT2_CPU_ISA");
    return made;
  }();
  return all;
}

/// Length of the well-formed character at the beginning, 0 if there is none.
/// Source: Unicode 16.0, table 3-7, by way of decoding and encoding again.
std::size_t character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) >= 0xF0 && byte(0) < 0xF8   ? 4
                             : byte(0) >= 0xE0 && byte(0) < 0xF0 ? 3
                             : byte(0) >= 0xC0 && byte(0) < 0xE0 ? 2
                                                                 : 0;
  if (length == 0 || length > text.size()) return 0;
  char32_t code = byte(0) & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return 0;
    code = code << 6 | (byte(i) & 0x3FU);
  }
  const bool possible = code < 0x110000 && !(code >= 0xD800 && code < 0xE000);
  return possible && text_testing::utf8_of(code) == text.substr(0, length) ? length : 0;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = character(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

void check_cut(std::string_view text, std::size_t at, const Ids& ids) {
  Ids parts;
  encoders().front().encode(text.substr(0, at), parts);
  encoders().front().encode(text.substr(at), parts);
  if (parts != ids) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Ids ids;
  encoders().front().encode(text, ids);
  for (text::Encoder& encoder : encoders()) {
    for (int pass = 0; pass < 2; ++pass) {  // through an empty cache, and through a filled one
      Ids again;
      encoder.encode(text, again);
      if (again != ids) std::abort();
    }
  }
  if (text::Tokenizer::gpt2().decode(ids) != text) std::abort();
  if (size <= kMostForSlow && text_testing::SlowTokenizer::gpt2().encode(text) != ids) std::abort();
  if (text::is_valid_utf8(text) != is_utf8(text)) std::abort();
  if (size < 2) return 0;
  const std::size_t cut = prepare::last_cut(text);
  if (cut >= size) std::abort();
  if (cut > 0) check_cut(text, cut, ids);
  Ids parts;
  for (const std::string_view part : text::cut_for_threads(text, 3)) {
    encoders().back().encode(part, parts);
  }
  if (parts != ids) std::abort();
  return 0;
}
