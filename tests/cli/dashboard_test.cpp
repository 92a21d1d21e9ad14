// gpt2 train --dashboard under a pseudo-terminal: what stands on the screen in the end.

#include <gmock/gmock.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "cli/train_words.h"
#include "train/helpers.h"

namespace {

using testing::HasSubstr;
using testing::Not;

/// A terminal as far as the program uses it: text, \r, \n and the sequences A, J, K and H.
class Screen {
 public:
  Screen(int columns, int rows) : columns_(columns), rows_(rows) {}
  void resize(int columns, int rows) {
    columns_ = columns;
    rows_ = rows;
  }
  void feed(std::string_view bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const char c = bytes[i];
      if (c == '\x1b') {
        i = escape(bytes, i + 1);
      } else if (c == '\r') {
        column_ = 0;
      } else if (c == '\n') {
        ++row_;
      } else if ((c & 0xc0) == 0x80) {
        line(row_)[column_ - 1] += c;  // the rest of a character
      } else {
        put(std::string(1, c));
      }
      line(row_);
    }
  }
  /// Everything that was ever pushed out at the top, and the screen.
  std::string text() const {
    std::string all;
    for (const auto& cells : lines_) {
      std::string one;
      for (const std::string& cell : cells) one += cell;
      all += one.substr(0, one.find_last_not_of(' ') + 1) + "\n";
    }
    return all;
  }
  bool wrapped() const { return wrapped_; }

 private:
  using Line = std::vector<std::string>;
  Line& line(std::size_t row) {
    if (row >= lines_.size()) lines_.resize(row + 1);
    return lines_[row];
  }
  void put(const std::string& character) {
    if (column_ >= static_cast<std::size_t>(columns_)) wrapped_ = true;
    Line& cells = line(row_);
    if (column_ >= cells.size()) cells.resize(column_ + 1, " ");
    cells[column_++] = character;
  }
  std::size_t escape(std::string_view bytes, std::size_t i) {
    EXPECT_EQ(bytes[i], '[');
    int number = 0;
    for (++i; std::isdigit(static_cast<unsigned char>(bytes[i])) != 0; ++i) {
      number = number * 10 + (bytes[i] - '0');
    }
    const std::size_t top = lines_.size() > static_cast<std::size_t>(rows_)
                                ? lines_.size() - static_cast<std::size_t>(rows_)
                                : 0;
    switch (bytes[i]) {
      case 'A':
        row_ = std::max(top, row_ - std::min(row_, static_cast<std::size_t>(number)));
        break;
      case 'J':
        if (number == 2) {
          for (std::size_t row = top; row < lines_.size(); ++row) lines_[row].clear();
        } else {
          line(row_).resize(std::min(column_, line(row_).size()));
          lines_.resize(row_ + 1);
        }
        break;
      case 'K':
        line(row_).clear();
        break;
      case 'H':
        row_ = top;
        column_ = 0;
        break;
      default:
        ADD_FAILURE() << "a sequence that is not known here: ESC[" << number << bytes[i];
    }
    return i;
  }

  int columns_, rows_;
  std::vector<Line> lines_ = {{}};
  std::size_t row_ = 0, column_ = 0;
  bool wrapped_ = false;
};

