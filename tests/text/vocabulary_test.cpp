// vocab.json and merges.txt: what is written, what is read, what is refused.

#include "text/vocabulary.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <memory>

#include "text/text.h"
#include "text/text_testing.h"

namespace {

using text::TokenId;
using text::Tokenizer;
using text_testing::expect_error;
using text_testing::ScratchFolder;

/// What the system's own sha256sum says of a file.
std::string sha256(const base::Path& path) {
  const std::string command = "sha256sum '" + path.string() + "'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string digest(64, '?');
  if (pipe == nullptr || std::fread(digest.data(), 1, 64, pipe.get()) != 64) return "none";
  return digest;
}

// Source: the digests of OpenAI's encoder.json and vocab.bpe.
TEST(Vocabulary, WritesThePublishedFiles) {
  const ScratchFolder folder;
  Tokenizer::gpt2().write_files(folder.path() / "model");
  EXPECT_EQ(sha256(folder.path() / "model/vocab.json"),
            "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783");
  EXPECT_EQ(sha256(folder.path() / "model/merges.txt"),
            "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5");
}

TEST(Vocabulary, ReadsBackWhatItWrote) {
  const ScratchFolder folder;
  EXPECT_FALSE(Tokenizer::present(folder.path()));
  Tokenizer::gpt2().write_files(folder.path());
  EXPECT_TRUE(Tokenizer::present(folder.path()));
  const Tokenizer loaded = Tokenizer::load(folder.path());
  EXPECT_EQ(loaded.vocab_size(), Tokenizer::gpt2().vocab_size());
  EXPECT_EQ(loaded.end_of_text(), Tokenizer::gpt2().end_of_text());
  EXPECT_EQ(loaded.hash(), Tokenizer::gpt2().hash());
  const std::string sample = "It is a truth universally acknowledged, \u00e9\U0001f600\xff 1813";
  EXPECT_EQ(text::encode(loaded, sample), text::encode(Tokenizer::gpt2(), sample));
}

TEST(Vocabulary, HashIsStable) {
  // Manifests of prepared data hold this number: another value orphans them.
  EXPECT_EQ(Tokenizer::gpt2().hash(), 0x6278a7a5fa6ad02aULL);
}

// ---- other vocabularies ---------------------------------------------------------------------

/// vocab.json with the 256 bytes as ids 0 to 255 in byte order and `more` after them.
std::string vocab_json(const std::vector<std::string>& more) {
  std::string json = "{";
  int id = 0;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    std::string spelling;
    text::append_spelling(spelling, {&byte, 1});
    if (spelling == "\"" || spelling == "\\") spelling = fmt::format("\\{}", spelling);
    if (id > 0) json += ",\n";
    json += fmt::format("\"{}\": {}", spelling, id++);
  }
  for (const std::string& token : more) json += fmt::format(",\n\"{}\": {}", token, id++);
  return json + "}";
}

class Files : public ::testing::Test {
 protected:
  void write(const std::string& vocab, const std::string& merges) {
    base::write_file(vocab_path(), vocab);
    base::write_file(merges_path(), merges);
  }
  Tokenizer load() const { return Tokenizer::load(folder_.path()); }
  base::Path vocab_path() const { return folder_.path() / "vocab.json"; }
  base::Path merges_path() const { return folder_.path() / "merges.txt"; }
  /// Expects load() to refuse with "<vocab.json>" and "<merges.txt>" in `message` as full paths.
  void expect_refusal(std::string message) const {
    for (const base::Path& path : {vocab_path(), merges_path()}) {
      const std::string mark = fmt::format("<{}>", path.filename().string());
      for (std::size_t at; (at = message.find(mark)) != std::string::npos;) {
        message.replace(at, mark.size(), path.string());
      }
    }
    expect_error(message, [this] { load(); });
  }

  ScratchFolder folder_;
};

/// All the ways to join runs of a letter.
TEST_F(Files, MoreMergesThanRanksAreRefused) {
  std::vector<std::string> runs;
  std::string merges;
  for (std::size_t letters = 2; letters <= 400; ++letters) {
    runs.emplace_back(letters, 'a');
    for (std::size_t left = 1; left < letters; ++left) {
      merges += std::string(left, 'a') + " " + std::string(letters - left, 'a') + "\n";
    }
  }
  write(vocab_json(runs), merges);
  expect_refusal("<merges.txt>: expected at most 65534 merges, got 79800");
}

TEST_F(Files, NeedNoVersionLineAndNoSpecialToken) {
  for (const std::string first : {"", "#version: 0.2\n", "#version: 0.2 - Trained by hand\r\n"}) {
    write(vocab_json({"ab", "\u0120ab"}), first + "a b\r\n\n\u0120 ab");
    const Tokenizer tokenizer = load();
    EXPECT_EQ(tokenizer.vocab_size(), 258U);
    EXPECT_EQ(tokenizer.end_of_text(), std::nullopt);
    EXPECT_EQ(text::encode(tokenizer, "ab ab a"), (std::vector<TokenId>{256, 257, ' ', 'a'}));
    const std::string special = "<|endoftext|>";
    EXPECT_EQ(tokenizer.decode(text::encode(tokenizer, special, text::SpecialTokens::kAllowed)),
              special);
  }
}

TEST_F(Files, MayPutTheEndOfTextAnywhere) {
  write(vocab_json({"<|endoftext|>", "ab"}), "a b\n");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.end_of_text(), TokenId{256});
  EXPECT_EQ(text::encode(tokenizer, "ab<|endoftext|>ab", text::SpecialTokens::kAllowed),
            (std::vector<TokenId>{257, 256, 257}));
}

