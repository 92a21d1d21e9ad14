// vocab.json and merges.txt, read and written.

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "text/vocabulary.h"

namespace text {
namespace {

/// Collects one flat object of numbers without building a tree of 50,000 nodes.
class VocabReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit VocabReader(const std::string& name) : name_(name) {}

  std::vector<std::pair<std::string, TokenId>> take() { return std::move(entries_); }

  bool key(string_t& spelling) override {
    key_ = spelling;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    require_inside();
    if (value > 0xFFFF) refuse(std::to_string(value));
    entries_.emplace_back(std::move(key_), static_cast<TokenId>(value));
    return true;
  }
  bool number_integer(number_integer_t value) override { refuse(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& digits) override { refuse(digits); }
  bool string(string_t& value) override { refuse(fmt::format("\"{}\"", value)); }
  bool boolean(bool value) override { refuse(value ? "true" : "false"); }
  bool null() override { refuse("null"); }
  bool binary(binary_t&) override { refuse("binary data"); }
  bool start_array(std::size_t) override { refuse("a list"); }
  bool end_array() override { return true; }
  bool start_object(std::size_t) override {
    if (inside_) refuse("an object");
    inside_ = true;
    return true;
  }
  bool end_object() override { return true; }
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::json::exception&) override {
    base::fail("{}: not valid JSON at byte {}, near '{}'; get the file again", name_, position,
               last_token);
  }

 private:
  void require_inside() const {
    if (!inside_) {
      base::fail("{}: expected one object of tokens and their ids, got something else", name_);
    }
  }
  [[noreturn]] void refuse(const std::string& got) const {
    require_inside();
    base::fail("{}: token '{}': expected an id from 0 to 65535, got {}", name_, key_, got);
  }

  const std::string& name_;
  std::string key_;
  bool inside_ = false;
  std::vector<std::pair<std::string, TokenId>> entries_;
};

/// Appends one code point as Python's json.dumps escapes it: ASCII only, UTF-16 in hex beyond.
void append_json_escaped(std::string& out, char32_t code) {
  constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
  constexpr std::string_view kLetters = "\"\\nrtfb";
  const auto unit = [&out](char32_t value) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<std::uint32_t>(value));
  };
  const std::size_t known =
      code < 0x80 ? kEscaped.find(static_cast<char>(code)) : std::string_view::npos;
  if (known != std::string_view::npos) {
    out += '\\';
    out += kLetters[known];
  } else if (code >= 0x20 && code < 0x7F) {
    out += static_cast<char>(code);
  } else if (code < 0x10000) {
    unit(code);
  } else {
    unit(0xD800 + ((code - 0x10000) >> 10));
    unit(0xDC00 + ((code - 0x10000) & 0x3FF));
  }
}

void append_json_token(std::string& out, const Tokenizer::Tables& tables, TokenId id) {
  const std::string_view bytes = tables.bytes(id);
  if (!tables.is_literal(id)) {
    for (const char c : bytes) {
      append_json_escaped(out, kByteAlphabet.code_of[static_cast<std::uint8_t>(c)]);
    }
    return;
  }
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  while (p < end) {
    const base::Utf8Step step = base::utf8_step(p, end);  // valid: it came out of a JSON parser
    append_json_escaped(out, step.code);
    p += step.bytes;
  }
}

}  // namespace

std::vector<std::pair<std::string, TokenId>> parse_vocab_json(std::string_view json,
                                                              const std::string& name) {
  VocabReader reader(name);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

std::string to_vocab_json(const Tokenizer::Tables& tables) {
  std::string out = "{";
  for (std::size_t id = 0; id < tables.size(); ++id) {
    out += id == 0 ? "\"" : ", \"";
    append_json_token(out, tables, static_cast<TokenId>(id));
    fmt::format_to(std::back_inserter(out), "\": {}", id);
  }
  return out + "}";
}

std::string to_merges_txt(const Tokenizer::Tables& tables) {
  std::string out = "#version: 0.2\n";
  for (const Merge& merge : tables.list) {
    append_spelling(out, tables.bytes(merge.left));
    out += ' ';
    append_spelling(out, tables.bytes(merge.right));
    out += '\n';
  }
  return out;
}

std::string to_tokenizer_json(const Tokenizer::Tables& tables) {
  using Json = nlohmann::ordered_json;
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  Json added = Json::array();
  for (const TokenId id : tables.literal) {
    added.push_back({{"id", id},
                     {"content", tables.bytes(id)},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  if (tables.end_of_text && !tables.is_literal(*tables.end_of_text)) {
    added.push_back({{"id", *tables.end_of_text},
                     {"content", kEndOfText},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  Json merges = Json::array();
  for (const Merge& merge : tables.list) {
    std::string line;
    append_spelling(line, tables.bytes(merge.left));
    line += ' ';
    append_spelling(line, tables.bytes(merge.right));
    merges.push_back(std::move(line));
  }
  Json file = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", std::move(added)},
               {"normalizer", nullptr},
               {"pre_tokenizer", byte_level},
               {"post_processor", byte_level},
               {"decoder", byte_level}};
  file["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", ""},
                   {"end_of_word_suffix", ""},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"vocab", Json::parse(to_vocab_json(tables))},
                   {"merges", std::move(merges)}};
  return file.dump(2, ' ', /*ensure_ascii=*/true);
}

}  // namespace text
