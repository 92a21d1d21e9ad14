// Models: config, weights in safetensors, tokenizer. Data sets: Parquet or JSONL.

#include "hub/select.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "base/error.h"

namespace hub {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kWeights = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

bool holds(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Beside the weights; only in the repository's own folder, not below it.
bool is_small_file(std::string_view name) {
  constexpr std::array<std::string_view, 8> kNames = {
      kConfig,          "generation_config.json", "vocab.json",        "merges.txt",
      "tokenizer.json", "tokenizer_config.json",  "added_tokens.json", "special_tokens_map.json"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

/// "model-00001-of-00002.safetensors".
bool is_part(std::string_view name) {
  return name.starts_with("model-") && name.ends_with(".safetensors") &&
         name.find("-of-") != std::string_view::npos && name.find('/') == std::string_view::npos;
}

std::vector<std::string> select_model(const std::vector<std::string>& names,
                                      const std::string& subject) {
  if (!holds(names, kConfig)) base::fail("{}: it has no {}: not a model", subject, kConfig);
  const bool whole = holds(names, kWeights);
  if (!whole && !holds(names, kIndex)) {
    base::fail(
        "{}: it has no weights in safetensors ({} or {}); choose a repository or revision "
        "that has",
        subject, kWeights, kIndex);
  }
  std::vector<std::string> wanted;
  for (const std::string& name : names) {
    const bool weights = whole ? name == kWeights : name == kIndex || is_part(name);
    if (weights || is_small_file(name)) wanted.push_back(name);
  }
  return wanted;
}

/// "a, b, c and 7 more".
std::string sample(const std::vector<std::string>& names) {
  constexpr std::ptrdiff_t kShown = 4;
  std::string text;
  for (std::ptrdiff_t i = 0; i < std::min(kShown, std::ssize(names)); ++i) {
    text += (text.empty() ? "" : ", ") + names[static_cast<std::size_t>(i)];
  }
  if (std::ssize(names) > kShown) text += fmt::format(" and {} more", std::ssize(names) - kShown);
  return text.empty() ? "nothing" : text;
}

template <class F>
std::vector<std::string> filtered(const std::vector<std::string>& names, F&& wanted) {
  std::vector<std::string> result;
  std::copy_if(names.begin(), names.end(), std::back_inserter(result), wanted);
  return result;
}

std::vector<std::string> select_dataset(const std::vector<std::string>& names,
                                        const std::string& glob, const std::string& subject) {
  if (!glob.empty()) {
    const std::string pattern = glob.ends_with('/') ? glob + "*" : glob;
    // As huggingface_hub's patterns: '*' matches '/' as well.
    std::vector<std::string> wanted = filtered(names, [&](const std::string& name) {
      return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
    });
    if (wanted.empty()) {
      base::fail("{}: no file matches '{}'; it holds {}", subject, glob, sample(names));
    }
    return wanted;
  }
  for (const std::string_view suffix : {".parquet", ".jsonl"}) {
    std::vector<std::string> wanted =
        filtered(names, [&](const std::string& name) { return name.ends_with(suffix); });
    if (!wanted.empty()) return wanted;
  }
  base::fail(
      "{}: it holds neither .parquet nor .jsonl files but {}; try its revision "
      "refs/convert/parquet, or name files with ':PATTERN'",
      subject, sample(names));
}

}  // namespace

std::vector<std::string> select(const Spec& spec, const std::vector<std::string>& names,
                                const std::string& subject) {
  return spec.kind == Kind::kModel ? select_model(names, subject)
                                   : select_dataset(names, spec.glob, subject);
}

}  // namespace hub
