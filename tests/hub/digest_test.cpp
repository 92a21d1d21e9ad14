#include "hub/digest.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "expect_error.h"

namespace {

std::string hash(const std::string& content, std::size_t digits) {
  hub::Digest digest(std::string(digits, '0'), content.size());
  digest.update(base::as_bytes(content).first(content.size() / 2));
  digest.update(base::as_bytes(content).subspan(content.size() / 2));
  return digest.finish();
}

TEST(Digest, OfLargeFilesIsSha256) {
  // Source: FIPS 180-2, appendix B.1, and the well-known hash of nothing.
  EXPECT_EQ(hash("abc", 64), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("", 64), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Digest, OfSmallFilesIsGits) {
  // Source: git hash-object of a file with "hello\n", and of an empty one.
  EXPECT_EQ(hash("hello\n", 40), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(hash("", 40), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST(Digest, BeginsAgain) {
  hub::Digest digest(std::string(40, '0'), 6);
  digest.update(base::as_bytes("wrong"));
  digest.restart();
  digest.update(base::as_bytes("hello\n"));
  EXPECT_EQ(digest.finish(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(Digest, RefusesWhatIsNoHash) {
  expect_error("'../x' is no hash: expected 64 or 40 hexadecimal digits",
               [] { hub::Digest digest("../x", 1); });
  EXPECT_FALSE(hub::is_content_hash(std::string(40, 'g')));
  EXPECT_FALSE(hub::is_content_hash(std::string(41, 'a')));
}

}  // namespace
