// Thousands of damaged files: each is refused with an Error or read as a valid file, never worse.
// Meant to run under AddressSanitizer as well.

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/rng.h"
#include "formats/formats.h"
#include "formats/safetensors_bytes.h"
#include "temporary_folder.h"

namespace {

using formats_test::file_bytes;
using formats_test::put;

constexpr int kMutations = 3000;

const std::string kHeader = R"({"__metadata__":{"format":"pt"},)"
                            R"("wte":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                            R"("e":{"dtype":"F32","shape":[0],"data_offsets":[24,24]},)"
                            R"("h":{"dtype":"BF16","shape":[2,1,2],"data_offsets":[24,32]}})";

/// Draws numbers from one stream.
struct Draws {
  std::uint64_t seed, next = 0;
  std::size_t below(std::size_t bound) {
    return static_cast<std::size_t>(base::random_below(bound, seed, 0, next++));
  }
};

/// One to four changes: bytes, pieces of JSON, cuts, doubled stretches, the length field.
std::string mutate(std::string bytes, Draws& draws) {
  static const std::vector<std::string> kPieces = {"0",
                                                   "9",
                                                   "-",
                                                   "1e9",
                                                   "18446744073709551615",
                                                   "9223372036854775807",
                                                   "[",
                                                   "]",
                                                   "{",
                                                   "}",
                                                   "\"",
                                                   ",",
                                                   ":",
                                                   "null",
                                                   "F64",
                                                   "BOOL",
                                                   "\xc3",
                                                   "\\u0000",
                                                   " "};
  const std::size_t changes = 1 + draws.below(4);
  for (std::size_t change = 0; change < changes && !bytes.empty(); ++change) {
    const std::size_t at = draws.below(bytes.size());
    switch (draws.below(7)) {
      case 0:
        bytes[at] = static_cast<char>(draws.below(256));
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << draws.below(8)));
        break;
      case 2:
        bytes.insert(at, kPieces[draws.below(kPieces.size())]);
        break;
      case 3:
        bytes.erase(at, 1 + draws.below(8));
        break;
      case 4:
        bytes.insert(at, bytes.substr(draws.below(bytes.size()), draws.below(40)));
        break;
      case 5:
        bytes.resize(at);
        break;
      default:
        bytes[draws.below(std::min<std::size_t>(bytes.size(), 8))] =
            static_cast<char>(draws.below(256));
    }
  }
  return bytes;
}

/// As mutate(), but the length field is right again, so that the damage reaches the JSON.
std::string with_true_length(std::string bytes, std::size_t data_bytes) {
  if (bytes.size() < 8 + data_bytes) return bytes;
  const std::uint64_t length = bytes.size() - 8 - data_bytes;
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes;
}

/// Touches all that a reader hands out.
std::size_t touch(const formats::TensorFile& file) {
  std::size_t sum = 0;
  for (const formats::Tensor& tensor : file.tensors()) {
    std::size_t bytes = 0;
    for (const std::byte b : tensor.bytes) sum += std::to_integer<std::size_t>(b);
    if (tensor.type && !tensor.shape.empty() && tensor.shape.size() <= 4) {
      bytes = tensor.view().bytes();
      EXPECT_EQ(bytes, tensor.bytes.size());
    }
  }
  return sum;
}

TEST(SafetensorsFuzz, DamagedFilesAreRefusedOrValid) {
  const TemporaryFolder folder;
  const base::Path path = folder / "x.safetensors";
  const std::string valid = file_bytes(kHeader, 32);
  put(path, valid);
  ASSERT_EQ(formats::TensorFile::open(path).tensors().size(), 3U);
  int refused = 0, read = 0;
  for (int i = 0; i < kMutations; ++i) {
    Draws draws{.seed = static_cast<std::uint64_t>(i)};
    std::string bytes = mutate(valid, draws);
    if (i % 2 == 0) bytes = with_true_length(std::move(bytes), 32);
    put(path, bytes);
    try {
      touch(formats::TensorFile::open(path));
      ++read;
    } catch (const base::Error& error) {
      ++refused;
      ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, kMutations / 2);
  EXPECT_GT(read, kMutations / 100);  // changed bytes of data are valid
}

TEST(SafetensorsFuzz, EveryCutIsRefused) {
  const TemporaryFolder folder;
  const base::Path path = folder / "x.safetensors";
  const std::string valid = file_bytes(kHeader, 32);
  for (std::size_t size = 0; size < valid.size(); ++size) {
    put(path, valid.substr(0, size));
    EXPECT_THROW(formats::TensorFile::open(path), base::Error) << size;
  }
}

}  // namespace
