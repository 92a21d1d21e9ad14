// manifest.json of a prepared folder.

#include <nlohmann/json.hpp>
#include <type_traits>

#include "base/error.h"
#include "base/json_integer.h"
#include "data/data.h"

namespace data {
namespace {

nlohmann::json to_json(const std::vector<ShardInfo>& shards) {
  auto list = nlohmann::json::array();
  for (const ShardInfo& shard : shards) {
    nlohmann::json entry = {{"file", shard.file},
                            {"tokens", shard.tokens},
                            {"crc32c", fmt::format("{:08x}", shard.crc32c)}};
    if (shard.mask_crc32c) entry["mask_crc32c"] = fmt::format("{:08x}", *shard.mask_crc32c);
    list.push_back(std::move(entry));
  }
  return list;
}

/// Reads a manifest's keys, and knows which one it stands at when something is wrong.
class ManifestReader {
 public:
  explicit ManifestReader(const base::Path& path) : path_(path) {
    try {
      json_ = nlohmann::json::parse(base::read_file(path));
    } catch (const nlohmann::json::exception& error) {
      base::fail("{}: not valid JSON ({}); run 'gpt2 prepare' again", path_.string(), error.what());
    }
    if (!json_.is_object()) refuse("expected a JSON object");
  }

  template <class T>
  T get(const nlohmann::json& object, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) refuse(fmt::format("key '{}' is missing", key));
    try {
      if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
        return base::json_integer<T>(*found);
      } else {
        return found->get<T>();
      }
    } catch (const nlohmann::json::exception&) {
      refuse(fmt::format("key '{}' has a value of the wrong type", key));
    } catch (const base::Error& error) {
      refuse(fmt::format("key '{}': {}", key, error.what()));
    }
  }
  template <class T>
  T get(const char* key) const {
    return get<T>(json_, key);
  }

  /// The value of a key, or `otherwise` where there is none.
  template <class T>
  T get_or(const nlohmann::json& object, const char* key, const T& otherwise) const {
    return object.contains(key) ? get<T>(object, key) : otherwise;
  }
  template <class T>
  T get_or(const char* key, const T& otherwise) const {
    return get_or<T>(json_, key, otherwise);
  }

  /// The objects of a list.
  std::vector<nlohmann::json> list(const char* key) const {
    auto values = get<std::vector<nlohmann::json>>(key);
    for (const auto& value : values) {
      if (!value.is_object()) refuse(fmt::format("key '{}': expected a list of objects", key));
    }
    return values;
  }

  std::uint32_t checksum(const nlohmann::json& value, const char* key) const {
    const auto digits = get<std::string>(value, key);
    if (digits.size() != 8 || digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
      refuse(fmt::format("key '{}': expected 8 hexadecimal digits, got '{}'", key, digits));
    }
    return static_cast<std::uint32_t>(std::stoul(digits, nullptr, 16));
  }

  std::vector<ShardInfo> shards(const char* key, bool has_masks) const {
    std::vector<ShardInfo> shards;
    for (const auto& value : list(key)) {
      ShardInfo info;
      info.file = get<std::string>(value, "file");
      info.tokens = get<std::int64_t>(value, "tokens");
      info.crc32c = checksum(value, "crc32c");
      if (has_masks) info.mask_crc32c = checksum(value, "mask_crc32c");
      if (base::Path(info.file).filename() != info.file) {
        refuse(fmt::format("key 'file': expected a name inside the folder, got '{}'", info.file));
      }
      shards.push_back(std::move(info));
    }
    return shards;
  }

  [[noreturn]] void refuse(const std::string& what) const {
    base::fail("{}: {}; run 'gpt2 prepare' again", path_.string(), what);
  }

 private:
  base::Path path_;
  nlohmann::json json_;
};

/// Keys that older manifests lack.
void read_choices(const ManifestReader& reader, Manifest& manifest) {
  const auto name = reader.get_or<std::string>("format", std::string(kFormatNames[0]));
  if (name != kFormatNames[0] && name != kFormatNames[1]) {
    reader.refuse(fmt::format("key 'format': expected llmc or nanogpt, got '{}'", name));
  }
  manifest.format = name == kFormatNames[0] ? ShardFormat::kLlmc : ShardFormat::kNanogpt;
  manifest.utf8 = reader.get_or("utf8", manifest.utf8);
  manifest.dedup = reader.get_or("dedup", manifest.dedup);
  manifest.rejected = reader.get_or("rejected", manifest.rejected);
  manifest.duplicates = reader.get_or("duplicates", manifest.duplicates);
  manifest.mask = reader.get_or("mask", manifest.mask);
  if (manifest.mask != "none" && manifest.mask != "prompt") {
    reader.refuse(fmt::format("key 'mask': expected none or prompt, got '{}'", manifest.mask));
  }
  manifest.train_learnt = reader.get_or("train_learnt", manifest.train_learnt);
  manifest.validation_learnt = reader.get_or("val_learnt", manifest.validation_learnt);
}

}  // namespace

