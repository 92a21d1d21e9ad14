// Lines of JSON -> prompts: every line is looked at before anything is generated.

#include "cli/prompts.h"

#include "base/error.h"
#include "cli/cli.h"
#include "cli/tokenizer_option.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

/// Values of one line; messages name the key.
class LineReader {
 public:
  explicit LineReader(const Json& object) : object_(object) {}

  const Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  void read(const char* key, double& number) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_number()) wrong(key, "a number", *value);
    number = value->get<double>();
  }
  void read(const char* key, std::int64_t& number) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!is_whole(*value, INT64_MAX)) wrong(key, "a whole number of at least 0", *value);
    number = value->get<std::int64_t>();
  }
  void read(const char* key, std::uint64_t& number) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!is_whole(*value, UINT64_MAX)) wrong(key, "a whole number of at least 0", *value);
    number = value->get<std::uint64_t>();
  }
  void read_stops(std::vector<std::string>& stops) const {
    const Json* value = find("stop");
    if (value == nullptr) return;
    const Json list = value->is_array() ? *value : Json::array({*value});
    stops.clear();
    for (const Json& stop : list) {
      if (!stop.is_string() || stop.get_ref<const std::string&>().empty()) {
        wrong("stop", "a text, or a list of texts, none of them empty", stop);
      }
      stops.push_back(stop.get<std::string>());
    }
  }

 private:
  static bool is_whole(const Json& value, std::uint64_t limit) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() <= limit;
  }
  [[noreturn]] static void wrong(const char* key, std::string_view expected, const Json& value) {
    base::fail("\"{}\": expected {}, got {}", key, expected,
               value.is_structured() ? value.type_name()
                                     : value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }

  const Json& object_;
};

const text::Tokenizer& tokenizer_of(const LoadedModel& loaded, std::string_view what) {
  if (loaded.tokenizer) return *loaded.tokenizer;
  base::fail("model {}: {} needs a tokenizer, and the folder has no vocab.json and merges.txt",
             loaded.folder.string(), what);
}

std::vector<std::int32_t> read_ids(const Json& list, std::int64_t vocab_size) {
  if (!list.is_array()) {
    base::fail("\"prompt_ids\": expected a list of token ids, got {}", list.type_name());
  }
  std::vector<std::int32_t> ids;
  for (const Json& value : list) {
    if (!value.is_number_unsigned() ||
        value.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocab_size)) {
      base::fail("\"prompt_ids\": position {} (from 0): expected a token id from 0 to {}, got {}",
                 ids.size(), vocab_size - 1,
                 value.dump(-1, ' ', false, Json::error_handler_t::replace));
    }
    ids.push_back(value.get<std::int32_t>());
  }
  return ids;
}

void read_prompt(const LineReader& line, const LoadedModel& loaded, PromptLine& result) {
  const Json* const text = line.find("prompt");
  const Json* const ids = line.find("prompt_ids");
  if ((text == nullptr) == (ids == nullptr)) {
    base::fail("expected either \"prompt\" or \"prompt_ids\", got {}",
               text == nullptr ? "neither" : "both");
  }
  const model::Config& config = loaded.model.config();
  std::vector<std::int32_t>& prompt = result.request.prompt;
  if (ids != nullptr) {
    prompt = read_ids(*ids, config.vocab_size);
    result.prompt = {{"prompt_ids", *ids}};
  } else {
    if (!text->is_string()) base::fail("\"prompt\": expected a text, got {}", text->type_name());
    const auto& bytes = text->get_ref<const std::string&>();
    if (!bytes.empty()) prompt = encode_text(tokenizer_of(loaded, "a text prompt"), bytes);
    result.prompt = {{"prompt", *text}};
  }
  if (prompt.empty() && config.end_of_text) prompt = {*config.end_of_text};
}

PromptLine read_line(std::string_view text, const LoadedModel& loaded,
                     const PromptDefaults& defaults) {
  const Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    base::fail("expected a JSON object with \"prompt\" or \"prompt_ids\", got {}",
               object.is_discarded() ? "broken JSON" : object.type_name());
  }
  const LineReader line(object);
  PromptLine result;
  if (const auto id = object.find("id"); id != object.end()) result.id = *id;
  result.stops = defaults.stops;
  line.read_stops(result.stops);
  if (!result.stops.empty()) tokenizer_of(loaded, "a stop text");
  generate::Options& options = result.request.options;
  options = defaults.options;
  line.read("max_tokens", options.max_tokens);
  line.read("seed", options.seed);
  line.read("temperature", options.sampling.temperature);
  line.read("top_k", options.sampling.top_k);
  line.read("top_p", options.sampling.top_p);
  line.read("min_p", options.sampling.min_p);
  read_prompt(line, loaded, result);
  generate::check(loaded.model.config(), result.request.prompt, options);
  return result;
}

}  // namespace

std::vector<PromptLine> read_prompts(const std::string& path_or_dash, const LoadedModel& loaded,
                                     const PromptDefaults& defaults) {
  std::vector<PromptLine> lines;
  for_each_input_line(path_or_dash, [&](std::string_view text, std::int64_t number) {
    if (text.find_first_not_of(" \t") == std::string_view::npos) return;
    try {
      lines.push_back(read_line(text, loaded, defaults));
    } catch (const base::Error& error) {
      base::fail("{}:{}: {}", name_of_input(path_or_dash), number, error.what());
    }
  });
  return lines;
}

}  // namespace cli
