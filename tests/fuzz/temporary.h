#pragma once
/// A folder in memory, where there is one, that lives as long as the process.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"

namespace fuzz {

class Folder {
 public:
  explicit Folder(const std::string& name) {
    namespace fs = std::filesystem;
    const fs::path shared = "/dev/shm";
    const fs::path root = fs::is_directory(shared) ? shared : fs::temp_directory_path();
    path_ = root / ("gpt2-fuzz-" + name + "-" + std::to_string(::getpid()));
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const base::Path& path() const { return path_; }

 private:
  base::Path path_;
};

/// Aborts unless the message is one line.
inline void check_message(const std::exception& error) {
  if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
}

}  // namespace fuzz
