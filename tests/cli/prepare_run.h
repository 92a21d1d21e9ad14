#pragma once
/// gpt2 prepare run through the shell.

#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "base/file.h"
#include "temporary_folder.h"

namespace prepare_run {

struct Ran {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs `gpt2 prepare words` in `folder` through the shell, behind `before`.
inline Ran prepare(const TemporaryFolder& folder, const std::string& words,
                   const std::string& before = "") {
  const TemporaryFolder streams;
  const std::string command =
      "cd '" + folder.path().string() + "' && " + before + " '" GPT2_BINARY "' prepare " + words +
      " >'" + (streams / "out").string() + "' 2>'" + (streams / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          base::read_file(streams / "out"), base::read_file(streams / "err")};
}

inline std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace prepare_run
