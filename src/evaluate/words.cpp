// Python's white space, words and capital letters.

#include "evaluate/words.h"

#include <algorithm>
#include <clocale>
#include <cwctype>

#include "base/error.h"

namespace evaluate {
namespace {

/// White space of more than one byte in UTF-8, but U+2000 to U+200A.
constexpr std::string_view kWideSpaces[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                            "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                            "\xE2\x81\x9F", "\xE3\x80\x80"};

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

/// Appends the character at text[at] as `convert` makes it, and moves `at` behind it.
template <class Convert>
void append_converted(std::string& out, std::string_view text, std::size_t& at, Convert convert) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const unsigned length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  wint_t code = length == 1 ? lead : lead & (0x7FU >> length);
  for (++at; at < text.size() && is_continuation(text[at]); ++at) {
    code = code << 6 | (static_cast<unsigned char>(text[at]) & 0x3FU);
  }
  code = convert(code);
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const unsigned tail = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;  // bytes after the first
  constexpr unsigned kLeads[] = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(kLeads[tail] | code >> (6 * tail));
  for (unsigned i = tail; i-- > 0;) out += static_cast<char>(0x80U | (code >> (6 * i) & 0x3FU));
}

/// Unicode's case mappings, of one character to one, as the C library has them.
class Cases {
 public:
  Cases() : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_ == nullptr) base::fail("the locale C.UTF-8 is missing; install the C library's");
    title_ = ::wctrans_l("totitle", locale_);
  }
  ~Cases() { ::freelocale(locale_); }
  Cases(const Cases&) = delete;
  Cases& operator=(const Cases&) = delete;

  wint_t lower(wint_t code) const { return ::towlower_l(code, locale_); }
  wint_t title(wint_t code) const {
    return title_ != nullptr ? ::towctrans_l(code, title_, locale_) : ::towupper_l(code, locale_);
  }

 private:
  locale_t locale_;
  wctrans_t title_ = nullptr;
};

}  // namespace

std::size_t space_at(std::string_view text) {
  if (text.empty()) return 0;
  const char c = text.front();
  if ((c >= '\t' && c <= '\r') || (c >= '\x1C' && c <= ' ')) return 1;
  if (static_cast<unsigned char>(c) < 0x80) return 0;
  for (const std::string_view space : kWideSpaces) {
    if (text.starts_with(space)) return space.size();
  }
  const bool typographic = text.size() >= 3 && text.starts_with("\xE2\x80") &&
                           static_cast<unsigned char>(text[2]) >= 0x80 &&
                           static_cast<unsigned char>(text[2]) <= 0x8A;
  return typographic ? 3 : 0;
}

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 && is_continuation(text[begin])) --begin;
    if (space_at(text.substr(begin)) != text.size() - begin) break;
    text = text.substr(0, begin);
  }
  return text;
}

std::string_view strip(std::string_view text) {
  while (const std::size_t bytes = space_at(text)) text.remove_prefix(bytes);
  return without_trailing_space(text);
}

std::int64_t count_words(std::string_view text) {
  std::int64_t words = 1;
  bool in_space = false;
  while (!text.empty()) {
    const std::size_t bytes = space_at(text);
    if (bytes > 0 && !in_space) ++words;
    in_space = bytes > 0;
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return words;
}

std::int64_t count_characters(std::string_view text) {
  return std::ranges::count_if(text, [](char byte) { return !is_continuation(byte); });
}

std::string capitalize(std::string_view text) {
  std::string result;
  std::size_t at = 0;
  if (std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    for (; at < text.size(); ++at) {
      const char c = text[at];
      const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
      result += at == 0 ? (lower ? static_cast<char>(c - 'a' + 'A') : c)
                        : (upper ? static_cast<char>(c - 'A' + 'a') : c);
    }
    return result;
  }
  const Cases cases;
  append_converted(result, text, at, [&](wint_t code) { return cases.title(code); });
  while (at < text.size()) {
    append_converted(result, text, at, [&](wint_t code) { return cases.lower(code); });
  }
  return result;
}

}  // namespace evaluate
