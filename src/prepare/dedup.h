#pragma once
/// Which documents were seen before. Private to the room.

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/growing_file.h"
#include "base/hash.h"

namespace prepare {

/// A set of 128-bit hashes in at most kMaxSetBytes of memory.
class HashSet {
 public:
  /// Some 58 million documents. A full set still knows what is in it, and takes no more.
  static constexpr std::size_t kMaxSetBytes = std::size_t{1} << 30;

  explicit HashSet(std::size_t max_bytes = kMaxSetBytes);

  enum class Outcome { kNew, kKnown, kFull };
  Outcome insert(const base::Hash128& hash);
  std::size_t size() const { return size_; }

 private:
  /// One part of the set, so that growing copies little. A slot of two zeros is free.
  struct Part {
    std::vector<base::Hash128> slots;
    std::size_t used = 0;
  };
  static constexpr std::size_t kParts = 256;

  void grow(Part& part);

  std::array<Part, kParts> parts_;
  std::size_t max_slots_;  // of a part
  std::size_t size_ = 0;
};

/// A set that a later process can take up: hashes are appended to a file as they come.
class SeenDocuments {
 public:
  /// Begins with the file's first `count` hashes.
  SeenDocuments(const base::Path& path, std::int64_t count);

  /// True for the first document with this hash.
  bool is_new(const base::Hash128& hash);
  /// Makes the file durable; returns the number of hashes in it.
  std::int64_t sync();
  /// Documents that could not be remembered because the set was full.
  std::int64_t forgotten() const { return forgotten_; }

 private:
  base::GrowingFile file_;
  HashSet set_;
  std::int64_t count_ = 0;
  std::int64_t forgotten_ = 0;
};

}  // namespace prepare
