// gpt2 encode and gpt2 decode, run as a user runs them.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "base/file.h"
#include "cli/base64.h"
#include "text/text.h"

namespace {

using nlohmann::json;

struct Ran {
  int code;
  std::string out;
  std::string err;
};

class Commands : public ::testing::Test {
 protected:
  Commands() {
    std::string name = (std::filesystem::temp_directory_path() / "gpt2_cli_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    folder_ = name;
  }
  ~Commands() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// Runs `gpt2 arguments` (words of a shell) with `input` on stdin.
  Ran run(const std::string& arguments, const std::string& input = "") const {
    base::write_file(path("stdin"), input);
    const std::string command = "'" GPT2_BINARY "' " + arguments + " <" + path("stdin") + " >" +
                                path("stdout") + " 2>" + path("stderr");
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, base::read_file(path("stdout")),
            base::read_file(path("stderr"))};
  }

  void expect_output(const std::string& arguments, const std::string& input,
                     const std::string& output) const {
    const Ran ran = run(arguments, input);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out, output);
    EXPECT_EQ(ran.err, "");
  }

  void expect_error(const std::string& arguments, const std::string& input,
                    const std::string& message, const std::string& output = "") const {
    const Ran ran = run(arguments, input);
    EXPECT_EQ(ran.code, 1);
    EXPECT_EQ(ran.out, output);
    EXPECT_EQ(ran.err, "gpt2: error: " + message + "\n");
  }

  base::Path folder_;
};

std::string as_words(const std::vector<text::TokenId>& ids) {
  std::string words;
  for (const text::TokenId id : ids) {
    if (!words.empty()) words += ' ';
    words += std::to_string(id);
  }
  return words + "\n";
}

// ---- encode ---------------------------------------------------------------------------------

using Encode = Commands;

TEST_F(Encode, PrintsIdsAndANewline) {
  expect_output("encode", "Hello world", "15496 995\n");
  expect_output("encode -", "Hello world\n", "15496 995 198\n");
  expect_output("encode", "", "\n");
}

TEST_F(Encode, ReadsAFile) {
  base::write_file(path("in.txt"), "Hello world");
  expect_output("encode " + path("in.txt"), "", "15496 995\n");
}

TEST_F(Encode, TakesSpecialTokensForTextUnlessAllowed) {
  expect_output("encode", "<|endoftext|>", "27 91 437 1659 5239 91 29\n");
  expect_output("encode --allow-special", "a<|endoftext|>", "64 50256\n");
}

TEST_F(Encode, WritesMegabytes) {
  std::string bytes;
  while (bytes.size() < 3'000'000) bytes += "It is a truth universally acknowledged, \xff 1813. ";
  const Ran encoded = run("encode", bytes);
  EXPECT_EQ(encoded.out, as_words(text::encode(text::Tokenizer::gpt2(), bytes)));
  EXPECT_EQ(run("decode", encoded.out).out, bytes);
}

TEST_F(Encode, AnswersLinesOfJson) {
  expect_output("encode --jsonl",
                "{\"text\": \"Hello world\"}\n"
                "{\"b64\": \"/w==\", \"id\": 7}\r\n"
                "\n"
                "{\"text\": \"<|endoftext|>\", \"special\": true}\n"
                "{\"text\": \"<|endoftext|>\", \"special\": false}\n"
                "{\"text\": \"\"}",
                "{\"ids\": [15496, 995]}\n"
                "{\"ids\": [187]}\n"
                "{\"ids\": [50256]}\n"
                "{\"ids\": [27, 91, 437, 1659, 5239, 91, 29]}\n"
                "{\"ids\": []}\n");
  expect_output("encode --jsonl --allow-special", "{\"text\": \"<|endoftext|>\"}\n",
                "{\"ids\": [50256]}\n");
}

// Source: tiktoken's gpt2 encoding, Unicode 16.0.
TEST_F(Encode, AnswersTheGoldenCases) {
  const std::string cases = GPT2_SOURCE_DIR "/tests/golden/tokenizer_cases.jsonl";
  const Ran ran = run("encode --jsonl " + cases);
  EXPECT_EQ(ran.code, 0) << ran.err;
  std::istringstream answers(ran.out);
  std::ifstream lines(cases);
  std::size_t count = 0;
  for (std::string line, answer; std::getline(lines, line); ++count) {
    ASSERT_TRUE(std::getline(answers, answer));
    EXPECT_EQ(json::parse(answer).at("ids"), json::parse(line).at("ids")) << line;
  }
  EXPECT_EQ(count, 4077U);
}

TEST_F(Encode, NamesTheLineThatIsWrong) {
  const std::string good = "{\"text\": \"a\"}\n";
  const auto refuse = [&](const std::string& line, const std::string& message) {
    expect_error("encode --jsonl", good + line + "\n", "stdin:2: " + message, "{\"ids\": [64]}\n");
  };
  refuse("{\"text\": ", "expected a JSON object, got something that is not JSON");
  refuse("[1]", "expected a JSON object, got array");
  refuse("{\"words\": \"a\"}", "expected either \"text\" or \"b64\", got neither");
  refuse("{\"text\": \"a\", \"b64\": \"\"}", "expected either \"text\" or \"b64\", got both");
  refuse("{\"text\": 3}", "\"text\": expected a string, got number");
  refuse("{\"b64\": null}", "\"b64\": expected a string, got null");
  refuse("{\"b64\": \"/w=\"}", "\"b64\": expected padded base64 (RFC 4648), got something else");
  refuse("{\"text\": \"a\", \"special\": 1}", "\"special\": expected true or false, got number");
  base::write_file(path("in.jsonl"), "\n{}\n");
  expect_error("encode --jsonl " + path("in.jsonl"), "",
               path("in.jsonl") + ":2: expected either \"text\" or \"b64\", got neither");
}

