// Options as JSON: config files, train.json, and what they are compared with on resume.

#include "train/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/error.h"

namespace train {

const std::map<std::string, Schedule>& schedule_names() {
  static const std::map<std::string, Schedule> names = {{"cosine", Schedule::kCosine},
                                                        {"linear", Schedule::kLinear},
                                                        {"constant", Schedule::kConstant},
                                                        {"wsd", Schedule::kWsd}};
  return names;
}

const std::map<std::string, DecayShape>& decay_shape_names() {
  static const std::map<std::string, DecayShape> names = {{"sqrt", DecayShape::kSqrt},
                                                          {"linear", DecayShape::kLinear}};
  return names;
}

const std::map<std::string, model::Optimizer>& optimizer_names() {
  static const std::map<std::string, model::Optimizer> names = {{"adamw", model::Optimizer::kAdamW},
                                                                {"muon", model::Optimizer::kMuon}};
  return names;
}

const std::map<std::string, base::DType>& precision_names() {
  static const std::map<std::string, base::DType> names = {{"bf16", base::DType::kBf16},
                                                           {"fp32", base::DType::kF32}};
  return names;
}

const std::map<std::string, data::Order>& order_names() {
  static const std::map<std::string, data::Order> names = {
      {"shuffled", data::Order::kShuffled}, {"sequential", data::Order::kSequential}};
  return names;
}

const std::map<std::string, model::Recompute>& recompute_names() {
  static const std::map<std::string, model::Recompute> names = {
      {"none", model::Recompute::kNone},
      {"gelu", model::Recompute::kGelu},
      {"block", model::Recompute::kBlock}};
  return names;
}

std::string name_of(model::Optimizer optimizer) {
  const auto& names = optimizer_names();
  const auto found =
      std::ranges::find_if(names, [&](const auto& entry) { return entry.second == optimizer; });
  return found->first;
}

double parse_duration(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  const std::string_view unit(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (parsed.ec != std::errc() || scale == 0 || !(value > 0) || !std::isfinite(value)) {
    base::fail("max-time: expected a time such as 90s, 30m or 2h, got '{}'", text);
  }
  return value * scale;
}

std::string DataMix::text(std::string_view between) const {
  if (sources.size() == 1) return sources.front().folder.string();
  std::string words;
  for (const DataSource& source : sources) {
    words +=
        fmt::format("{}{}={}", words.empty() ? "" : between, source.folder.string(), source.weight);
  }
  return words;
}

namespace {

template <class T>
inline constexpr bool kIsChoice =
    std::is_same_v<T, Schedule> || std::is_same_v<T, DecayShape> ||
    std::is_same_v<T, model::Optimizer> || std::is_same_v<T, base::DType> ||
    std::is_same_v<T, data::Order> || std::is_same_v<T, model::Recompute>;

template <class T>
const std::map<std::string, T>& names_of() {
  if constexpr (std::is_same_v<T, Schedule>) return schedule_names();
  if constexpr (std::is_same_v<T, DecayShape>) return decay_shape_names();
  if constexpr (std::is_same_v<T, model::Optimizer>) return optimizer_names();
  if constexpr (std::is_same_v<T, base::DType>) return precision_names();
  if constexpr (std::is_same_v<T, data::Order>) return order_names();
  if constexpr (std::is_same_v<T, model::Recompute>) return recompute_names();
}

/// "a, b, c".
std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

template <class T>
Json to_json_value(const T& value) {
  if constexpr (std::is_same_v<T, base::Path>) {
    return value.string();
  } else if constexpr (std::is_same_v<T, DataMix>) {
    if (value.sources.size() == 1) return value.sources.front().folder.string();
    Json list = Json::array();
    for (const DataSource& source : value.sources) {
      list.push_back({{"folder", source.folder.string()}, {"weight", source.weight}});
    }
    return list;
  } else if constexpr (kIsChoice<T>) {
    for (const auto& [name, choice] : names_of<T>()) {
      if (choice == value) return name;
    }
    return nullptr;
  } else {
    return value;
  }
}

/// Where a value stands, for messages.
struct Place {
  const base::Path& file;
  std::string_view key;
};

[[noreturn]] void fail_type(const Place& place, std::string_view expected, const Json& got) {
  base::fail("{}: key '{}': expected {}, got {}", place.file.string(), place.key, expected,
             got.dump());
}

template <class T>
T integer_from(const Place& place, const Json& json) {
  if (json.is_number_unsigned()) {
    const auto value = json.get<std::uint64_t>();
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<T>::max())) {
      return static_cast<T>(value);
    }
  } else if (json.is_number_integer()) {
    const auto value = json.get<std::int64_t>();
    if (std::is_signed_v<T> && value >= static_cast<std::int64_t>(std::numeric_limits<T>::min())) {
      return static_cast<T>(value);
    }
  }
  fail_type(place, "a whole number", json);
}

/// A folder, or a list of {"folder", "weight"}.
DataMix mix_from(const Place& place, const Json& json) {
  if (json.is_string()) return base::Path(json.get<std::string>());
  constexpr std::string_view kExpected =
      R"(a folder, or a list of {"folder": text, "weight": number above 0})";
  if (!json.is_array() || json.empty()) fail_type(place, kExpected, json);
  DataMix mix;
  for (const Json& entry : json) {
    const bool named = entry.is_object() && entry.contains("folder") && entry["folder"].is_string();
    const bool weighed = !named || !entry.contains("weight") || entry["weight"].is_number();
    if (!named || !weighed) fail_type(place, kExpected, entry);
    const double weight = entry.value("weight", 1.0);
    if (!(weight > 0) || !std::isfinite(weight)) fail_type(place, kExpected, entry);
    mix.sources.push_back({entry["folder"].get<std::string>(), weight});
  }
  return mix;
}

template <class T>
T from_json_value(const Place& place, const Json& json) {
  if constexpr (std::is_same_v<T, DataMix>) {
    return mix_from(place, json);
  } else if constexpr (kIsChoice<T>) {
    const auto& names = names_of<T>();
    if (json.is_string()) {
      const auto found = names.find(json.get<std::string>());
      if (found != names.end()) return found->second;
    }
    std::vector<std::string> known;
    for (const auto& [name, choice] : names) known.push_back(name);
    fail_type(place, "one of " + joined(known), json);
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) fail_type(place, "true or false", json);
    return json.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    return integer_from<T>(place, json);
  } else if constexpr (std::is_same_v<T, double>) {
    if (place.key == "max-time" && json.is_string()) {
      return parse_duration(json.get<std::string>());
    }
    if (!json.is_number()) fail_type(place, "a number", json);
    return json.get<double>();
  } else {
    if (!json.is_string()) fail_type(place, "a string", json);
    return T(json.get<std::string>());
  }
}

