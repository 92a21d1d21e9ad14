// Token shards in llm.c's format and in nanoGPT's.

#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "data/data.h"
#include "data/part.h"

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

/// Bytes before the tokens.
std::uint64_t header_bytes(ShardFormat format) {
  return format == ShardFormat::kLlmc ? kShardHeaderBytes : 0;
}

}  // namespace

ShardWriter::ShardWriter(const base::Path& path, ShardFormat format,
                         const std::optional<ShardProgress>& left)
    : path_(path), format_(format) {
  const std::uint64_t header = header_bytes(format);
  if (left) {
    tokens_ = left->tokens;
    const std::uint64_t size = header + static_cast<std::uint64_t>(tokens_) * sizeof(TokenId);
    take_up_part(path, header, size, left->crc32c);
    keep_ = true;
    file_.emplace(part_of(path), size);
    file_->set_crc(left->crc32c);
    return;
  }
  file_.emplace(part_of(path));
  if (header == 0) return;
  const Header empty = make_header(0);  // the count follows at commit()
  file_->write(std::as_bytes(std::span(empty)));
  file_->crc();
  file_->set_crc(0);
}

ShardWriter::~ShardWriter() {
  std::error_code ignored;
  if (!keep_) std::filesystem::remove(part_of(path_), ignored);
}

void ShardWriter::append(std::span<const TokenId> tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (format_ == ShardFormat::kLlmc && count > std::numeric_limits<std::int32_t>::max() - tokens_) {
    base::fail(
        "shard {}: expected fewer than 2^31 tokens, the width of the header's count; choose "
        "smaller shards",
        path_.string());
  }
  file_->write(std::as_bytes(tokens));
  tokens_ += count;
}

ShardProgress ShardWriter::sync() {
  file_->sync();
  keep_ = true;
  return {tokens_, file_->crc()};
}

std::uint32_t ShardWriter::commit() {
  std::uint32_t crc = file_->crc();
  if (format_ == ShardFormat::kLlmc) {
    const Header header = make_header(tokens_);
    const auto bytes = std::as_bytes(std::span(header));
    file_->write_at(0, bytes);
    crc = join_crc(base::crc32c(bytes), crc, static_cast<std::uint64_t>(tokens_) * sizeof(TokenId));
  }
  file_->commit(path_);
  keep_ = true;
  return crc;
}

Shard::Shard(const base::Path& path, std::optional<ShardFormat> format) : file_(path) {
  const auto bytes = file_.bytes();
  if (!format) {
    const std::string name = path.filename().string();
    const bool may_be_plain = name == "train.bin" || name == "val.bin";
    const bool has_magic = bytes.size() >= sizeof kShardMagic &&
                           std::memcmp(bytes.data(), &kShardMagic, sizeof kShardMagic) == 0;
    format = may_be_plain && !has_magic ? ShardFormat::kNanogpt : ShardFormat::kLlmc;
  }
  if (*format == ShardFormat::kLlmc) {
    read_header();
    return;
  }
  if (bytes.size() % sizeof(TokenId) != 0) {
    base::fail("shard {}: expected 2 bytes a token, file has {} bytes; run 'gpt2 prepare' again",
               path.string(), bytes.size());
  }
  tokens_ = {reinterpret_cast<const TokenId*>(bytes.data()), bytes.size() / sizeof(TokenId)};
}

void Shard::read_header() {
  const auto bytes = file_.bytes();
  const std::string name = path().string();
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

}  // namespace data
