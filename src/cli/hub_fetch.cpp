// Fetching from the hub, as a user sees it.

#include "cli/hub_fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace cli {
namespace {

hub::Settings settings() {
  return hub::settings_from([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
}

/// "download [###...]  31%  1.2 GB of 4 GB, file 2 of 7, 9.8 MB/s, 3 min 20 s left".
std::string describe(const hub::Progress& progress) {
  if (!progress.reason.empty()) {
    return progress.wait_seconds > 0
               ? fmt::format("download: {}; trying again in {}", progress.reason,
                             human_duration(progress.wait_seconds))
               : fmt::format("download: {}; waiting for it", progress.reason);
  }
  const auto done = static_cast<double>(progress.bytes_done);
  const auto total = static_cast<double>(progress.bytes_total);
  const double rate =
      static_cast<double>(progress.bytes_received) / std::max(progress.seconds, 1e-9);
  std::string text =
      fmt::format("download {}  {} of {}, file {} of {}",
                  progress_bar(total > 0 ? done / total : 1), human_bytes(done), human_bytes(total),
                  std::min(progress.files_done + 1, progress.files_total), progress.files_total);
  if (progress.bytes_received > 0) {
    text += fmt::format(", {}/s, {} left", human_bytes(rate),
                        human_duration((total - done) / std::max(rate, 1.0)));
  }
  return text;
}

}  // namespace

hub::Fetched fetch(const hub::Spec& spec, const CommonOptions& common) {
  const hub::Settings where = settings();
  StatusLine status(common, /*plain_lines=*/false);
  const hub::Report report = [&](const hub::Progress& progress) {
    status.update(describe(progress), /*force=*/true);  // the hub's room keeps the pace
    // Where no line is shown a pause would look like a hang.
    if (!terminal() && !progress.reason.empty()) note(common, describe(progress));
  };
  const hub::Fetched fetched = spec.kind == hub::Kind::kModel
                                   ? hub::fetch_model(where, spec, report)
                                   : hub::fetch_dataset(where, spec, report);
  status.finish();
  if (!fetched.unreachable.empty()) {
    warn(fmt::format("{}; going on with commit {} from the cache", fetched.unreachable,
                     fetched.commit));
  }
  note(common, fmt::format("{} at commit {}: {} file{}, {} downloaded", spec.repository,
                           fetched.commit.substr(0, 12), fetched.names.size(),
                           fetched.names.size() == 1 ? "" : "s",
                           fetched.bytes_received == 0
                               ? "nothing"
                               : human_bytes(static_cast<double>(fetched.bytes_received))));
  return fetched;
}

std::vector<std::string> with_fetched(const std::vector<std::string>& inputs,
                                      const CommonOptions& common) {
  std::vector<std::string> result;
  for (const std::string& input : inputs) {
    if (!hub::is_hub_spec(input)) {
      result.push_back(input);
      continue;
    }
    for (const base::Path& path : fetch(hub::parse_dataset(input), common).paths()) {
      result.push_back(path.string());
    }
  }
  return result;
}

}  // namespace cli
