// gpt2 report: a page about runs, or the numbers of one as a table.

#include "report/report.h"

#include <memory>

#include "base/error.h"
#include "cli/cli.h"
#include "train/train.h"

namespace cli {
namespace {

struct ReportCommand {
  CommonOptions common;
  std::vector<std::string> runs;
  std::string out;
  bool csv = false;
};

/// "a", "b"; where two folders are called the same, their paths as given.
void name_apart(std::vector<report::PageRun>& pages, const std::vector<std::string>& paths) {
  std::map<std::string, int> uses;
  for (const report::PageRun& page : pages) ++uses[page.name];
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (uses[pages[i].name] > 1) pages[i].name = paths[i];
  }
}

void write_csv(const ReportCommand& r) {
  if (r.runs.size() != 1) fail_usage("--csv takes one run");
  const std::string table = report::csv(train::read_table(r.runs.front()));
  if (r.out.empty() || r.out == "-") {
    write_output(table);
  } else {
    base::write_file(r.out, table);
  }
}

void write_page(const ReportCommand& r) {
  std::vector<report::PageRun> pages;
  for (const std::string& run : r.runs) pages.push_back(train::read_page(run));
  name_apart(pages, r.runs);
  std::string title;
  for (const report::PageRun& page : pages) title += (title.empty() ? "" : ", ") + page.name;
  const std::string html = report::html(title, pages, /*live=*/false);
  if (r.out == "-") return write_output(html);
  const base::Path file =
      r.out.empty() ? base::Path(r.runs.front()) / "report.html" : base::Path(r.out);
  base::write_file(file, html);
  note(r.common,
       fmt::format("wrote {} ({})", file.string(), human_bytes(static_cast<double>(html.size()))));
}

}  // namespace

void add_report(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("report", "Draw training runs as a page that compares them, or as CSV");
  const auto state = std::make_shared<ReportCommand>();
  command->add_option("RUN", state->runs, "Run directories of 'gpt2 train'")->required();
  command->add_option("-o,--out", state->out,
                      "File to write; -: stdout. Default: RUN/report.html for one run; --csv: "
                      "stdout");
  command->add_flag("--csv", state->csv,
                    "A line of comma-separated numbers for each step of a run");
  add_common(*command, state->common);
  command->callback([state] {
    if (state->csv) return write_csv(*state);
    if (state->runs.size() > 1 && state->out.empty()) {
      fail_usage("--out is required for several runs: the page to write");
    }
    write_page(*state);
  });
}

}  // namespace cli
