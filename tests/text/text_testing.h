#pragma once
/// What the room's tests share: an expected message, a scratch folder, random bytes, base64.

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"

namespace text_testing {

/// Expects `run` to throw Error with exactly this message.
template <class Run>
void expect_error(const std::string& message, Run&& run) {
  try {
    run();
    ADD_FAILURE() << "expected the error: " << message;
  } catch (const base::Error& error) {
    EXPECT_EQ(error.what(), message);
  }
}

/// A folder of its own, removed at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "gpt2_text_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) base::fail("cannot create {}", name);
    path_ = name;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const base::Path& path() const { return path_; }

 private:
  base::Path path_;
};

/// Numbers that are the same in every run.
class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  std::size_t below(std::size_t bound) {
    return static_cast<std::size_t>(base::random_bits(seed_, 0, index_++) % bound);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t index_ = 0;
};

/// The bytes behind standard base64 (RFC 4648, section 4).
inline std::string from_base64(std::string_view base64) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : base64.substr(0, base64.find('='))) {
    bits = bits << 6 | static_cast<std::uint32_t>(kDigits.find(c));
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xFF);
    }
  }
  return bytes;
}

}  // namespace text_testing
