// Token shards in llm.c's format, and the manifest that lists them.

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "data/data.h"

namespace data {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are mapped as they lie on disk");

constexpr std::size_t kHeaderWords = kShardHeaderBytes / sizeof(std::int32_t);
using Header = std::array<std::int32_t, kHeaderWords>;

Header make_header(std::int64_t tokens) {
  Header header{};
  header[0] = kShardMagic;
  header[1] = kShardVersion;
  header[2] = static_cast<std::int32_t>(tokens);
  return header;
}

/// Product of two polynomials modulo CRC-32C's, bit 31 being the coefficient of x^0.
std::uint32_t multiply_modulo_crc(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint32_t kReversed = 0x82f63b78;  // 0x1EDC6F41 bit-reversed
  std::uint32_t product = 0;
  for (std::uint32_t bit = std::uint32_t{1} << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1) != 0 ? kReversed : 0);
  }
  return product;
}

/// CRC of a || b from crc(a), crc(b) and b's length: crc(a) * x^(8 * length) + crc(b).
std::uint32_t join_crc(std::uint32_t a, std::uint32_t b, std::uint64_t b_bytes) {
  std::uint32_t power = std::uint32_t{1} << 23;  // x^8
  for (; b_bytes != 0; b_bytes >>= 1) {
    if ((b_bytes & 1) != 0) a = multiply_modulo_crc(a, power);
    power = multiply_modulo_crc(power, power);
  }
  return a ^ b;
}

nlohmann::json to_json(const std::vector<ShardInfo>& shards) {
  auto list = nlohmann::json::array();
  for (const ShardInfo& shard : shards) {
    list.push_back({{"file", shard.file},
                    {"tokens", shard.tokens},
                    {"crc32c", fmt::format("{:08x}", shard.crc32c)}});
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
      return found->get<T>();
    } catch (const nlohmann::json::exception&) {
      refuse(fmt::format("key '{}' has a value of the wrong type", key));
    }
  }
  template <class T>
  T get(const char* key) const {
    return get<T>(json_, key);
  }

  /// The objects of a list.
  std::vector<nlohmann::json> list(const char* key) const {
    auto values = get<std::vector<nlohmann::json>>(key);
    for (const auto& value : values) {
      if (!value.is_object()) refuse(fmt::format("key '{}': expected a list of objects", key));
    }
    return values;
  }

  std::vector<ShardInfo> shards(const char* key) const {
    std::vector<ShardInfo> shards;
    for (const auto& value : list(key)) {
      ShardInfo info;
      info.file = get<std::string>(value, "file");
      info.tokens = get<std::int64_t>(value, "tokens");
      const auto digits = get<std::string>(value, "crc32c");
      if (digits.size() != 8 || digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
        refuse(fmt::format("key 'crc32c': expected 8 hexadecimal digits, got '{}'", digits));
      }
      info.crc32c = static_cast<std::uint32_t>(std::stoul(digits, nullptr, 16));
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

}  // namespace

ShardWriter::ShardWriter(const base::Path& path) : file_(path) {
  const Header header = make_header(0);  // the count follows at commit()
  file_.write(std::as_bytes(std::span(header)));
}

void ShardWriter::append(std::span<const TokenId> tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (count > std::numeric_limits<std::int32_t>::max() - tokens_) {
    base::fail(
        "shard {}: expected fewer than 2^31 tokens, the width of the header's count; choose "
        "smaller shards",
        file_.path().string());
  }
  file_.write(std::as_bytes(tokens));
  payload_crc_ = base::crc32c(std::as_bytes(tokens), payload_crc_);
  tokens_ += count;
}

std::uint32_t ShardWriter::commit() {
  const Header header = make_header(tokens_);
  const auto bytes = std::as_bytes(std::span(header));
  file_.write_at(0, bytes);
  file_.commit();
  return join_crc(base::crc32c(bytes), payload_crc_,
                  static_cast<std::uint64_t>(tokens_) * sizeof(TokenId));
}

Shard::Shard(const base::Path& path) : file_(path) {
  const auto bytes = file_.bytes();
  const std::string name = path.string();
  if (bytes.size() < kShardHeaderBytes) {
    base::fail(
        "shard {}: expected a header of {} bytes, file has {} bytes; run 'gpt2 prepare' again",
        name, kShardHeaderBytes, bytes.size());
  }
  Header header;
  std::memcpy(header.data(), bytes.data(), kShardHeaderBytes);
  if (header[0] != kShardMagic) {
    base::fail("shard {}: expected magic number {}, got {}; it is not a GPT-2 token shard", name,
               kShardMagic, header[0]);
  }
  if (header[1] != kShardVersion) {
    base::fail("shard {}: expected version {}, got {}; run 'gpt2 prepare' again", name,
               kShardVersion, header[1]);
  }
  if (header[2] < 0) {
    base::fail("shard {}: header promises {} tokens; run 'gpt2 prepare' again", name, header[2]);
  }
  const auto count = static_cast<std::size_t>(header[2]);
  const std::size_t promised = kShardHeaderBytes + count * sizeof(TokenId);
  if (bytes.size() != promised) {
    base::fail(
        "shard {}: header promises {} tokens ({} bytes), file has {} bytes; run 'gpt2 "
        "prepare' again",
        name, count, promised, bytes.size());
  }
  // The mapping starts on a page and the header is even, so tokens are aligned.
  tokens_ = {reinterpret_cast<const TokenId*>(bytes.data() + kShardHeaderBytes), count};
}

void write_manifest(const base::Path& folder, const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["version"] = manifest.version;
  json["inputs"] = nlohmann::json::array();
  for (const Input& input : manifest.inputs) {
    json["inputs"].push_back({{"path", input.path}, {"bytes", input.bytes}});
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
    manifest.inputs.push_back(
        {reader.get<std::string>(value, "path"), reader.get<std::uint64_t>(value, "bytes")});
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
  manifest.train = reader.shards("train");
  manifest.validation = reader.shards("val");
  return manifest;
}

}  // namespace data
