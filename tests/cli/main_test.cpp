// The program as a whole: subcommands, help, version, exit codes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/model_testing.h"

namespace {

using model_testing::Ran;
using model_testing::run;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Program, NamesASubcommandThatDoesNotExist) {
  const Ran ran = run({"tokenise"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(ran.err, "gpt2: error: unknown subcommand 'tokenise'; see 'gpt2 --help'\n");
  EXPECT_EQ(ran.out, "");
}

TEST(Program, AsksForASubcommandWhereNoneIsGiven) {
  const Ran ran = run({});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("A subcommand is required"));
}

TEST(Program, TellsItsVersion) {
  const Ran ran = run({"--version"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, StartsWith("gpt2 "));
}

TEST(Program, HelpsWithEverySubcommandItLists) {
  const Ran all = run({"--help"});
  EXPECT_EQ(all.code, 0);
  for (const char* name : {"encode", "decode", "prepare", "download", "train", "generate", "score",
                           "quantize", "info", "bench"}) {
    EXPECT_THAT(all.out, HasSubstr(name));
    const Ran help = run({name, "--help"});
    EXPECT_EQ(help.code, 0) << name;
    EXPECT_THAT(help.out, HasSubstr("--quiet")) << name;
    EXPECT_THAT(help.out, ::testing::Not(HasSubstr("9223372036854775807"))) << name;
  }
}

}  // namespace
