// Hundreds of kills change nothing.

#include "cli/prepare_kill.h"

#include "temporary_folder.h"

namespace {

TEST(PrepareKill, HundredsOfKillsChangeNothing) {
  const TemporaryFolder folder;
  prepare_kill::write_inputs(folder.path(), 12'000'000);
  prepare_kill::kill_and_compare(folder.path(), 200);
}

TEST(PrepareKill, NorDoTheyWithMasks) {
  const TemporaryFolder folder;
  prepare_kill::write_instructions(folder.path(), 12'000'000);
  prepare_kill::kill_and_compare(folder.path(), 60, {"--mask", "prompt"});
}

}  // namespace