TEST_F(Encode, NamesAFileThatIsNotThere) {
  for (const std::string flags : {"encode ", "encode --jsonl ", "decode ", "decode --jsonl "}) {
    expect_error(flags + path("none"), "",
                 "cannot open " + path("none") + ": No such file or directory");
  }
}

TEST_F(Encode, UsesTheTokenizerOfAFolder) {
  text::Tokenizer::gpt2().write_files(folder_ / "run" / "model");
  expect_output("encode --tokenizer " + path("run/model"), "Hello world", "15496 995\n");
  expect_output("encode --tokenizer " + path("run"), "Hello world", "15496 995\n");
  expect_output("decode --tokenizer " + path("run"), "15496 995", "Hello world");
  // Without its merges a vocabulary encodes byte by byte.
  base::write_file(folder_ / "run/model/merges.txt", "#version: 0.2\n");
  expect_output("encode --tokenizer " + path("run"), "abc", "64 65 66\n");
  expect_error("encode --tokenizer " + path("none"), "a",
               "cannot open " + path("none/vocab.json") + ": No such file or directory");
}

// ---- decode ---------------------------------------------------------------------------------

using Decode = Commands;

TEST_F(Decode, WritesTheBytesAndNothingElse) {
  expect_output("decode", "15496 995\n", "Hello world");
  expect_output("decode -", " 15496\t995\r\n187 ", "Hello world\xff");
  expect_output("decode", "", "");
  expect_output("decode", "50256", "<|endoftext|>");
}

TEST_F(Decode, AnswersLinesOfJson) {
  expect_output("decode --jsonl", "{\"ids\": [15496, 995]}\n\n{\"ids\": [187]}\n{\"ids\": []}\n",
                "{\"b64\":\"SGVsbG8gd29ybGQ=\",\"text\":\"Hello world\"}\n"
                "{\"b64\":\"/w==\"}\n"
                "{\"b64\":\"\",\"text\":\"\"}\n");
}

// Source: tiktoken's gpt2 encoding.
TEST_F(Decode, AnswersTheGoldenCases) {
  const std::string cases = GPT2_SOURCE_DIR "/tests/golden/tokenizer_decode_cases.jsonl";
  const Ran ran = run("decode --jsonl " + cases);
  EXPECT_EQ(ran.code, 0) << ran.err;
  std::istringstream answers(ran.out);
  std::ifstream lines(cases);
  std::size_t count = 0;
  for (std::string line, answer; std::getline(lines, line); ++count) {
    ASSERT_TRUE(std::getline(answers, answer));
    EXPECT_EQ(json::parse(answer).at("b64"), json::parse(line).at("b64")) << line;
  }
  EXPECT_EQ(count, 415U);
}

TEST_F(Decode, NamesThePositionOfABadId) {
  expect_error("decode", "1 2 50257 4",
               "stdin: position 2 (from 0): expected a token id from 0 to 50256, got 50257");
  expect_error("decode", "-1",
               "stdin: position 0 (from 0): expected a token id from 0 to 50256, got -1");
  expect_error("decode", "1 x", "stdin: position 1 (from 0): expected a token id, got 'x'");
  base::write_file(path("ids"), "5\n99999");
  expect_error("decode " + path("ids"), "",
               path("ids") +
                   ": position 1 (from 0): expected a token id from 0 to 50256, "
                   "got 99999");
}

TEST_F(Decode, NamesTheLineThatIsWrong) {
  const auto refuse = [&](const std::string& line, const std::string& message) {
    expect_error("decode --jsonl", line + "\n", "stdin:1: " + message);
  };
  refuse("{\"text\": \"a\"}", "expected \"ids\", a list of token ids, got none");
  refuse("{\"ids\": 3}", "\"ids\": expected a list of token ids, got number");
  for (const std::string id : {"50257", "-1", "1.5", "\"1\"", "null", "18446744073709551616"}) {
    refuse("{\"ids\": [1, " + id + "]}",
           "\"ids\": position 1 (from 0): expected a token id from 0 to 50256, got " +
               json::parse(id).dump());
  }
  refuse("ids", "expected a JSON object, got something that is not JSON");
}

// ---- base64 ---------------------------------------------------------------------------------

// Source: RFC 4648, section 10.
TEST(Base64, AgreesWithTheStandard) {
  const std::vector<std::pair<std::string, std::string>> vectors = {{"", ""},
                                                                    {"f", "Zg=="},
                                                                    {"fo", "Zm8="},
                                                                    {"foo", "Zm9v"},
                                                                    {"foob", "Zm9vYg=="},
                                                                    {"fooba", "Zm9vYmE="},
                                                                    {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, base64] : vectors) {
    EXPECT_EQ(cli::to_base64(bytes), base64);
    EXPECT_EQ(cli::from_base64(base64), bytes);
  }
}

TEST(Base64, RefusesEverythingElse) {
  for (const char* wrong : {"Z", "Zg", "Zg=", "Zg===", "Zh==", "Zg==Zg==", "Zm9v\n", "Zm-_", "="}) {
    EXPECT_EQ(cli::from_base64(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
