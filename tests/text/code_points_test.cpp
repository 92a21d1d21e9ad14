// Every Unicode code point in several contexts, against the slow tokenizer.

#include <gtest/gtest.h>

#include "text/slow_tokenizer.h"
#include "text/text.h"

namespace {

using text::Encoder;
using text::TokenId;
using text::Tokenizer;
using text_testing::SlowTokenizer;
using Ids = std::vector<TokenId>;

/// `around` holds one or more '*', each replaced by the character.
std::string in_context(std::string_view around, const std::string& character) {
  std::string text;
  for (const char c : around) text += c == '*' ? character : std::string(1, c);
  return text;
}

class EveryCodePoint : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryCodePoint, EncodesAsTheSlowTokenizerDoes) {
  const SlowTokenizer& slow = SlowTokenizer::gpt2();
  Encoder encoder(Tokenizer::gpt2());
  Ids ids;
  int differences = 0;
  for (char32_t code = 0; code < 0x110000 && differences < 10; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;  // no characters; see the invalid bytes
    const std::string bytes = in_context(GetParam(), text_testing::utf8_of(code));
    ids.clear();
    encoder.encode(bytes, ids);
    if (ids == slow.encode(bytes)) continue;
    ADD_FAILURE() << "U+" << std::hex << static_cast<std::uint32_t>(code) << " in " << GetParam();
    ++differences;
  }
}

INSTANTIATE_TEST_SUITE_P(Contexts, EveryCodePoint,
                         ::testing::Values("*", "**", "a*a", "1*1", " * ", "!*'s", "\n*  *"));

}  // namespace
