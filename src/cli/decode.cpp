// gpt2 decode: token ids -> bytes.

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "cli/base64.h"
#include "cli/cli.h"
#include "cli/model_input.h"
#include "cli/tokenizer_option.h"

namespace cli {
namespace {

struct DecodeOptions {
  CommonOptions common;
  TokenizerOption tokenizer;
  std::string input = "-";
  bool jsonl = false;
};

constexpr std::size_t kWriteTokens = std::size_t{1} << 18;  // about a megabyte of text a write

[[noreturn]] void fail_id(std::string_view where, std::size_t position, std::size_t vocab_size,
                          std::string_view got) {
  base::fail("{}: position {} (from 0): expected a token id from 0 to {}, got {}", where, position,
             vocab_size - 1, got);
}

std::string decode_line(const text::Tokenizer& tokenizer, const nlohmann::json& object) {
  const auto list = object.find("ids");
  if (list == object.end()) base::fail("expected \"ids\", a list of token ids, got none");
  if (!list->is_array()) {
    base::fail("\"ids\": expected a list of token ids, got {}", list->type_name());
  }
  std::vector<text::TokenId> ids;
  for (const auto& value : *list) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= tokenizer.vocab_size()) {
      fail_id("\"ids\"", ids.size(), tokenizer.vocab_size(), value.dump());
    }
    ids.push_back(value.get<text::TokenId>());
  }
  const std::string bytes = tokenizer.decode(ids);
  nlohmann::ordered_json answer = {{"b64", to_base64(bytes)}};
  if (text::is_valid_utf8(bytes)) answer["text"] = bytes;
  return answer.dump();
}

/// All ids are looked at before anything is written, so that an error leaves no half output.
std::vector<text::TokenId> ids_of(const DecodeOptions& options, std::size_t vocab_size) {
  const std::string name = name_of_input(options.input);
  const std::vector<std::int32_t> numbers = parse_ids(read_input(options.input), name);
  std::vector<text::TokenId> ids;
  ids.reserve(numbers.size());
  for (const std::int32_t number : numbers) {
    if (number < 0 || static_cast<std::size_t>(number) >= vocab_size) {
      fail_id(name, ids.size(), vocab_size, std::to_string(number));
    }
    ids.push_back(static_cast<text::TokenId>(number));
  }
  return ids;
}

void run_decode(DecodeOptions& options) {
  const text::Tokenizer& tokenizer = options.tokenizer.get();
  if (options.jsonl) {
    answer_json_lines(options.input,
                      [&](const nlohmann::json& object) { return decode_line(tokenizer, object); });
    return;
  }
  const std::vector<text::TokenId> ids = ids_of(options, tokenizer.vocab_size());
  std::span<const text::TokenId> rest = ids;
  while (!rest.empty()) {
    const std::size_t count = std::min(rest.size(), kWriteTokens);
    write_output(tokenizer.decode(rest.first(count)));
    rest = rest.subspan(count);
  }
}

}  // namespace

void add_decode(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("decode", "Turn token ids back into text");
  const auto options = std::make_shared<DecodeOptions>();
  command.add_option("FILE", options->input, "Ids separated by white space; '-' is stdin")
      ->capture_default_str();
  command.add_flag("--jsonl", options->jsonl,
                   "Answer each line {\"ids\": [...]} with {\"b64\": ..., \"text\": ...}; \"text\" "
                   "is absent where the bytes are no UTF-8");
  options->tokenizer.add(command);
  add_common(command, options->common);
  command.callback([options] { run_decode(*options); });
}

}  // namespace cli