void write_manifest(const base::Path& folder, const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["version"] = manifest.version;
  json["inputs"] = nlohmann::json::array();
  for (const Input& input : manifest.inputs) {
    nlohmann::ordered_json entry = {{"path", input.path}, {"bytes", input.bytes}};
    if (!input.fingerprint.empty()) entry["fingerprint"] = input.fingerprint;
    json["inputs"].push_back(std::move(entry));
  }
  json["documents"] = manifest.documents;
  json["tokens"] = manifest.train_tokens + manifest.validation_tokens;
  json["train_tokens"] = manifest.train_tokens;
  json["val_tokens"] = manifest.validation_tokens;
  json["overlap"] = manifest.overlap;
  json["shard_tokens"] = manifest.shard_tokens;
  json["val_fraction"] = manifest.validation_fraction;
  json["text_field"] = manifest.text_field;
  json["vocab_size"] = manifest.vocab_size;
  json["vocab_hash"] = manifest.vocab_hash;
  json["end_of_text"] = manifest.end_of_text;
  json["format"] = kFormatNames[static_cast<int>(manifest.format)];
  json["utf8"] = manifest.utf8;
  json["dedup"] = manifest.dedup;
  json["rejected"] = manifest.rejected;
  json["duplicates"] = manifest.duplicates;
  if (manifest.mask != "none") {
    json["mask"] = manifest.mask;
    json["train_learnt"] = manifest.train_learnt;
    json["val_learnt"] = manifest.validation_learnt;
  }
  json["train"] = to_json(manifest.train);
  json["val"] = to_json(manifest.validation);
  // A path may hold bytes that are not UTF-8; they are shown as U+FFFD rather than refused.
  const auto lenient = nlohmann::ordered_json::error_handler_t::replace;
  base::write_file(folder / kManifestName, json.dump(1, ' ', false, lenient) + "\n");
}

Manifest read_manifest(const base::Path& folder) {
  const ManifestReader reader(folder / kManifestName);
  Manifest manifest;
  const int version = reader.get<int>("version");
  if (version != manifest.version) {
    reader.refuse(fmt::format("expected version {}, got {}", manifest.version, version));
  }
  for (const auto& value : reader.list("inputs")) {
    manifest.inputs.push_back({reader.get<std::string>(value, "path"),
                               reader.get<std::uint64_t>(value, "bytes"),
                               reader.get_or(value, "fingerprint", std::string()), 0});
  }
  manifest.documents = reader.get<std::int64_t>("documents");
  manifest.train_tokens = reader.get<std::int64_t>("train_tokens");
  manifest.validation_tokens = reader.get<std::int64_t>("val_tokens");
  const auto tokens = reader.get<std::int64_t>("tokens");
  const auto unsigned_of = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };  // wraps
  if (unsigned_of(tokens) !=
      unsigned_of(manifest.train_tokens) + unsigned_of(manifest.validation_tokens)) {
    reader.refuse(
        fmt::format("key 'tokens': expected the sum of 'train_tokens' and 'val_tokens', "
                    "got {}",
                    tokens));
  }
  manifest.overlap = reader.get<int>("overlap");
  if (manifest.overlap != 0 && manifest.overlap != 1) {
    reader.refuse(fmt::format("key 'overlap': expected 0 or 1, got {}", manifest.overlap));
  }
  manifest.shard_tokens = reader.get<std::int64_t>("shard_tokens");
  manifest.validation_fraction = reader.get<double>("val_fraction");
  manifest.text_field = reader.get<std::string>("text_field");
  manifest.vocab_size = reader.get<std::int64_t>("vocab_size");
  manifest.vocab_hash = reader.get<std::string>("vocab_hash");
  manifest.end_of_text = reader.get<std::int64_t>("end_of_text");
  read_choices(reader, manifest);
  const bool has_masks = manifest.mask != "none";
  manifest.train = reader.shards("train", has_masks);
  manifest.validation = reader.shards("val", has_masks);
  return manifest;
}

}  // namespace data
