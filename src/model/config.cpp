// The shapes a GPT-2 may have: presets, limits, and config.json in both directions.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/model.h"

namespace model {
namespace {

using nlohmann::json;

// Limits well above any GPT-2, so that products of sizes stay far below 2^63.
constexpr std::int64_t kMaxContext = std::int64_t{1} << 20;
constexpr std::int64_t kMaxChannels = std::int64_t{1} << 16;
constexpr std::int64_t kMaxLayers = 1000;
constexpr std::int64_t kMaxVocab = 65536;  // ids are uint16 in token shards

constexpr std::int64_t kGptVocab = 50257;
constexpr std::int32_t kGptEndOfText = 50256;
constexpr double kInitializerRange = 0.02;

struct Preset {
  std::string_view name;
  std::int64_t layers, heads, channels, context;
};

// The four published sizes: Radford et al. 2019, table 2 (its 117M and 345M are counted as 124M and
// 355M today). Smallest first.
constexpr Preset kPresets[] = {
    {"tiny", 2, 2, 32, 64},       {"37m", 10, 6, 384, 1024},    {"124m", 12, 12, 768, 1024},
    {"355m", 24, 16, 1024, 1024}, {"774m", 36, 20, 1280, 1024}, {"1558m", 48, 25, 1600, 1024},
};

void check_range(std::string_view field, std::int64_t value, std::int64_t max) {
  if (value < 1 || value > max) {
    base::fail("model shape: {}: expected 1 to {}, got {}", field, max, value);
  }
}

/// config.json with messages that name the file and the key.
class ConfigReader {
 public:
  explicit ConfigReader(const base::Path& path) : what_(path.string()) {
    try {
      json_ = json::parse(base::read_file(path));
    } catch (const json::exception& error) {
      base::fail("{}: not JSON ({})", what_, error.what());
    }
    if (!json_.is_object())
      base::fail("{}: expected a JSON object, got {}", what_, json_.type_name());
  }

  /// The value of a key; null where it is absent or null, which transformers treats alike.
  const json& value(const char* key) const {
    static const json null;
    const auto found = json_.find(key);
    return found == json_.end() ? null : *found;
  }

  std::int64_t integer(const char* key) const {
    const json& v = value(key);
    if (v.is_null()) base::fail("{}: no {}", what_, key);
    if (!v.is_number_integer()) wrong(key, "a whole number", v);
    if (v.is_number_unsigned() && v.get<std::uint64_t>() > INT64_MAX) {
      wrong(key, "a whole number that fits 63 bits", v);
    }
    return v.get<std::int64_t>();
  }

  /// Refuses a switch that is set to anything but `expected`, which is also its default.
  void expect_bool(const char* key, bool expected) const {
    const json& v = value(key);
    if (v.is_null() || (v.is_boolean() && v.get<bool>() == expected)) return;
    if (!v.is_boolean()) wrong(key, "true or false", v);
    unsupported(key, expected ? "true" : "false", v);
  }

  [[noreturn]] void wrong(const char* key, std::string_view expected, const json& v) const {
    base::fail("{}: {}: expected {}, got {}", what_, key, expected, brief(v));
  }
  [[noreturn]] void unsupported(const char* key, std::string_view expected, const json& v) const {
    base::fail("{}: {}: only {} is implemented, got {}", what_, key, expected, brief(v));
  }

 private:
  /// What stands there, on one line; never a whole tree, which dump() would descend into.
  static std::string brief(const json& v) { return v.is_structured() ? v.type_name() : v.dump(); }

