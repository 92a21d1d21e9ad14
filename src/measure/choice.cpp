// Choosing by measurement what products run with, once a machine: the result is kept in a file.

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "measure/measure.h"

namespace measure {
namespace {

using Json = nlohmann::ordered_json;
using kernels::CpuChoice;

/// A later choice has to beat an earlier one by this much: measurements differ by chance, and our
/// own products, which come first, promise that a row does not depend on those beside it.
constexpr double kClearly = 1.1;
/// Part of what a measurement holds for: another way to measure or to decide, or other products
/// under a known name, make old files void.
constexpr int kMethod = 3;

/// What the first processor's entry in /proc/cpuinfo says under `key`.
std::string processor_fact(const std::string& text, std::string_view key) {
  const std::string processor = text.substr(0, text.find("\n\n"));
  for (std::size_t at = 0; at < processor.size();) {
    const std::size_t end = std::min(processor.find('\n', at), processor.size());
    const std::string_view line = std::string_view(processor).substr(at, end - at);
    at = end + 1;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    std::string_view name = line.substr(0, colon);
    name = name.substr(0, name.find_last_not_of(" \t") + 1);
    if (name != key) continue;
    const std::string_view value = line.substr(colon + 1);
    return std::string(value.substr(std::min(value.find_first_not_of(' '), value.size())));
  }
  return "";
}

std::string named(const CpuChoice& choice) { return choice.isa + "/" + choice.products; }

/// What a measurement holds for: this processor, this program, these choices.
std::string machine_key(DType type, const std::vector<CpuChoice>& choices) {
  std::string text;
  try {
    text = base::read_file("/proc/cpuinfo");
  } catch (const base::Error&) {  // no such system: the choices alone tell machines apart
  }
  std::string key =
      fmt::format("gpt2 {}; method {}; {}", GPT2_VERSION, kMethod, base::name_of(type));
  for (const char* fact : {"model name", "cpu family", "model", "stepping", "microcode"}) {
    key += fmt::format("; {} {}", fact, processor_fact(text, fact));
  }
  key +=
      fmt::format("; flags {:016x}", base::fnv1a64(base::as_bytes(processor_fact(text, "flags"))));
  key += "; choices";
  for (const CpuChoice& choice : choices) key += " " + named(choice);
  return key;
}

base::Path cache_file(const base::Path& folder, const std::string& key) {
  return folder / fmt::format("cpu-{:016x}.json", base::fnv1a64(base::as_bytes(key)));
}

/// The choice in a cache file; nothing where it is missing, broken, or another machine's.
std::optional<CpuChoice> cached(const base::Path& file, const std::string& key,
                                const std::vector<CpuChoice>& choices) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return std::nullopt;
  try {
    const Json json = Json::parse(base::read_file(file));
    if (json.at("machine").get<std::string>() != key) return std::nullopt;
    const CpuChoice choice{.isa = json.at("isa").get<std::string>(),
                           .products = json.at("products").get<std::string>()};
    if (std::ranges::find(choices, choice) == choices.end()) return std::nullopt;
    return choice;
  } catch (const Json::exception&) {
  } catch (const base::Error&) {
  }
  return std::nullopt;
}

void keep(const base::Path& file, const std::string& key, const CpuChoices& chosen) {
  Json rates = Json::object();
  for (std::size_t i = 0; i < chosen.choices.size(); ++i) {
    rates[named(chosen.choices[i])] = chosen.rates[i] / 1e9;
  }
  const Json json = {{"machine", key},
                     {"isa", chosen.choice.isa},
                     {"products", chosen.choice.products},
                     {"gflops", rates}};
  try {
    base::create_folders(file.parent_path());
    base::write_file(file, json.dump(2) + "\n");
  } catch (const base::Error&) {  // it is decided again next time
  }
}

}  // namespace

std::optional<base::Path> cache_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  // XDG Base Directory Specification: a relative path is to be ignored.
  const base::Path cache = variable("XDG_CACHE_HOME");
  if (cache.is_absolute()) return cache / "gpt2";
  const base::Path home = variable("HOME");
  if (home.is_absolute()) return home / ".cache" / "gpt2";
  return std::nullopt;
}

CpuChoices choose_cpu(DType compute_type, const std::optional<base::Path>& folder) {
  CpuChoices result;
  result.choices = kernels::cpu_choices(compute_type);
  result.choice = result.choices.front();
  // f32 has one way that is best by its construction; a forced instruction set leaves no question.
  if (kernels::instruction_set_is_forced()) {
    result.origin = Origin::kForced;
    return result;
  }
  if (compute_type == DType::kF32 || result.choices.size() < 2) return result;

  const std::string key = machine_key(compute_type, result.choices);
  if (folder) {
    if (const auto known = cached(cache_file(*folder, key), key, result.choices)) {
      result.choice = *known;
      result.origin = Origin::kCached;
      return result;
    }
  }
  result.origin = Origin::kMeasured;
  result.rates = kernels::try_cpu_choices(compute_type, result.choices);
  std::size_t best = 0;
  for (std::size_t i = 1; i < result.rates.size(); ++i) {
    if (result.rates[i] > result.rates[best] * kClearly) best = i;
  }
  result.choice = result.choices[best];
  if (folder) keep(cache_file(*folder, key), key, result);
  return result;
}

}  // namespace measure
