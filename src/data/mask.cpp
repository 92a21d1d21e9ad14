// A bit a token, beside the shard.

#include "data/mask.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "data/part.h"

namespace data {
namespace {

constexpr std::string_view kMaskSuffix = ".mask";
constexpr std::size_t kBlock = 4096;  // bytes put together at a time

constexpr std::array<char, kMaskHeaderBytes> kHeader = {'g', 'p', 't', '2', 'm', 'a', 's', 'k',
                                                        1,   0,   0,   0,   0,   0,   0,   0};

}  // namespace

std::string mask_name(std::string_view shard) {
  return base::Path(shard).replace_extension(kMaskSuffix).string();
}

std::uint64_t mask_bytes(std::int64_t tokens) {
  return kMaskHeaderBytes + (static_cast<std::uint64_t>(tokens) + 7) / 8;
}

MaskWriter::MaskWriter(const base::Path& path, std::int64_t tokens,
                       const std::optional<MaskProgress>& left)
    : path_(path), tokens_(tokens) {
  if (!left) {
    file_.emplace(part_of(path));
    file_->write(std::string_view(kHeader.data(), kHeader.size()));
    return;
  }
  const std::uint64_t full = kMaskHeaderBytes + static_cast<std::uint64_t>(tokens) / 8;
  take_up_part(path, 0, full, left->crc32c);
  keep_ = true;
  file_.emplace(part_of(path), full);
  file_->set_crc(left->crc32c);
  bits_ = left->bits;
}

MaskWriter::~MaskWriter() {
  std::error_code ignored;
  if (!keep_) std::filesystem::remove(part_of(path_), ignored);
}

void MaskWriter::append(std::span<const std::uint8_t> learnt) {
  std::array<std::uint8_t, kBlock> block;
  std::size_t used = 0;
  for (const std::uint8_t bit : learnt) {
    bits_ = static_cast<std::uint8_t>(bits_ | (bit << (tokens_ % 8)));
    if (++tokens_ % 8 != 0) continue;
    block[used++] = bits_;
    bits_ = 0;
    if (used < block.size()) continue;
    file_->write(std::as_bytes(std::span(block)));
    used = 0;
  }
  file_->write(std::as_bytes(std::span(block).first(used)));
}

MaskProgress MaskWriter::sync() {
  file_->sync();
  keep_ = true;
  return {file_->crc(), bits_};
}

std::uint32_t MaskWriter::commit() {
  if (tokens_ % 8 != 0) file_->write(std::as_bytes(std::span(&bits_, 1)));
  const std::uint32_t crc = file_->crc();
  file_->commit(path_);
  keep_ = true;
  return crc;
}

Mask::Mask(const base::Path& path, std::int64_t tokens) : file_(path) {
  const auto bytes = file_.bytes();
  if (bytes.size() < kMaskHeaderBytes ||
      std::memcmp(bytes.data(), kHeader.data(), kMaskHeaderBytes) != 0) {
    base::fail(
        "mask {}: expected a header of {} bytes that begins with 'gpt2mask' and version 1; "
        "run 'gpt2 prepare' again",
        path.string(), kMaskHeaderBytes);
  }
  if (bytes.size() != mask_bytes(tokens)) {
    base::fail("mask {}: expected {} bytes for {} tokens, file has {}; run 'gpt2 prepare' again",
               path.string(), mask_bytes(tokens), tokens, bytes.size());
  }
  bits_ = bytes.subspan(kMaskHeaderBytes);
}

}  // namespace data
