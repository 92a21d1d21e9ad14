// Strings are found first and decoded when the whole line is known to be valid.

#include "data/instruction.h"

#include <fmt/format.h>

#include <cstdint>

#include "data/json_scanner.h"

namespace data {
namespace {

class InstructionParser : JsonScanner {
 public:
  explicit InstructionParser(std::span<char> line) : JsonScanner(line) {}

  std::string run(Instruction& out) {
    space();
    if (!can_begin(0)) return syntax_error();
    const std::string_view is = type();
    if (!(is == "object" ? record() : skip_value(0))) return syntax_error();
    space();
    if (at_ != end_) return syntax_error();
    if (is != "object") {
      return fmt::format(
          "expected a JSON object with 'prompt' and 'completion' or with 'messages', got {}", is);
    }
    out.text.clear();
    out.text.reserve(static_cast<std::size_t>(end_ - begin_));  // what is made is never longer
    out.segments.clear();
    if (messages_type_.empty()) return put_pair(out);
    if (!prompt_.type.empty() || !completion_.type.empty()) {
      return "expected 'prompt' and 'completion' or 'messages', got both";
    }
    return put_messages(out);
  }

 private:
  /// A value: where the string lies, or of what other type it is; no type: there is none.
  struct Value {
    std::string_view type;
    char* begin = nullptr;
    char* end = nullptr;

    std::string_view decode() const { return decode_json_string(begin, end); }
  };
  struct Message {
    std::string_view type;
    Value role, content;
  };

  bool record() {
    return members([&](std::string_view key) {
      if (is_key(key, "prompt")) return value(prompt_);
      if (is_key(key, "completion")) return value(completion_);
      if (is_key(key, "messages")) return messages();
      return skip_value(1);
    });
  }
  bool value(Value& to) {
    if (!can_begin(1)) return false;
    to.type = type();
    to.begin = at_ + 1;
    if (!skip_value(1)) return false;
    to.end = at_ - 1;
    return true;
  }
  bool messages() {
    if (!can_begin(1)) return false;
    messages_type_ = type();
    messages_.clear();  // the last of equal keys counts
    if (messages_type_ != "array") return skip_value(1);
    return elements([&] {
      if (!can_begin(2)) return false;
      Message& message = messages_.emplace_back();
      message.type = type();
      if (message.type != "object") return skip_value(2);
      return members([&](std::string_view key) {
        if (is_key(key, "role")) return value(message.role);
        if (is_key(key, "content")) return value(message.content);
        return skip_value(3);
      });
    });
  }

  /// What is wrong with a value that has to be a string, or "".
  static std::string check(const Value& value, std::string_view name) {
    if (value.type == "string") return "";
    if (value.type.empty()) return fmt::format("the field '{}' is missing", name);
    return fmt::format("field '{}': expected a string, got {}", name, value.type);
  }

  static void put(Instruction& out, std::string_view text, bool learnt) {
    out.text += text;
    if (out.segments.empty() || out.segments.back().learnt != learnt) {
      out.segments.push_back({0, learnt});
    }
    out.segments.back().bytes += text.size();
  }

  std::string put_pair(Instruction& out) {
    if (prompt_.type.empty() && completion_.type.empty()) {
      return "the fields 'prompt' and 'completion' (or 'messages') are missing";
    }
    if (std::string wrong = check(prompt_, "prompt"); !wrong.empty()) return wrong;
    if (std::string wrong = check(completion_, "completion"); !wrong.empty()) return wrong;
    if (completion_.begin == completion_.end) {
      return "field 'completion' is empty: there is nothing to learn";
    }
    put(out, prompt_.decode(), false);
    put(out, completion_.decode(), true);
    return "";
  }

  std::string put_messages(Instruction& out) {
    if (messages_type_ != "array") {
      return fmt::format("field 'messages': expected an array of messages, got {}", messages_type_);
    }
    bool answered = false;
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      const std::string wrong = put_message(out, messages_[i], answered);
      if (!wrong.empty()) return fmt::format("message {}: {}", i + 1, wrong);
    }
    if (messages_.empty()) return "field 'messages' is empty";
    return answered ? "" : "no message of the assistant has content: there is nothing to learn";
  }

  static std::string put_message(Instruction& out, const Message& message, bool& answered) {
    if (message.type != "object") return fmt::format("expected an object, got {}", message.type);
    if (std::string wrong = check(message.role, "role"); !wrong.empty()) return wrong;
    if (std::string wrong = check(message.content, "content"); !wrong.empty()) return wrong;
    const std::string_view role = message.role.decode();
    const std::string_view name = role == "system"      ? "System:"
                                  : role == "user"      ? "User:"
                                  : role == "assistant" ? "Assistant:"
                                                        : "";
    if (name.empty()) {
      return fmt::format("field 'role': expected system, user or assistant, got '{}'",
                         role.substr(0, kMostShown));
    }
    if (!out.text.empty()) put(out, "\n", false);
    put(out, name, false);
    const bool learnt = role == "assistant";
    const std::string_view content = message.content.decode();
    put(out, content.empty() ? "" : " ", learnt);
    put(out, content, learnt);
    answered = answered || (learnt && !content.empty());
    return "";
  }

  static constexpr std::size_t kMostShown = 40;  // of a role that is none

  Value prompt_, completion_;
  std::string_view messages_type_;
  std::vector<Message> messages_;
};

}  // namespace

std::string read_instruction(std::span<char> line, Instruction& instruction) {
  return InstructionParser(line).run(instruction);
}

}  // namespace data
