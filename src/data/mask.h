#pragma once
/// Which tokens of a shard are learnt: part of the room's door, which includes it.
///
/// A shard NAME.bin has a mask NAME.mask: 8 bytes "gpt2mask", int32 version 1, int32 0, then a bit
/// for each token of the shard, the shared one included, from the lowest bit of the first byte on.
/// 1: the token, where it is a target, counts in the loss.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/growing_file.h"

namespace data {

/// In place of a target that does not count.
inline constexpr std::int32_t kIgnoredTarget = -1;
inline constexpr std::size_t kMaskHeaderBytes = 16;

/// "train_000000.mask" of "train_000000.bin".
std::string mask_name(std::string_view shard);
/// Of the mask of so many tokens.
std::uint64_t mask_bytes(std::int64_t tokens);

/// How far a mask is, durably; of how many tokens, its shard says.
struct MaskProgress {
  std::uint32_t crc32c = 0;  ///< of the header and the full bytes
  std::uint8_t bits = 0;     ///< the byte that is not full
};

/// Writes one mask as ShardWriter does its shard.
class MaskWriter {
 public:
  /// Begins the mask, or goes on where a sync() left it, after `tokens`.
  explicit MaskWriter(const base::Path& path, std::int64_t tokens = 0,
                      const std::optional<MaskProgress>& left = std::nullopt);
  ~MaskWriter();
  MaskWriter(const MaskWriter&) = delete;
  MaskWriter& operator=(const MaskWriter&) = delete;

  /// Whether each of the next tokens is learnt, 1 or 0.
  void append(std::span<const std::uint8_t> learnt);
  MaskProgress sync();
  /// Makes the file appear, returns its CRC-32C.
  std::uint32_t commit();

 private:
  base::Path path_;
  std::optional<base::GrowingFile> file_;
  std::int64_t tokens_ = 0;
  std::uint8_t bits_ = 0;
  bool keep_ = false;
};

/// A mask mapped into memory.
class Mask {
 public:
  /// Throws Error naming the file when header or size are not those of `tokens` tokens.
  Mask(const base::Path& path, std::int64_t tokens);
  bool learnt(std::int64_t token) const {
    return ((static_cast<unsigned>(bits_[static_cast<std::size_t>(token / 8)]) >> (token % 8)) &
            1U) != 0;
  }

  /// The whole file.
  std::span<const std::byte> bytes() const { return file_.bytes(); }

 private:
  base::MappedFile file_;
  std::span<const std::byte> bits_;
};

}  // namespace data