  std::string what_;
  json json_;
};

void refuse_other_architectures(const ConfigReader& file, std::int64_t channels) {
  const json& type = file.value("model_type");
  if (!type.is_null() && type != "gpt2") file.unsupported("model_type", "\"gpt2\"", type);
  const json& activation = file.value("activation_function");
  // Both names are the tanh form; transformers' default is the first.
  if (!activation.is_null() && activation != "gelu_new" && activation != "gelu_pytorch_tanh") {
    file.unsupported("activation_function", "\"gelu_new\"", activation);
  }
  const json& epsilon = file.value("layer_norm_epsilon");
  if (!epsilon.is_null()) {
    if (!epsilon.is_number()) file.wrong("layer_norm_epsilon", "a number", epsilon);
    // As text it may have passed through a float32.
    const double relative = epsilon.get<double>() / double{kernels::kLayerNormEpsilon} - 1.0;
    if (!(std::abs(relative) < 1e-6)) file.unsupported("layer_norm_epsilon", "1e-05", epsilon);
  }
  const json& inner = file.value("n_inner");
  if (!inner.is_null()) {
    if (!inner.is_number_integer()) file.wrong("n_inner", "a whole number or null", inner);
    if (inner.get<std::int64_t>() != 4 * channels) {
      file.unsupported("n_inner", fmt::format("4 n_embd = {}", 4 * channels), inner);
    }
  }
  file.expect_bool("tie_word_embeddings", true);
  file.expect_bool("scale_attn_weights", true);
  file.expect_bool("scale_attn_by_inverse_layer_idx", false);
  file.expect_bool("add_cross_attention", false);
}

/// transformers writes GPT-2's own id whatever the vocabulary; one outside means there is none.
std::optional<std::int32_t> end_of_text_of(const ConfigReader& file, std::int64_t vocab_size) {
  std::int64_t id = kGptEndOfText;
  if (const json& value = file.value("eos_token_id"); !value.is_null()) {
    id = file.integer("eos_token_id");
  }
  if (id < 0 || id >= vocab_size) return std::nullopt;
  return static_cast<std::int32_t>(id);
}

}  // namespace

std::int64_t Config::parameter_count() const {
  const std::int64_t c = channels;
  const std::int64_t block = 12 * c * c + 13 * c;  // 3+1+4+4 C^2 of weights, 4+3+1+4+1 C of vectors
  return vocab_size * c + context * c + layers * block + 2 * c;
}

void validate(const Config& config) {
  check_range("vocab size", config.vocab_size, kMaxVocab);
  check_range("context", config.context, kMaxContext);
  check_range("channels", config.channels, kMaxChannels);
  check_range("heads", config.heads, config.channels);
  check_range("layers", config.layers, kMaxLayers);
  if (config.channels % config.heads != 0) {
    base::fail("model shape: channels: expected a multiple of {} heads, got {}", config.heads,
               config.channels);
  }
  if (config.end_of_text && (*config.end_of_text < 0 || *config.end_of_text >= config.vocab_size)) {
    base::fail("model shape: end of text: expected an id from 0 to {}, got {}",
               config.vocab_size - 1, *config.end_of_text);
  }
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& p : kPresets) names.emplace_back(p.name);
  return names;
}

Config preset(std::string_view name) {
  const auto* const found = std::ranges::find(kPresets, name, &Preset::name);
  if (found == std::end(kPresets)) {
    std::string known;
    for (const Preset& p : kPresets)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", p.name);
    base::fail("unknown preset {}; expected one of {}", name, known);
  }
  return {.vocab_size = kGptVocab,
          .context = found->context,
          .channels = found->channels,
          .heads = found->heads,
          .layers = found->layers,
          .end_of_text = kGptEndOfText};
}

Config read_config(const base::Path& folder) {
  const base::Path path = folder / "config.json";
  const ConfigReader file(path);
  Config config;
  config.vocab_size = file.integer("vocab_size");
  config.context =
      file.integer(file.value("n_positions").is_null() && !file.value("n_ctx").is_null()
                       ? "n_ctx"  // the older name
                       : "n_positions");
  config.channels = file.integer("n_embd");
  config.heads = file.integer("n_head");
  config.layers = file.integer("n_layer");
  config.end_of_text = end_of_text_of(file, config.vocab_size);
  try {
    validate(config);
  } catch (const base::Error& error) {
    base::fail("{}: {}", path.string(), error.what());
  }
  refuse_other_architectures(file, config.channels);
  return config;
}

std::string config_json(const Config& config, DType type) {
  const auto id = [&] { return config.end_of_text ? json(*config.end_of_text) : json(nullptr); };
  const nlohmann::ordered_json object = {
      {"activation_function", "gelu_new"},
      {"architectures", nlohmann::ordered_json::array({"GPT2LMHeadModel"})},
      {"attn_pdrop", 0.0},
      {"bos_token_id", id()},
      {"embd_pdrop", 0.0},
      {"eos_token_id", id()},
      {"initializer_range", kInitializerRange},
      {"layer_norm_epsilon", 1e-5},
      {"model_type", "gpt2"},
      {"n_ctx", config.context},
      {"n_embd", config.channels},
      {"n_head", config.heads},
      {"n_inner", nullptr},
      {"n_layer", config.layers},
      {"n_positions", config.context},
      {"reorder_and_upcast_attn", false},
      {"resid_pdrop", 0.0},
      {"scale_attn_by_inverse_layer_idx", false},
      {"scale_attn_weights", true},
      {"tie_word_embeddings", true},
      {"torch_dtype", type == DType::kBf16 ? "bfloat16" : "float32"},
      {"use_cache", true},
      {"vocab_size", config.vocab_size},
  };
  return object.dump(2) + "\n";
}

}  // namespace model
