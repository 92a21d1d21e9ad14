#pragma once
/// The one exception type of the project and the one way to throw it.
///
/// A message answers, in this order: what failed, where, expected against got, what to do.
/// main() prints it after "gpt2: error: " as a single line and exits with code 1.

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace base {

/// Something the user or the machine got wrong. Bugs of our own are asserts instead.
class Error : public std::runtime_error {
 public:
  /// The message is one line whatever it quotes: control characters become '?'.
  explicit Error(const std::string& message) : std::runtime_error(one_line(message)) {}

 private:
  static std::string one_line(std::string message) {
    std::replace_if(
        message.begin(), message.end(),
        [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, '?');
    return message;
  }
};

/// Throws Error with a message in fmt syntax: fail("{}: expected {} bytes, got {}", path, a, b).
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace base
