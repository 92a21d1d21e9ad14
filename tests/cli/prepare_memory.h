#pragma once
/// gpt2 prepare with a limit on its address space: what it asks for beyond that, it does not get.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "temporary_folder.h"

namespace prepare_memory {

/// What the README promises, with so many threads.
inline constexpr std::int64_t kMiB = std::int64_t{1} << 20;
inline constexpr std::int64_t promised(int threads) { return (2048 + 256 * threads) * kMiB; }

/// The sanitizers' own memory is several times the program's.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// Runs `gpt2 prepare words` in `folder` in so much address space and expects it to succeed; gives
/// what it says.
inline std::string prepare_within(const TemporaryFolder& folder, std::int64_t bytes,
                                  const std::string& words) {
  const std::string command = "cd '" + folder.path().string() + "' && ulimit -v " +
                              std::to_string(bytes / 1024) + " && '" GPT2_BINARY "' prepare " +
                              words + " 2>err";
  const int status = std::system(command.c_str());
  const std::string said = base::read_file(folder / "err");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << said;
  return said;
}

}  // namespace prepare_memory
