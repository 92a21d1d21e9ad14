#pragma once
/// A file that arrives in pieces, perhaps over several runs of the program.

#include <cstdint>
#include <string_view>

#include "base/file.h"
#include "hub/digest.h"

namespace hub {

/// What has arrived of a file, kept under a name of its own until it is complete. Destruction
/// leaves it there, for a later run to go on with.
class PartialFile {
 public:
  /// Opens or creates `path`. What is there is hashed; more than `size` bytes are thrown away.
  PartialFile(base::Path path, const std::string& hash, std::uint64_t size);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  /// Bytes that have arrived.
  std::uint64_t size() const { return size_; }
  void append(std::string_view bytes);
  /// Throws away what has arrived.
  void restart();
  /// True when the content is the one expected; ends the computation of its hash.
  bool verify();
  /// Makes the file durable and gives it its final name.
  void commit(const base::Path& final_name);
  /// Removes it.
  void discard();

 private:
  base::Path path_;
  Digest digest_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// Keeps other processes, huggingface_hub's as well, from fetching the same content meanwhile.
class ContentLock {
 public:
  /// Waits for the lock at `path`; calls `waiting` first where another process holds it.
  template <class F>
  ContentLock(const base::Path& path, F&& waiting) : path_(path) {
    if (!acquire(/*wait=*/false)) {
      waiting();
      acquire(/*wait=*/true);
    }
  }
  ~ContentLock();
  ContentLock(const ContentLock&) = delete;
  ContentLock& operator=(const ContentLock&) = delete;

 private:
  bool acquire(bool wait);
  base::Path path_;
  int descriptor_ = -1;
};

}  // namespace hub
