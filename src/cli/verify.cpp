// gpt2 verify: are the shards what preparation wrote?

#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "cli/cli.h"
#include "data/data.h"

namespace cli {
namespace {

struct VerifyOptions {
  CommonOptions common;
  std::string folder;
};

void run_verify(const VerifyOptions& options) {
  StatusLine status(options.common, /*plain_lines=*/false);
  std::uint64_t total = 0;
  const auto damaged = data::verify(options.folder, [&](std::uint64_t done, std::uint64_t all) {
    total = all;
    const double share = all == 0 ? 1 : static_cast<double>(done) / static_cast<double>(all);
    status.update(
        fmt::format("verify {}  {} of {}", progress_bar(share),
                    human_bytes(static_cast<double>(done)), human_bytes(static_cast<double>(all))),
        done == all);
  });
  status.finish();
  for (const data::Damage& shard : damaged) {
    write_output(fmt::format("{}: {}\n", shard.file, shard.what));
  }
  if (!damaged.empty()) throw ExitCode{1};
  note(options.common, fmt::format("{}: all of {} is as it was written", options.folder,
                                   human_bytes(static_cast<double>(total))));
}

}  // namespace

void add_verify(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "verify", "Compare a prepared folder's shards with their checksums: one line a damaged one");
  const auto options = std::make_shared<VerifyOptions>();
  command.add_option("DIR", options->folder, "Folder that 'gpt2 prepare' wrote")->required();
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_verify(*options); });
}

}  // namespace cli
