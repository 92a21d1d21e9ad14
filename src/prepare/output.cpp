// Claiming, marking and leaving the output folder.

#include "prepare/output.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "prepare/rejected.h"

namespace prepare {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Names under which a run writes: what may be removed from a folder with a marker.
bool is_ours(const std::string& name) {
  std::string_view stem = std::string_view(name).substr(0, name.find(".tmp."));
  if (stem.ends_with(data::kPartSuffix)) stem.remove_suffix(data::kPartSuffix.size());
  const bool shard = (stem.starts_with("train_") || stem.starts_with("val_")) &&
                     (stem.ends_with(".bin") || stem.ends_with(".mask"));
  constexpr std::string_view kOthers[] = {
      "train.bin",         "val.bin",      "train.mask",         "val.mask",
      "vocab.json",        "merges.txt",   kStateName,           kRejectedName,
      data::kManifestName, kDocumentsName, data::kUnfinishedName};
  return shard || std::find(std::begin(kOthers), std::end(kOthers), stem) != std::end(kOthers);
}

bool is_temporary_marker(const std::string& name) {
  return name.starts_with(std::string(data::kUnfinishedName) + ".tmp.");
}

std::vector<std::string> names_in(const base::Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) base::fail("cannot read folder {}: {}", folder.string(), error.message());
  return names;
}

/// "inputs and val-fraction": the arguments in which two runs differ, as the command line calls
/// them.
std::string differences(const json& a, const json& b) {
  std::string text;
  for (const auto& [key, value] : a.items()) {
    // Before there were masks, nothing was said of them.
    if (b.value(key, key == "mask" ? json("none") : json()) == value) continue;
    if (!text.empty()) text += " and ";
    text += key;
  }
  return text;
}

}  // namespace

json arguments_of(const data::Manifest& manifest) {
  json inputs = json::array();
  for (const data::Input& input : manifest.inputs) {
    inputs.push_back({input.path, input.bytes, input.fingerprint});
  }
  const json arguments = {{"inputs", inputs},
                          {"shard-tokens", manifest.shard_tokens},
                          {"val-fraction", manifest.validation_fraction},
                          {"text-field", manifest.text_field},
                          {"format", data::kFormatNames[static_cast<int>(manifest.format)]},
                          {"utf8", manifest.utf8},
                          {"dedup", manifest.dedup},
                          {"mask", manifest.mask},
                          {"tokenizer", manifest.vocab_hash}};
  // Through text and back, because a path that is not UTF-8 changes on its way into a file.
  return json::parse(arguments.dump(-1, ' ', false, json::error_handler_t::replace));
}

namespace {

/// What only an unfinished folder has; the marker last, by which the rest is known.
void remove_unfinished(const base::Path& folder) {
  std::error_code ignored;
  fs::remove(folder / kStateName, ignored);
  fs::remove(folder / kDocumentsName, ignored);
  fs::remove(folder / data::kUnfinishedName, ignored);
}

/// arguments_of(), and when the inputs were modified: a run goes on only with the very same files.
json marker_of(const data::Manifest& manifest) {
  json marker = arguments_of(manifest);
  json times = json::array();
  for (const data::Input& input : manifest.inputs) times.push_back(input.modified_ns);
  marker["input times"] = times;
  return marker;
}

}  // namespace

std::optional<data::Manifest> find_finished(const base::Path& folder,
                                            const data::Manifest& planned) {
  std::error_code ignored;
  if (!fs::exists(folder / data::kManifestName, ignored)) return std::nullopt;
  data::Manifest manifest = data::read_manifest(folder);
  const std::string other = differences(arguments_of(planned), arguments_of(manifest));
  if (!other.empty()) {
    base::fail(
        "{} already holds data prepared with other {}; choose another folder, or begin again with "
        "--restart",
        folder.string(), other);
  }
  remove_unfinished(folder);  // of a run killed between its last two steps
  try {
    data::TokenStream::open(folder, data::Split::kTrain);
    data::TokenStream::open(folder, data::Split::kValidation);
  } catch (const base::Error& error) {
    base::fail("{} ({} is damaged: begin again with --restart)", error.what(), folder.string());
  }
  return manifest;
}

Output::Output(base::Path folder, const data::Manifest& planned, bool restart)
    : folder_(std::move(folder)) {
  try {
    create();
    lock_.emplace(folder_);
    if (restart) clear();
    claim(marker_of(planned).dump(1) + "\n");
    state_ = read_state(folder_);
    if (!state_) remove_except({std::string(data::kUnfinishedName)});
  } catch (...) {
    if (!keep_) remove_ours();
    throw;
  }
}

