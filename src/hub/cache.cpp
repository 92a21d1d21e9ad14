// The cache's layout. Source: huggingface_hub's documentation, "Manage huggingface_hub cache".

#include "hub/cache.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hub/digest.h"

namespace hub {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kTreeVersion = 1;  // of trees/COMMIT.json

std::string folder_name(const Spec& spec) {
  std::string name = spec.kind == Kind::kModel ? "models--" : "datasets--";
  for (const char c : spec.repository) name += c == '/' ? std::string("--") : std::string(1, c);
  return name;
}

Json to_json(const Entry& entry) {
  Json json = {{"size", entry.size}, {"blob_id", entry.blob_id}};
  if (!entry.sha256.empty()) {
    json["lfs_sha256"] = entry.sha256;
    json["lfs_size"] = entry.size;
  }
  if (!entry.xet_hash.empty()) json["xet_hash"] = entry.xet_hash;
  return json;
}

Entry from_json(const Json& json) {
  Entry entry;
  entry.size = json.value("lfs_size", json.at("size").get<std::uint64_t>());
  entry.blob_id = json.at("blob_id").get<std::string>();
  entry.sha256 = json.value("lfs_sha256", std::string());
  entry.xet_hash = json.value("xet_hash", std::string());
  return entry;
}

}  // namespace

bool is_safe_name(std::string_view name) {
  const auto control = [](unsigned char c) { return c < ' ' || c == 0x7f; };
  if (name.empty() || std::any_of(name.begin(), name.end(), control)) return false;
  const fs::path path(name);
  if (path.is_absolute() || name.ends_with('/') || name.find("//") != std::string_view::npos) {
    return false;
  }
  return std::none_of(path.begin(), path.end(),
                      [](const fs::path& part) { return part == "." || part == ".."; });
}

Cache::Cache(const base::Path& root, const Spec& spec)
    : root_(root), folder_(root / folder_name(spec)) {}

std::optional<std::string> Cache::commit_of(const std::string& revision) const {
  if (is_hex(revision, kCommitDigits)) return revision;
  std::error_code absent;
  const base::Path file = folder_ / "refs" / revision;
  if (!fs::is_regular_file(file, absent)) return std::nullopt;
  std::string commit = base::read_file(file);
  while (!commit.empty() && commit.back() <= ' ') commit.pop_back();
  if (!is_hex(commit, kCommitDigits)) return std::nullopt;
  return commit;
}

void Cache::remember(const std::string& revision, const std::string& commit) const {
  if (commit_of(revision) == commit) return;
  const base::Path file = folder_ / "refs" / revision;
  base::create_folders(file.parent_path());
  base::write_file(file, commit);
}

std::optional<Tree> Cache::tree(const std::string& commit) const {
  std::error_code absent;
  const base::Path file = folder_ / "trees" / (commit + ".json");
  if (!fs::is_regular_file(file, absent)) return std::nullopt;
  Tree tree;
  try {
    const Json json = Json::parse(base::read_file(file));
    if (json.at("format_version") != kTreeVersion) return std::nullopt;
    for (const auto& [name, entry] : json.at("files").items()) tree[name] = from_json(entry);
  } catch (const Json::exception&) {
    return std::nullopt;  // it will be listed again
  }
  const bool usable = std::all_of(tree.begin(), tree.end(), [](const auto& item) {
    return is_safe_name(item.first) && is_content_hash(item.second.hash());
  });
  return usable ? std::optional(std::move(tree)) : std::nullopt;
}

void Cache::remember(const std::string& commit, const Tree& tree) const {
  Json files = Json::object();
  for (const auto& [name, entry] : tree) files[name] = to_json(entry);
  base::create_folders(folder_ / "trees");
  base::write_file(folder_ / "trees" / (commit + ".json"),
                   Json{{"format_version", kTreeVersion}, {"files", files}}.dump(
                       1, ' ', false, Json::error_handler_t::replace));
}

base::Path Cache::snapshot(const std::string& commit) const {
  return folder_ / "snapshots" / commit;
}
base::Path Cache::blob(const std::string& hash) const { return folder_ / "blobs" / hash; }
base::Path Cache::lock(const std::string& hash) const {
  return root_ / ".locks" / folder_.filename() / (hash + ".lock");
}

bool Cache::holds(const std::string& commit, const std::string& name) const {
  std::error_code broken;
  return fs::is_regular_file(snapshot(commit) / name, broken);
}

std::vector<std::string> Cache::names_of(const std::string& commit) const {
  std::vector<std::string> names;
  const base::Path folder = snapshot(commit);
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code broken;
    if (fs::is_regular_file(entry->path(), broken)) {
      names.push_back(entry->path().lexically_relative(folder).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

void Cache::link(const std::string& commit, const std::string& name,
                 const std::string& hash) const {
  const base::Path place = snapshot(commit) / name;
  base::create_folders(place.parent_path());
  const base::Path target = blob(hash).lexically_relative(place.parent_path());
  // Under another name first: the link is never absent, whoever looks.
  const base::Path temporary = place.string() + ".tmp." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0 ||
      ::rename(temporary.c_str(), place.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary.c_str());
    base::fail("cannot create the link {}: {}; set HF_HOME to a folder where links can be made",
               place.string(), std::strerror(code));
  }
}

void Cache::create() const {
  base::create_folders(folder_ / "blobs");
  base::create_folders(root_ / ".locks" / folder_.filename());
}

}  // namespace hub
