// One exception type, formatted messages.

#include "base/error.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace base {
namespace {

TEST(Fail, FormatsTheMessage) {
  expect_error("shard a.bin: expected 3 tokens, got 2",
               [] { fail("shard {}: expected {} tokens, got {}", "a.bin", 3, 2); });
}

TEST(Fail, LeavesBracesInArgumentsAlone) {
  expect_error("cannot read {}.txt", [] { fail("cannot read {}", "{}.txt"); });
}

TEST(Error, IsAStandardException) { EXPECT_THROW(fail("x"), std::runtime_error); }

}  // namespace
TEST(Error, IsOneLineWhateverItQuotes) {
  EXPECT_STREQ(base::Error("a\nb\tc\x7f\xC3\xA9").what(), "a?b?c?\xC3\xA9");
}

}  // namespace base
