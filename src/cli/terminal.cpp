// The terminal: input, output, notes, the status line, numbers for people.

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/parallel.h"
#include "cli/cli.h"

namespace cli {
namespace {

struct TerminalSize {
  int columns = 0, rows = 0;  // 0: not known
};

TerminalSize terminal_size() {
  struct winsize size {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_col, size.ws_row};
}

/// The part of an ASCII line that fits the terminal: a wrapped line could not be overwritten.
std::string_view that_fits(std::string_view line, int columns) {
  if (columns < 2) return line;
  return line.substr(0, static_cast<std::size_t>(columns) - 1);
}

}  // namespace

void fail_usage(const std::string& message) { throw CLI::ValidationError(message); }

void add_common(CLI::App& command, CommonOptions& options) {
  command.add_flag("-q,--quiet", options.quiet, "Print nothing but results and errors");
}

void add_threads(CLI::App& command) {
  command
      .add_option_function<int>(
          "--threads", [](const int& count) { base::set_thread_count(count); },
          "Threads to use (default: every processor this process may use)")
      ->check(CLI::Range(1, 1024));
}

void note(const CommonOptions& options, std::string_view message) {
  if (!options.quiet) fmt::print(stderr, "gpt2: {}\n", message);
}

void warn(std::string_view message) { fmt::print(stderr, "gpt2: warning: {}\n", message); }

std::string read_input(const std::string& path_or_dash) {
  if (path_or_dash != "-") return base::read_file(path_or_dash);
  std::string content;
  std::string block(std::size_t{1} << 16, '\0');
  while (const std::size_t got = std::fread(block.data(), 1, block.size(), stdin)) {
    content.append(block.data(), got);
  }
  if (std::ferror(stdin) != 0) base::fail("cannot read the standard input");
  return content;
}

void for_each_input_line(
    const std::string& path_or_dash,
    const std::function<void(std::string_view text, std::int64_t number)>& line) {
  std::ifstream file;
  if (path_or_dash != "-") {
    if (std::filesystem::is_directory(path_or_dash)) {
      base::fail("cannot read {}: it is a folder, expected a file", path_or_dash);
    }
    file.open(path_or_dash, std::ios::binary);
    if (!file) base::fail("cannot open {}: {}", path_or_dash, std::strerror(errno));
  }
  std::istream& stream = path_or_dash == "-" ? std::cin : file;
  std::int64_t number = 0;
  for (std::string text; std::getline(stream, text);) {
    if (!text.empty() && text.back() == '\r') text.pop_back();
    line(text, ++number);
  }
  if (stream.bad())
    base::fail("cannot read {}: the read failed after line {}", path_or_dash, number);
}

void write_output(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() ||
      std::fflush(stdout) != 0) {
    base::fail("cannot write to the standard output: {}", std::strerror(errno));
  }
}

bool terminal() { return ::isatty(STDERR_FILENO) == 1; }

StatusLine::StatusLine(const CommonOptions& options, bool plain_lines)
    : active_(!options.quiet && (terminal() || plain_lines)), terminal_(terminal()) {}

StatusLine::~StatusLine() { finish(); }

void StatusLine::update(const std::string& text, bool force) {
  if (!active_) return;
  if (!terminal_) {
    fmt::print(stderr, "{}\n", text);
    return;
  }
  // Seconds: faster than the eye reads, cheap on a slow terminal.
  const double interval = above_ ? 0.25 : 0.1;
  const double now = base::seconds(base::Clock::kWall);
  if (!force && now - last_seconds_ < interval) return;
  last_seconds_ = now;
  shown_ = true;
  fmt::print(stderr, "{}", redrawn(text));
  std::fflush(stderr);
}

void StatusLine::set_above(Picture above) {
  const char* const kind = std::getenv("TERM");
  if (kind != nullptr && std::string_view(kind) != "dumb") above_ = std::move(above);
}

/// What takes the terminal from what was drawn last to `text` with the picture above it. The cursor
/// stays visible and ends on the line, so that nothing has to be put right however the program
/// ends.
std::string StatusLine::redrawn(const std::string& text) {
  const TerminalSize size = terminal_size();
  std::string out = "\r\x1b[2K";
  if (lines_above_ > 0) {
    // Lines of a terminal that became narrower may have been wrapped: nobody knows how many rows
    // they take now.
    out = size.columns < columns_ ? std::string("\x1b[2J\x1b[H")
                                  : fmt::format("\r\x1b[{}A\x1b[J", lines_above_);
  }
  lines_above_ = 0;
  columns_ = size.columns;
  if (above_ && size.columns > 0) {
    for (const std::string& line : above_(size.columns, size.rows)) {
      out += line + "\r\n";
      ++lines_above_;
    }
  }
  return out += that_fits(text, size.columns);
}

void StatusLine::make_room() {
  if (lines_above_ == 0) return finish();
  const bool narrower = terminal_size().columns < columns_;
  fmt::print(stderr, "{}",
             narrower ? "\x1b[2J\x1b[H" : fmt::format("\r\x1b[{}A\x1b[J", lines_above_));
  std::fflush(stderr);
  shown_ = false;
  lines_above_ = 0;
  last_seconds_ = 0;
}

void StatusLine::finish() {
  if (shown_) fmt::print(stderr, "\n");
  shown_ = false;
  lines_above_ = 0;
}

std::string progress_bar(double fraction, int width) {
  fraction = std::min(std::max(fraction, 0.0), 1.0);
  const int full = static_cast<int>(fraction * width + 0.5);
  return fmt::format("[{}{}] {:3.0f}%", std::string(static_cast<std::size_t>(full), '#'),
                     std::string(static_cast<std::size_t>(width - full), '.'), fraction * 100);
}

std::string human_duration(double seconds) {
  const auto whole = static_cast<long long>(std::max(seconds, 0.0) + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string human_count(double count) {
  constexpr std::string_view kUnits[] = {"", " k", " M", " G", " T"};
  std::size_t unit = 0;
  while (count >= 1000 && unit + 1 < std::size(kUnits)) {
    count /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f}", count) : fmt::format("{:.4g}{}", count, kUnits[unit]);
}

std::string human_bytes(double bytes) {
  std::string text = human_count(bytes);
  if (text.find(' ') == std::string::npos) text += ' ';
  return text + "B";
}

}  // namespace cli