template <class T>
using ValueOf = typename std::remove_cvref_t<T>::value_type;

}  // namespace

Options read_options(const base::Path& file) {
  const Json json = Json::parse(base::read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    base::fail("{}: expected a JSON object of options, got {}", file.string(),
               json.is_discarded() ? "broken JSON" : "something else");
  }
  Options options;
  for (const auto& [key, value] : json.items()) {
    if (key == "facts") continue;
    bool known = false;
    std::vector<std::string> names;
    for_each_option([&, &k = key, &v = value](const char* name, auto member, OnResume) {
      names.emplace_back(name);
      if (k != name) return;
      known = true;
      using T = ValueOf<decltype(options.*member)>;
      options.*member = from_json_value<T>(Place{file, k}, v);
    });
    if (!known) {
      base::fail("{}: unknown key '{}'; expected one of {}", file.string(), key, joined(names));
    }
  }
  return options;
}

Options overlay(const Options& file, const Options& flags) {
  Options result = file;
  if (flags.epochs) result.steps.reset();
  if (flags.steps) result.epochs.reset();
  if (flags.init) {
    result.preset.reset();
    result.vocab_size.reset();
  }
  if (flags.init || flags.preset) {
    result.layers.reset();
    result.heads.reset();
    result.channels.reset();
  }
  if (flags.preset || flags.layers || flags.heads || flags.channels) result.init.reset();
  for_each_option([&](const char*, auto member, OnResume) {
    if (flags.*member) result.*member = flags.*member;
  });
  result.resume = flags.resume || file.resume;
  result.device = flags.device;
  return result;
}

Json options_json(const Options& options) {
  Json json = Json::object();
  for_each_option([&](const char* name, auto member, OnResume) {
    if (options.*member && std::string_view(name) != "max-time") {
      json[name] = to_json_value(*(options.*member));
    }
  });
  return json;
}

std::string text_of(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

std::vector<std::string> contradictions(const Options& given, const Options& run) {
  std::vector<std::string> found;
  for_each_option([&](const char* name, auto member, OnResume rule) {
    if (rule == OnResume::kMayDiffer || !(given.*member) || given.*member == run.*member) return;
    const std::string has = run.*member ? text_of(to_json_value(*(run.*member))) : "none";
    found.push_back(fmt::format("--{} {} (the run has {})", name,
                                text_of(to_json_value(*(given.*member))), has));
  });
  return found;
}

}  // namespace train
