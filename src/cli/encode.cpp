// gpt2 encode: text -> token ids.

#include <memory>
#include <vector>

#include "base/error.h"
#include "cli/base64.h"
#include "cli/cli.h"
#include "cli/tokenizer_option.h"

namespace cli {
namespace {

struct EncodeOptions {
  CommonOptions common;
  TokenizerOption tokenizer;
  std::string input = "-";
  bool allow_special = false;
  bool jsonl = false;
};

constexpr std::size_t kWriteBytes = std::size_t{1} << 20;

void append_id(std::string& out, text::TokenId id) {
  const fmt::format_int digits(id);
  out.append(digits.data(), digits.size());
}

/// Writes "1 2 3\n" in pieces: the text is several times larger than the ids.
void write_ids(const std::vector<text::TokenId>& ids) {
  std::string out;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ' ';
    append_id(out, ids[i]);
    if (out.size() < kWriteBytes) continue;
    write_output(out);
    out.clear();
  }
  write_output(out + "\n");
}

/// The bytes of {"text": ...} or {"b64": ...}.
std::string bytes_of(const nlohmann::json& object) {
  const auto plain = object.find("text");
  const auto b64 = object.find("b64");
  if ((plain == object.end()) == (b64 == object.end())) {
    base::fail("expected either \"text\" or \"b64\", got {}",
               plain == object.end() ? "neither" : "both");
  }
  const auto& value = plain != object.end() ? *plain : *b64;
  if (!value.is_string()) {
    base::fail("\"{}\": expected a string, got {}", plain != object.end() ? "text" : "b64",
               value.type_name());
  }
  if (plain != object.end()) return value.get<std::string>();
  auto bytes = from_base64(value.get_ref<const std::string&>());
  if (!bytes) base::fail("\"b64\": expected padded base64 (RFC 4648), got something else");
  return *std::move(bytes);
}

text::SpecialTokens special_of(const nlohmann::json& object, bool otherwise) {
  const auto value = object.find("special");
  if (value != object.end() && !value->is_boolean()) {
    base::fail("\"special\": expected true or false, got {}", value->type_name());
  }
  const bool allowed = value != object.end() ? value->get<bool>() : otherwise;
  return allowed ? text::SpecialTokens::kAllowed : text::SpecialTokens::kAsText;
}

void encode_lines(EncodeOptions& options) {
  text::Encoder encoder(options.tokenizer.get());
  std::vector<text::TokenId> ids;
  answer_json_lines(options.input, [&](const nlohmann::json& object) {
    ids.clear();
    encoder.encode(bytes_of(object), ids, special_of(object, options.allow_special));
    std::string answer = "{\"ids\": [";
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) answer += ", ";
      append_id(answer, ids[i]);
    }
    return answer + "]}";
  });
}

void run_encode(EncodeOptions& options) {
  if (options.jsonl) {
    encode_lines(options);
    return;
  }
  const text::Tokenizer& tokenizer = options.tokenizer.get();
  write_ids(text::encode(
      tokenizer, read_input(options.input),
      options.allow_special ? text::SpecialTokens::kAllowed : text::SpecialTokens::kAsText));
}

}  // namespace

void add_encode(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("encode", "Turn text into token ids");
  const auto options = std::make_shared<EncodeOptions>();
  command.add_option("FILE", options->input, "Text to encode; '-' is stdin")->capture_default_str();
  command.add_flag("--allow-special", options->allow_special,
                   "Let <|endoftext|> in the text become its token instead of plain text");
  command.add_flag("--jsonl", options->jsonl,
                   "Answer each line {\"text\": ...} or {\"b64\": ...} (\"special\": true allows "
                   "special tokens) with {\"ids\": [...]}");
  options->tokenizer.add(command);
  add_common(command, options->common);
  command.callback([options] { run_encode(*options); });
}

}  // namespace cli
