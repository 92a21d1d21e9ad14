#pragma once
// What the tests of commands that read models share: running the program, small model directories.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "text/text.h"

namespace model_testing {

/// A folder that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "gpt2-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  base::Path operator/(const std::string& name) const { return path_ / name; }
  const base::Path& path() const { return path_; }

 private:
  base::Path path_;
};

/// JSONL.
inline std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// What a run of the program came to.
struct Ran {
  int code = -1;
  std::string out;
  std::string err;
};

inline std::string quoted(const std::string& word) {
  std::string result = "'";
  for (const char c : word) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

/// Runs `gpt2 arguments...` with `input` on stdin. One thread unless the arguments say otherwise:
/// many tests run at once, and threads that wait for each other on a busy machine wait long.
inline Ran run(const std::vector<std::string>& arguments, const std::string& input = "") {
  const TemporaryFolder folder;
  base::write_file(folder / "in", input);
  std::string command = "OMP_NUM_THREADS=1 " + quoted(GPT2_BINARY);
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  command +=
      " <" + quoted(folder / "in") + " >" + quoted(folder / "out") + " 2>" + quoted(folder / "err");
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          base::read_file(folder / "out"), base::read_file(folder / "err")};
}

/// Expects an error on one line that has `part` in it, and nothing on stdout.
inline void expect_failure(const Ran& ran, int code, const std::string& part) {
  EXPECT_EQ(ran.code, code) << ran.err;
  EXPECT_EQ(ran.out, "");
  const std::size_t start = ran.err.find("gpt2: error: ");
  ASSERT_NE(start, std::string::npos) << ran.err;
  const std::string line = ran.err.substr(start);
  EXPECT_EQ(line.find('\n'), line.size() - 1) << "expected one line: " << line;
  EXPECT_NE(line.find(part), std::string::npos) << line;
}

/// Source: two checkpoints with random weights and what an independent float64 program computes
/// from them, with the conventions spelled out in each ref.json.
inline std::string golden(const std::string& name) {
  return std::string(GPT2_SOURCE_DIR "/tests/golden/model_golden/") + name;
}
inline nlohmann::json reference(const std::string& name) {
  return nlohmann::json::parse(base::read_file(golden(name) + "/ref.json"));
}

inline std::string join(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text;
}

/// Entries of write_tokenizer()'s vocabulary: 256 bytes, 752 merges, <|endoftext|>.
inline constexpr std::int64_t kSmallVocabulary = 1009;

/// Writes vocab.json and merges.txt with the first of GPT-2's merges into `folder`.
/// Source of the bytes' spelling: GPT-2's bytes_to_unicode: printable bytes of Latin-1 are
/// themselves, the others the code points from 256 on, in order; ids follow this listing.
inline void write_tokenizer(const base::Path& folder) {
  std::vector<std::string> spellings;
  std::vector<std::string> others;
  const auto utf8 = [](int code) {
    return code < 0x80 ? std::string(1, static_cast<char>(code))
                       : std::string{static_cast<char>(0xC0 | code >> 6),
                                     static_cast<char>(0x80 | (code & 0x3F))};
  };
  const auto printable = [](int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  };
  for (int byte = 0; byte < 256; ++byte) {
    if (printable(byte)) {
      spellings.push_back(utf8(byte));
    } else {
      others.push_back(utf8(256 + static_cast<int>(others.size())));
    }
  }
  spellings.insert(spellings.end(), others.begin(), others.end());

  std::istringstream lines(base::read_file(GPT2_SOURCE_DIR "/assets/vocab.bpe"));
  std::string line, merges;
  std::getline(lines, line);  // #version
  merges = line + "\n";
  while (static_cast<std::int64_t>(spellings.size()) + 1 < kSmallVocabulary &&
         std::getline(lines, line)) {
    merges += line + "\n";
    const std::size_t space = line.find(' ');
    spellings.push_back(line.substr(0, space) + line.substr(space + 1));
  }
  spellings.emplace_back(text::kEndOfText);

  nlohmann::json vocabulary;
  for (std::size_t id = 0; id < spellings.size(); ++id) vocabulary[spellings[id]] = id;
  base::write_file(folder / "vocab.json", vocabulary.dump());
  base::write_file(folder / "merges.txt", merges);
}

/// Writes a model directory whose greedy token at position t is script[t], whatever came before:
/// the position embedding points at t alone, and the tokens' rows say which of them wants position
/// t. At most 64 tokens; ids of write_tokenizer().
inline void write_scripted_model(const base::Path& folder, const std::vector<std::int32_t>& script,
                                 bool tokenizer = true) {
  std::filesystem::create_directories(folder);
  model::Config config;
  config.vocab_size = kSmallVocabulary;
  config.context = 64;
  config.channels = 64;
  config.heads = 1;
  config.layers = 1;
  config.end_of_text = 1008;
  model::Gpt2 model(config, kernels::make_backend(kernels::Device::kReference, base::DType::kF32),
                    false);
  model::ParameterSet& parameters = model.parameters();
  for (std::int64_t t = 0; t < config.context; ++t) {
    parameters.wpe.f32()[t * config.channels + t] = 100;
    parameters.lnf_weight.f32()[t] = 1;
  }
  for (std::size_t t = 0; t < script.size(); ++t) {
    parameters.wte.f32()[script[t] * config.channels + static_cast<std::int64_t>(t)] = 1;
  }
  model::save_model(folder, parameters);
  if (tokenizer) write_tokenizer(folder);
}

/// The same, its script given as text.
inline void write_scripted_model(const base::Path& folder, const std::string& text,
                                 bool then_end = false) {
  std::filesystem::create_directories(folder);
  write_tokenizer(folder);
  const text::Tokenizer tokenizer = text::Tokenizer::load(folder);
  const std::vector<text::TokenId> ids = text::encode(tokenizer, text);
  std::vector<std::int32_t> script(ids.begin(), ids.end());
  if (then_end) script.push_back(1008);
  ASSERT_LE(script.size(), 64U);
  write_scripted_model(folder, script);
}

/// Expects `gpt2 COMMAND --help` to succeed and to mention each flag.
inline void expect_help(const std::string& command, const std::vector<std::string>& flags) {
  const Ran ran = run({command, "--help"});
  EXPECT_EQ(ran.code, 0);
  for (const std::string& flag : flags) {
    EXPECT_NE(ran.out.find(flag), std::string::npos) << command << " --help lacks " << flag;
  }
}

}  // namespace model_testing
