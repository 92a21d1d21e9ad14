#pragma once
/// Words: the subcommands, their options, the terminal, the exit codes.
///
/// Law: data goes to stdout, everything else to stderr; the only room that prints. One file a
/// subcommand, each with one add_*() that registers it; main.cpp holds the table of them, the only
/// catch and the only exit code: 0 success, 1 an error, 2 wrong usage, 130/143 stopped by a signal.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace cli {

/// Registers one subcommand, with its options and its callback, on the program.
void add_encode(CLI::App& app);
void add_decode(CLI::App& app);
void add_prepare(CLI::App& app);
void add_download(CLI::App& app);
void add_verify(CLI::App& app);
void add_train_tokenizer(CLI::App& app);
void add_train(CLI::App& app);
void add_generate(CLI::App& app);
void add_score(CLI::App& app);
void add_eval(CLI::App& app);
void add_quantize(CLI::App& app);
void add_info(CLI::App& app);
void add_report(CLI::App& app);
void add_bench(CLI::App& app);

/// Thrown by a callback to end the program with a code that is neither success nor an error
/// (training stopped by a signal: 130 or 143). What it had to say is already said.
struct ExitCode {
  int code;
};

/// A usage error found only after parsing (two options that exclude each other, a value that does
/// not fit): printed like any wrong usage, exit code 2.
[[noreturn]] void fail_usage(const std::string& message);

/// Options every subcommand has.
struct CommonOptions {
  bool quiet = false;
};
/// Adds --quiet to `command`. `options` must live as long as the program.
void add_common(CLI::App& command, CommonOptions& options);
/// Adds --threads N (default: all the processors this process may use), applied when parsed.
void add_threads(CLI::App& command);

/// Prints "gpt2: <message>" to stderr, unless quiet.
void note(const CommonOptions& options, std::string_view message);
/// Prints "gpt2: warning: <message>" to stderr, also when quiet.
void warn(std::string_view message);

/// Content of a file, or of stdin for "-".
std::string read_input(const std::string& path_or_dash);
/// Calls `line(text, number)` for each line of a file or of stdin ("-"), without its newline and a
/// preceding carriage return; numbers start at 1. Only one line is in memory at a time.
void for_each_input_line(
    const std::string& path_or_dash,
    const std::function<void(std::string_view text, std::int64_t number)>& line);
/// Writes to stdout at once. Throws Error when stdout is closed or full.
void write_output(std::string_view bytes);

/// True when stderr is a terminal.
bool terminal();

/// One line on stderr that is overwritten as work goes on. On something that is not a terminal, or
/// when quiet, it prints nothing (unless plain lines are asked for).
class StatusLine {
 public:
  /// `plain_lines`: where stderr is not a terminal, print each update as a line of its own.
  StatusLine(const CommonOptions& options, bool plain_lines);
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  /// Lines of text for a terminal of so many columns and rows.
  using Picture = std::function<std::vector<std::string>(int columns, int rows)>;
  /// What is drawn above the line, anew with each update; nothing where stderr is no terminal or
  /// one that cannot move its cursor (TERM=dumb).
  void set_above(Picture above);

  /// Replaces the line. Rate-limited on a terminal; `force` shows it in any case.
  void update(const std::string& text, bool force = false);
  /// Ends the line (keeps what it shows).
  void finish();
  /// Makes room for other words: ends the line, or takes it and the picture away, which come again
  /// with the next update.
  void make_room();

 private:
  bool active_;
  bool terminal_;
  std::string redrawn(const std::string& text);

  bool shown_ = false;
  Picture above_;
  int lines_above_ = 0;  // as drawn last
  int columns_ = 0;      // the terminal's then
  double last_seconds_ = 0;
};

/// "[#########......]  62%" of `width` cells for a fraction in [0, 1].
std::string progress_bar(double fraction, int width = 24);
/// "1 h 02 min", "3 min 20 s", "12 s".
std::string human_duration(double seconds);
/// "1.24 GB", "812 kB": powers of 1000.
std::string human_bytes(double bytes);
/// "124.4 M", "20.97 M", "512": powers of 1000.
std::string human_count(double count);

}  // namespace cli