Output::~Output() {
  if (!keep_) remove_ours();
}

void Output::save(const State& state) {
  write_state(folder_, state);
  keep_ = true;
}

void Output::clear() {
  std::error_code ignored;
  if (!fs::exists(folder_ / data::kManifestName, ignored) &&
      !fs::exists(folder_ / data::kUnfinishedName, ignored)) {
    return;
  }
  refuse_foreign_files();
  // The marker stays to the end, and with it what the folder is.
  remove_except({std::string(data::kUnfinishedName)});
  fs::remove(folder_ / data::kUnfinishedName, ignored);
}

void Output::refuse_foreign_files() const {
  const std::vector<std::string> names = names_in(folder_);
  const auto foreign = std::find_if_not(names.begin(), names.end(), is_ours);
  if (foreign == names.end()) return;
  base::fail("{} holds an unfinished run and also {}, which is not part of it; remove one of them",
             folder_.string(), *foreign);
}

void Output::remove_except(const std::vector<std::string>& kept) {
  std::error_code error;
  const bool keeps_state = std::find(kept.begin(), kept.end(), kStateName) != kept.end();
  if (!keeps_state) fs::remove(folder_ / kStateName, error);  // first: it speaks of the others
  for (const std::string& name : names_in(folder_)) {
    if (is_ours(name) && std::find(kept.begin(), kept.end(), name) == kept.end()) {
      std::error_code ignored;
      fs::remove(folder_ / name, ignored);
    }
  }
}

void Output::create() {
  std::error_code ignored;
  base::Path missing = fs::absolute(folder_).lexically_normal();
  if (!missing.has_filename()) missing = missing.parent_path();  // a trailing slash
  for (; !fs::exists(missing, ignored) && missing.has_relative_path();
       missing = missing.parent_path()) {
    created_.push_back(missing);
  }
  if (!created_.empty()) base::create_folders(folder_);
  if (!fs::is_directory(folder_, ignored)) {
    base::fail("cannot write to {}: expected a folder, found a file", folder_.string());
  }
}

void Output::claim(const std::string& marker) {
  const base::Path marker_path = folder_ / data::kUnfinishedName;
  std::error_code ignored;
  if (fs::exists(marker_path, ignored)) {
    keep_ = true;  // whatever is wrong with it, it is somebody's work
    const json theirs = json::parse(base::read_file(marker_path), nullptr, false);
    const std::string other =
        theirs.is_object() ? differences(json::parse(marker), theirs) : "arguments";
    if (!other.empty()) {
      base::fail(
          "{} holds an unfinished run with other {}; choose another folder, or begin again with "
          "--restart",
          folder_.string(), other);
    }
    refuse_foreign_files();
    keep_ = fs::exists(folder_ / kStateName, ignored);
    claimed_ = true;
    return;
  }
  // Killed before it was marked, a run left at most the temporary of its marker.
  const std::vector<std::string> names = names_in(folder_);
  const auto foreign = std::find_if_not(names.begin(), names.end(), is_temporary_marker);
  if (foreign != names.end()) {
    keep_ = true;
    base::fail("{} already holds other files ({}, for example); choose an empty or a new folder",
               folder_.string(), *foreign);
  }
  claimed_ = true;
  base::write_file(marker_path, marker);
}

void Output::remove_ours() noexcept {
  std::error_code ignored;
  if (std::exchange(claimed_, false)) {
    std::vector<base::Path> ours;
    for (fs::directory_iterator entry(folder_, ignored), end; !ignored && entry != end;
         entry.increment(ignored)) {
      const std::string name = entry->path().filename().string();
      if (is_ours(name) && name != data::kUnfinishedName) ours.push_back(entry->path());
    }
    for (const base::Path& path : ours) fs::remove(path, ignored);
    fs::remove(folder_ / data::kUnfinishedName, ignored);  // last: until then it can be recognised
  }
  // A folder that has something in it after all stays.
  for (const base::Path& path : created_) fs::remove(path, ignored);
}

void Output::commit(const data::Manifest& manifest) {
  data::write_manifest(folder_, manifest);
  keep_ = true;
  remove_unfinished(folder_);
  std::error_code error;
  if (fs::exists(folder_ / data::kUnfinishedName, error)) {
    base::fail("cannot remove {}", (folder_ / data::kUnfinishedName).string());
  }
  base::sync_folder(folder_);
}

}  // namespace prepare
