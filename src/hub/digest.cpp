// SHA-1 and SHA-256 through libcrypto, which has the processor's own instructions for them.

#include "hub/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace hub {

namespace {

constexpr std::size_t kSha256Digits = 64;
constexpr std::size_t kSha1Digits = 40;

}  // namespace

bool is_hex(std::string_view text, std::size_t length) {
  const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == length && std::all_of(text.begin(), text.end(), digit);
}

bool is_content_hash(std::string_view text) {
  return is_hex(text, kSha256Digits) || is_hex(text, kSha1Digits);
}

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Digest::Digest(std::string expected, std::uint64_t size)
    : expected_(std::move(expected)), size_(size), state_(std::make_unique<State>()) {
  if (!is_content_hash(expected_)) {
    base::fail("'{}' is no hash: expected {} or {} hexadecimal digits", expected_, kSha256Digits,
               kSha1Digits);
  }
  restart();
}

Digest::~Digest() = default;

void Digest::restart() {
  const bool git = expected_.size() == kSha1Digits;
  if (EVP_DigestInit_ex(state_->context, git ? EVP_sha1() : EVP_sha256(), nullptr) != 1) {
    base::fail("libcrypto cannot compute {}; update it", git ? "SHA-1" : "SHA-256");
  }
  // Source: git's object format; the zero byte belongs to it.
  if (git) update(base::as_bytes(fmt::format("blob {}", size_) + '\0'));
}

void Digest::update(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1) {
    base::fail("libcrypto cannot go on with a hash");
  }
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned length = 0;
  if (EVP_DigestFinal_ex(state_->context, bytes.data(), &length) != 1) {
    base::fail("libcrypto cannot finish a hash");
  }
  std::string digits;
  for (unsigned i = 0; i < length; ++i) digits += fmt::format("{:02x}", bytes[i]);
  return digits;
}

}  // namespace hub
