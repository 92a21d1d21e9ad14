// What training changes: names that users give to parts of a model, and what follows for its
// passes.

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/model.h"
#include "model/parameters.h"

namespace model {
namespace {

constexpr std::string_view kBlocks = "blocks=";

/// Groups, as patterns of names.
const std::vector<std::pair<std::string_view, std::vector<std::string>>>& groups() {
  static const std::vector<std::pair<std::string_view, std::vector<std::string>>> all = {
      {"embeddings", {"wte.weight", "wpe.weight"}},
      {"blocks", {"h.*"}},
      {"attention", {"h.*.attn.*"}},
      {"mlp", {"h.*.mlp.*"}},
      {"layernorm", {"h.*.ln_1.*", "h.*.ln_2.*", "ln_f.*"}},
      {"biases", {"*.bias"}}};
  return all;
}

/// "3" or "0-5"; nothing for anything else.
std::optional<std::pair<std::int64_t, std::int64_t>> range_of(std::string_view text) {
  const auto number = [](std::string_view digits) -> std::optional<std::int64_t> {
    std::int64_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, value);
    if (digits.empty() || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
    return value;
  };
  const std::size_t dash = text.find('-');
  const auto first = number(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : number(text.substr(dash + 1));
  if (!first || !last) return std::nullopt;
  return std::pair(*first, *last);
}

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0 ||
         fnmatch((pattern + ".*").c_str(), name.c_str(), 0) == 0;
}

/// Whether `wanted`, as a user gives it, means this parameter.
bool means(std::string_view wanted, const ParameterInfo& info, const Config& config) {
  const auto* const group = [&]() -> const std::vector<std::string>* {
    for (const auto& [name, patterns] : groups()) {
      if (name == wanted) return &patterns;
    }
    return nullptr;
  }();
  if (group != nullptr) {
    return std::ranges::any_of(*group, [&](const auto& p) { return matches(p, info.name); });
  }
  if (wanted.starts_with(kBlocks)) {
    const auto range = range_of(wanted.substr(kBlocks.size()));
    const std::int64_t layer = layer_of(info.place);
    return range && range->second < config.layers && layer >= range->first &&
           layer <= range->second;
  }
  if (wanted == kHeadName) return info.name == "wte.weight";
  if (wanted.starts_with(kNamePrefix)) wanted.remove_prefix(kNamePrefix.size());
  return matches(std::string(wanted), info.name);
}

}  // namespace

void apply(const Tuning& tuning, const Config& config, std::vector<ParameterInfo>& list) {
  if (tuning.lora.active()) {
    for (ParameterInfo& info : list) info.trained = info.is_adapter;
  }
  for (const std::string& wanted : tuning.frozen) {
    bool found = false;
    for (ParameterInfo& info : list) {
      if (!means(wanted, info, config)) continue;
      found = true;
      info.trained = false;
    }
    if (found) continue;
    std::string names;
    for (const auto& [name, patterns] : groups()) names += fmt::format("{}, ", name);
    base::fail(
        "freeze: '{}' means no parameter of this model, which has blocks 0 to {}; expected {}"
        "blocks=FIRST-LAST, or names as in model.safetensors with * and ?, such as 'h.0.*' or "
        "'wte.weight'",
        wanted, config.layers - 1, names);
  }
  if (std::ranges::none_of(list, &ParameterInfo::trained)) {
    base::fail("freeze: every parameter is frozen, nothing is left to train; freeze less");
  }
}

std::int64_t trained_count(const Config& config, const Tuning& tuning) {
  std::int64_t count = 0;
  for (const ParameterInfo& info : parameter_list(config, tuning)) {
    if (info.trained) count += info.shape.elements() / info.shape[0] * info.file_rows;
  }
  return count;
}

std::int64_t lowest_trained_place(const std::vector<ParameterInfo>& list) {
  std::int64_t lowest = list.back().place;
  for (const ParameterInfo& info : list) {
    if (info.trained) lowest = std::min(lowest, info.place);
  }
  return lowest;
}

}  // namespace model
