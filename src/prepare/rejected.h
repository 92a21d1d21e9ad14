#pragma once
/// Records that could not be used. Private to the room.

#include <cstdint>
#include <string>

#include "base/growing_file.h"
#include "data/data.h"

namespace prepare {

inline constexpr std::string_view kRejectedName = "rejected.jsonl";

/// rejected.jsonl: a line {"file", "line", "reason"} for each rejected record.
class RejectedLog {
 public:
  /// Goes on behind the first `keep_bytes` of the file. Makes none before there is something in it.
  RejectedLog(const base::Path& folder, std::uint64_t keep_bytes);

  void add(const data::BrokenRecord& record);
  /// Makes the file durable; returns its length.
  std::uint64_t sync();

 private:
  base::Path path_;
  std::optional<base::GrowingFile> file_;
};

}  // namespace prepare