TEST_F(Files, KeepTokensThatAreNotSpelledInBytes) {
  const std::string vocab = vocab_json({"a b", "\u4e2d\U0001f600", "\\u0001", "<|endoftext|>"});
  write(vocab, "");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.token_bytes(256), "a b");
  EXPECT_EQ(tokenizer.token_bytes(257), "\u4e2d\U0001f600");
  const ScratchFolder copy;
  tokenizer.write_files(copy.path());
  EXPECT_EQ(Tokenizer::load(copy.path()).hash(), tokenizer.hash());
  EXPECT_NE(base::read_file(copy.path() / "vocab.json")
                .find("\"a b\": 256, \"\\u4e2d\\ud83d\\ude00\": 257, \"\\u0001\": 258"),
            std::string::npos);
}

TEST_F(Files, MayHold65536Tokens) {
  std::vector<std::string> more;
  for (int i = 0; i < 65536 - 256; ++i) more.push_back("<extra_" + std::to_string(i) + ">");
  write(vocab_json(more), "");
  EXPECT_EQ(load().vocab_size(), 65536U);
  EXPECT_EQ(load().token_bytes(65535), "<extra_65279>");
  more.push_back("<one_too_many>");
  write(vocab_json(more), "");
  expect_refusal("<vocab.json>: token '<one_too_many>': expected an id from 0 to 65535, got 65536");
}

TEST_F(Files, HashTellsVocabulariesApart) {
  write(vocab_json({"ab", "bc"}), "a b\nb c\n");
  const std::uint64_t hash = load().hash();
  write(vocab_json({"ab", "bc"}), "b c\na b\n");
  EXPECT_NE(load().hash(), hash);
  write(vocab_json({"bc", "ab"}), "a b\nb c\n");
  EXPECT_NE(load().hash(), hash);
}

// ---- what is refused ------------------------------------------------------------------------

TEST_F(Files, MissingOnesAreNamed) {
  expect_refusal("cannot open <vocab.json>: No such file or directory");
  base::write_file(vocab_path(), vocab_json({}));
  expect_refusal("cannot open <merges.txt>: No such file or directory");
}

TEST_F(Files, BrokenJsonIsRefusedByPlace) {
  write("{\"a\": 0,", "");
  expect_refusal("<vocab.json>: not valid JSON at byte 9, near '0,'; get the file again");
  write("", "");
  expect_refusal("<vocab.json>: not valid JSON at byte 1, near ''; get the file again");
}

TEST_F(Files, OtherJsonIsRefused) {
  for (const char* json : {"[1]", "3", "null", "\"a\""}) {
    write(json, "");
    expect_refusal("<vocab.json>: expected one object of tokens and their ids, got something else");
  }
  const auto refuse = [this](const std::string& value, const std::string& got) {
    write("{\"a\": " + value + "}", "");
    expect_refusal("<vocab.json>: token 'a': expected an id from 0 to 65535, got " + got);
  };
  refuse("-1", "-1");
  refuse("1.5", "1.5");
  refuse("\"x\"", "\"x\"");
  refuse("true", "true");
  refuse("false", "false");
  refuse("null", "null");
  refuse("[1]", "a list");
  refuse("{\"b\": 1}", "an object");
}

TEST_F(Files, IdsWithHolesOrTwiceAreRefused) {
  write("{\"a\": 0, \"b\": 2}", "");
  expect_refusal("<vocab.json>: token 'b' has id 2, expected ids 0 to 1 for 2 tokens");
  write("{\"a\": 0, \"b\": 0}", "");
  expect_refusal("<vocab.json>: expected each id once, got id 0 for 'a' and for 'b'");
  write("{\"a\": 0, \"a\": 1}", "");
  expect_refusal("<vocab.json>: expected each token once, got 'a' again");
}

TEST_F(Files, AByteWithoutATokenIsRefused) {
  write("{\"\u0100\": 0}", "");
  expect_refusal("<vocab.json>: expected a token for every byte, byte 0x01 ('\u0101') has none");
  write("{}", "");
  expect_refusal("<vocab.json>: expected a token for every byte, byte 0x00 ('\u0100') has none");
}

TEST_F(Files, MergesOfUnknownTokensAreRefusedByLine) {
  write(vocab_json({"ab"}), "#version: 0.2\na b\nab c\n");
  expect_refusal("<merges.txt>, line 3: expected tokens of <vocab.json>, got 'abc'");
  write(vocab_json({"abc"}), "ab c\n");
  expect_refusal("<merges.txt>, line 1: expected tokens of <vocab.json>, got 'ab'");
  write(vocab_json({"abc"}), "a bc\n");
  expect_refusal("<merges.txt>, line 1: expected tokens of <vocab.json>, got 'bc'");
}

TEST_F(Files, LinesThatAreNoMergeAreRefused) {
  for (const std::string line : {"ab", "a b c", " b", "a ", "a \u4e2d", "a \xff"}) {
    write(vocab_json({"ab"}), "a b\n" + line + "\n");
    expect_refusal(
        "<merges.txt>, line 2: expected two tokens in byte-level spelling and one space, got '" +
        line + "'");
  }
}

TEST_F(Files, AMergeTwiceIsRefused) {
  write(vocab_json({"ab"}), "a b\na b\n");
  expect_refusal("<merges.txt>, line 2: expected each merge once, got 'a b' again");
}

}  // namespace
