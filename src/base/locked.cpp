// The kernel's list of locks.

#include "base/locked.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fmt/format.h>

#include <sstream>

namespace base {

bool is_locked(const Path& folder) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) return false;
  // "12: FLOCK  ADVISORY  WRITE 4711 fe:01:393218 0 EOF" (proc_locks(5))
  const std::string wanted =
      fmt::format("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
  const Path list = "/proc/locks";
  if (!std::filesystem::exists(list)) return false;
  std::istringstream lines(read_file(list));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string number, kind, strictness, access, process, place;
    words >> number >> kind >> strictness >> access >> process >> place;
    if (kind == "FLOCK" && access == "WRITE" && place == wanted) return true;
  }
  return false;
}

}  // namespace base
