// A line a record.

#include "prepare/rejected.h"

#include <nlohmann/json.hpp>

namespace prepare {

RejectedLog::RejectedLog(const base::Path& folder, std::uint64_t keep_bytes)
    : path_(folder / kRejectedName) {
  if (keep_bytes > 0) file_.emplace(path_, keep_bytes);
}

void RejectedLog::add(const data::BrokenRecord& record) {
  if (!file_) file_.emplace(path_);
  const nlohmann::ordered_json line = {
      {"file", record.file()}, {"line", record.number()}, {"reason", record.reason()}};
  // A path may hold bytes that are not UTF-8.
  file_->write(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

std::uint64_t RejectedLog::sync() {
  if (!file_) return 0;
  file_->sync();
  return file_->size();
}

}  // namespace prepare