/// The program on a pseudo-terminal of its own.
class Session {
 public:
  Session(const std::vector<std::string>& arguments, int columns, int rows,
          const std::string& kind = "xterm-256color")
      : screen_(columns, rows) {
    struct winsize size {};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(rows);
    std::vector<std::string> words = {GPT2_BINARY, "train"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::forkpty(&master_, nullptr, nullptr, &size);
    if (pid_ == 0) {
      // On Ctrl-C a terminal forgets what it has not shown yet: half a picture, now and then.
      struct termios modes {};
      ::tcgetattr(STDIN_FILENO, &modes);
      modes.c_lflag |= NOFLSH;
      ::tcsetattr(STDIN_FILENO, TCSANOW, &modes);
      ::setenv("TERM", kind.c_str(), 1);
      ::setenv("OMP_NUM_THREADS", "1", 1);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~Session() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    ::close(master_);
  }
  /// Reads until `enough()` or the program ends; returns whether it was enough.
  bool read_until(const std::function<bool()>& enough) {
    for (;;) {
      if (enough()) return true;
      pollfd wait{master_, POLLIN, 0};
      if (::poll(&wait, 1, 60'000) <= 0) return false;
      char block[4096];
      const ssize_t got = ::read(master_, block, sizeof block);
      if (got <= 0) return false;
      raw_.append(block, static_cast<std::size_t>(got));
      screen_.feed({block, static_cast<std::size_t>(got)});
    }
  }
  int end() {
    read_until([] { return false; });
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
  }
  void type(char c) const { ASSERT_EQ(::write(master_, &c, 1), 1); }
  void resize(int columns, int rows) {
    struct winsize size {};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(rows);
    ::ioctl(master_, TIOCSWINSZ, &size);
    screen_.resize(columns, rows);
  }
  int pictures() const { return count("\x1b[J"); }
  int count(std::string_view part) const {
    int found = 0;
    for (std::size_t at = raw_.find(part); at != std::string::npos; at = raw_.find(part, at + 1)) {
      ++found;
    }
    return found;
  }
  const std::string& raw() const { return raw_; }
  const Screen& screen() const { return screen_; }

 private:
  pid_t pid_ = -1;
  int master_ = -1;
  std::string raw_;
  Screen screen_;
};

constexpr const char* kCorner = "\u2514";  // of the picture's axes: one a picture
constexpr const char* kBraille = "\xe2\xa0";

int count_in(const std::string& text, std::string_view part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

class Dashboard : public testing::Test {
 protected:
  Dashboard() { train::make_data(folder_ / "data"); }
  std::vector<std::string> arguments(const std::string& out, int steps) const {
    auto words = train_words(folder_ / "data", folder_ / out, steps, /*val_every=*/100);
    words.emplace_back("--dashboard");
    return words;
  }
  TemporaryFolder folder_;
};

TEST_F(Dashboard, DrawsOnePictureInPlaceAboveTheLine) {
  Session session(arguments("run", 6000), 90, 30);
  EXPECT_EQ(session.end(), 0);
  EXPECT_GT(session.pictures(), 2) << session.raw();  // it was drawn again
  const std::string text = session.screen().text();
  EXPECT_EQ(count_in(text, kCorner), 1) << text;
  EXPECT_GT(count_in(text, kBraille), 20) << text;
  EXPECT_EQ(count_in(text, "gpt2: steps "), 1) << text;  // the header is as it was
  EXPECT_EQ(count_in(text, "step 6000/6000 loss "), 1) << text;
  EXPECT_THAT(text, HasSubstr("o validation "));
  EXPECT_THAT(text, HasSubstr("gpt2: finished 6000 steps"));
  EXPECT_FALSE(session.screen().wrapped() && text.find("gpt2:") == std::string::npos) << text;
}

TEST_F(Dashboard, LeavesTheTerminalAsItWasAfterCtrlC) {
  Session session(arguments("run", 1'000'000), 90, 30);
  ASSERT_TRUE(session.read_until([&] { return session.pictures() >= 2; }));
  session.type('\x03');
  EXPECT_EQ(session.end(), 130);
  const std::string text = session.screen().text();
  EXPECT_EQ(count_in(text, kCorner), 1) << text;
  EXPECT_THAT(text, HasSubstr("gpt2: stopped after step "));
  EXPECT_THAT(session.raw(), Not(HasSubstr("\x1b[?25l")));  // the cursor was never hidden
  EXPECT_TRUE(session.raw().ends_with("\r\n"));
}

TEST_F(Dashboard, FollowsATerminalThatChangesItsSize) {
  Session session(arguments("run", 1'000'000), 90, 30);
  ASSERT_TRUE(session.read_until([&] { return session.pictures() >= 2; }));
  session.resize(44, 16);
  ASSERT_TRUE(session.read_until([&] { return session.count("\x1b[2J") == 1; }));  // cleared once
  const std::size_t before = session.raw().size();
  const int pictures = session.pictures();
  ASSERT_TRUE(session.read_until([&] { return session.pictures() >= pictures + 2; }));
  Screen narrow(44, 16);
  // Whole pictures only: the last one may not have been read to its end.
  const std::size_t cleared_at = session.raw().find("\x1b[2J");
  const std::size_t last = session.raw().rfind('\r', session.raw().rfind("A\x1b[J"));
  narrow.feed(session.raw().substr(cleared_at, last - cleared_at));
  EXPECT_FALSE(narrow.wrapped()) << narrow.text();
  EXPECT_EQ(count_in(narrow.text(), kCorner), 1) << narrow.text();
  EXPECT_GT(session.raw().size(), before);

  session.resize(25, 16);  // too narrow for a picture: the line alone
  ASSERT_TRUE(session.read_until([&] { return session.count("\x1b[2J") == 2; }));
  const std::size_t cleared = session.raw().rfind("\x1b[2J");
  ASSERT_TRUE(session.read_until(
      [&] { return session.raw().find("\r\x1b[2K", cleared) != std::string::npos; }));
  EXPECT_EQ(session.raw().substr(cleared).find(kBraille), std::string::npos);
  session.type('\x03');
  EXPECT_EQ(session.end(), 130);
}

TEST_F(Dashboard, FallsBackToTheLineWhereItCannotDraw) {
  struct Case {
    int columns, rows;
    const char* kind;
  };
  for (const Case& c : {Case{90, 30, "dumb"}, Case{24, 30, "xterm"}, Case{90, 6, "xterm"}}) {
    const std::string out = std::string("run") + c.kind + std::to_string(c.rows * c.columns);
    Session session(arguments(out, 500), c.columns, c.rows, c.kind);
    EXPECT_EQ(session.end(), 0) << session.raw();
    EXPECT_EQ(session.count(kBraille), 0) << session.raw();
    EXPECT_THAT(session.raw(), HasSubstr("step 500/500 "));
  }
}

TEST_F(Dashboard, OfAResumedRunBeginsWithItsFirstStep) {
  Session first(arguments("run", 4000), 90, 30);
  ASSERT_TRUE(first.read_until([&] { return first.pictures() >= 2; }));
  first.type('\x03');
  EXPECT_EQ(first.end(), 130);
  auto words = arguments("run", 4000);
  words.push_back("--resume");
  Session second(words, 90, 30);
  EXPECT_EQ(second.end(), 0);
  EXPECT_THAT(second.screen().text(), HasSubstr(std::string(kCorner) + "1 "));
}

}  // namespace
