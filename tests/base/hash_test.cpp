// Hashes and checksums: fixed values, every length, every bit.

#include "base/hash.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/growing_file.h"
#include "base/rng.h"
#include "temporary_folder.h"

namespace base {
namespace {

std::string noise(std::size_t bytes) {
  std::string text;
  for (std::uint64_t i = 0; i < bytes; ++i) text += static_cast<char>(random_bits(1, 2, i));
  return text;
}

TEST(Hash128, ValuesAreFixed) {
  EXPECT_EQ(to_hex(hash128("")), "03d2d362a413b1344ebdb6bcc3c7cae2");
  EXPECT_EQ(to_hex(hash128("abc")), "f9d989fb11d38d10c597e3ba4f1068c1");
  EXPECT_EQ(to_hex(chain_hash(std::string(300'000, 'x'))), "81e3205acd7ba56c00f84a838d3ac270");
}

TEST(Hash128, DiffersForEveryLengthAndBit) {
  const std::string text = noise(100);
  std::set<std::string> seen;
  std::size_t count = 0;
  for (std::size_t length = 0; length <= text.size(); ++length) {
    seen.insert(to_hex(hash128(std::string_view(text).substr(0, length))));
    seen.insert(to_hex(hash128(std::string(length, '\0'))));
    count += length == 0 ? 1 : 2;
  }
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string other = text;
    other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << (bit % 8)));
    seen.insert(to_hex(hash128(other)));
    ++count;
  }
  EXPECT_EQ(seen.size(), count);
}

TEST(Crc32c, InstructionAndTablesAgree) {
  const std::string text = noise(300);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t length = 0; length + begin <= text.size(); ++length) {
      const auto bytes = as_bytes(std::string_view(text).substr(begin, length));
      ASSERT_EQ(crc32c(bytes, 5), crc32c_by_tables(bytes, 5));
    }
  }
}

TEST(GrowingFile, IsTakenUpWhereItWasSynced) {
  const TemporaryFolder folder;
  const std::string text = noise(700'000);
  std::uint64_t kept = 0;
  std::uint32_t crc = 0;
  {
    GrowingFile file(folder / "part");
    file.write(std::string_view(text).substr(0, 300'000));
    file.sync();
    kept = file.size();
    crc = file.crc();
    file.write(std::string_view("lost"));
    file.crc();  // written, but not to be kept
  }
  EXPECT_EQ(crc, crc32c(as_bytes(std::string_view(text).substr(0, 300'000))));
  GrowingFile file(folder / "part", kept);
  file.set_crc(crc);
  file.write(std::string_view(text).substr(300'000));
  EXPECT_EQ(file.crc(), crc32c(as_bytes(text)));
  file.commit(folder / "whole");
  EXPECT_EQ(read_file(folder / "whole"), text);
  EXPECT_FALSE(std::filesystem::exists(folder / "part"));
  EXPECT_THROW(GrowingFile(folder / "whole", 700'001), Error);
}

}  // namespace
}  // namespace base
