#pragma once
/// The hashes that the hub names files by.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hub {

/// True for `length` lower-case hexadecimal digits.
bool is_hex(std::string_view text, std::size_t length);
/// Hexadecimal digits of a commit's name: a SHA-1.
inline constexpr std::size_t kCommitDigits = 40;
/// True for what names a content: a SHA-256 (large files) or a git blob's SHA-1 (others).
bool is_content_hash(std::string_view text);

/// The hash of a file's content, computed as it arrives.
class Digest {
 public:
  /// Computes what `expected` is: SHA-256 for 64 digits; for 40 git's SHA-1 of "blob SIZE\0" and
  /// the content. Throws Error for anything else.
  Digest(std::string expected, std::uint64_t size);
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void update(std::span<const std::byte> bytes);
  /// Begins again.
  void restart();
  /// Ends the computation: the hash in hexadecimal digits.
  std::string finish();
  const std::string& expected() const { return expected_; }

 private:
  struct State;
  std::string expected_;
  std::uint64_t size_;
  std::unique_ptr<State> state_;
};

}  // namespace hub
