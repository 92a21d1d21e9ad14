// Inputs and documents: what is found, what is read, what is refused with file and line.

#include <gtest/gtest.h>

#include "data/data.h"
#include "data/helpers.h"

namespace data_test {
namespace {

namespace fs = std::filesystem;
using data::Document;
using data::DocumentReader;
using data::Input;
using testing::ElementsAre;

std::vector<std::string> paths_of(const std::vector<Input>& inputs) {
  std::vector<std::string> paths;
  for (const Input& input : inputs) paths.push_back(input.path);
  return paths;
}

std::vector<Document> read_all(const std::vector<std::string>& arguments,
                               const data::PieceRule& rule = {},
                               const std::string& field = "text") {
  DocumentReader reader(data::find_inputs(arguments), field, rule);
  std::vector<Document> documents;
  while (auto document = reader.next()) documents.push_back(std::move(*document));
  EXPECT_FALSE(reader.next().has_value());
  return documents;
}

std::vector<std::string> texts_of(const std::vector<Document>& documents) {
  std::vector<std::string> texts;
  for (const Document& document : documents) texts.push_back(document.text);
  return texts;
}

TEST(FindInputs, TakesFoldersRecursivelyAndSorted) {
  const Folder folder;
  for (const char* name : {"b.txt", "a.jsonl", "sub/z.txt", "sub/deep/y.jsonl", "c.txt"}) {
    folder.write(name, "x");
  }
  folder.write("readme.md", "no input");
  folder.write("d.txt.gz", "no input");
  const std::string root = folder.path().string();
  const auto inputs = data::find_inputs({root});
  EXPECT_THAT(paths_of(inputs), ElementsAre(root + "/a.jsonl", root + "/b.txt", root + "/c.txt",
                                            root + "/sub/deep/y.jsonl", root + "/sub/z.txt"));
  EXPECT_EQ(inputs[0].bytes, 1U);
}

TEST(FindInputs, KeepsTheOrderOfTheArguments) {
  const Folder folder;
  const auto a = folder.write("a.txt", "");
  const auto b = folder.write("b.txt", "1234");
  const auto inputs = data::find_inputs({b, "-", a});
  EXPECT_THAT(paths_of(inputs), ElementsAre(b, "-", a));
  EXPECT_EQ(inputs[0].bytes, 4U);
  EXPECT_EQ(inputs[1].bytes, 0U);
}

TEST(FindInputs, RefusesWhatItCannotRead) {
  const Folder folder;
  expect_error_with("cannot open input /nowhere/a.txt: No such file or directory",
                    [] { data::find_inputs({"/nowhere/a.txt"}); });
  const auto other = folder.write("a.pdf", "x");
  expect_error_with("input " + other + ": expected a .txt or .jsonl file or a folder",
                    [&] { data::find_inputs({other}); });
  fs::create_directories(folder.path() / "empty");
  expect_error_with("empty holds no .txt or .jsonl file",
                    [&] { data::find_inputs({(folder.path() / "empty").string()}); });
  expect_error_with("named twice", [] { data::find_inputs({"-", "-"}); });
  fs::create_directory_symlink("loop", folder.path() / "loop");
  expect_error_with("loop: Too many levels of symbolic links",
                    [&] { data::find_inputs({(folder.path() / "loop").string()}); });
}

TEST(DocumentReader, ATextFileIsOneDocument) {
  const Folder folder;
  const auto path = folder.write("a.txt", "one\r\n\r\ntwo \xFF\n");
  const auto documents = read_all({path});
  ASSERT_EQ(documents.size(), 1U);
  EXPECT_EQ(documents[0].text, "one\r\n\r\ntwo \xFF\n");
  EXPECT_EQ(documents[0].origin, path);
  EXPECT_EQ(documents[0].source_bytes, documents[0].text.size());
  EXPECT_TRUE(documents[0].starts && documents[0].ends);
}

TEST(DocumentReader, AnEmptyTextFileIsAnEmptyDocument) {
  const Folder folder;
  EXPECT_THAT(texts_of(read_all({folder.write("a.txt", ""), folder.write("b.txt", "b")})),
              ElementsAre("", "b"));
  EXPECT_THAT(texts_of(read_all({folder.write("a.jsonl", "")})), ElementsAre());
}

TEST(DocumentReader, AJsonLineIsOneDocument) {
  const Folder folder;
  const auto path = folder.write(
      "a.jsonl",
      "{\"text\": \"one\\ntwo\"}\r\n\n  \t\r\n{\"id\": 3, \"text\": \"\\u00e9\\ud83d\\ude00\"}\n"
      "{\"text\": \"\"}\n{\"text\": \"last\", \"x\": {\"text\": \"inner\"}}");
  const auto documents = read_all({path});
  EXPECT_THAT(texts_of(documents), ElementsAre("one\ntwo", "\xC3\xA9\xF0\x9F\x98\x80", "", "last"));
  EXPECT_EQ(documents[0].origin, path + ":1");
  EXPECT_EQ(documents[1].origin, path + ":4");
  EXPECT_EQ(documents[3].origin, path + ":6");
  std::uint64_t bytes = 0;
  for (const Document& document : documents) bytes += document.source_bytes;
  EXPECT_EQ(bytes, fs::file_size(path));
}

TEST(DocumentReader, TakesTheFieldItIsTold) {
  const Folder folder;
  const auto path = folder.write("a.jsonl", "{\"text\": \"no\", \"content\": \"yes\"}\n");
  EXPECT_THAT(texts_of(read_all({path}, {}, "content")), ElementsAre("yes"));
}

TEST(DocumentReader, ReadsManyLinesOfAllLengths) {
  const Folder folder;
  std::string content;
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < 3000; ++i) {  // past several blocks of reading
    expected.push_back(std::string(i * 7 % 1500, static_cast<char>('a' + i % 26)));
    content += "{\"text\": \"" + expected.back() + "\"}\n";
  }
  expected.push_back(std::string(1'000'000, 'x'));
  content += "{\"text\": \"" + expected.back() + "\"}";
  EXPECT_EQ(texts_of(read_all({folder.write("a.jsonl", content)})), expected);
}

void expect_line_error(const std::string& line, const std::string& message) {
  const Folder folder;
  const auto path = folder.write("a.jsonl", "{\"text\": \"fine\"}\n\n" + line + "\n");
  expect_error_with(path + ":3: " + message, [&] { read_all({path}); });
}

TEST(DocumentReader, NamesFileAndLineOfBadJson) {
  expect_line_error("{\"body\": \"x\"}",
                    "the field 'text' is missing; name the field that holds the text with "
                    "--text-field");
  expect_line_error("{\"text\": 5}", "field 'text': expected a string, got number");
  expect_line_error("{\"text\": null}", "field 'text': expected a string, got null");
  expect_line_error("{\"text\": \"x\"", "not valid JSON at byte 13 of the line");
  expect_line_error("{\"text\": \"\xFF\"}", "not valid JSON at byte 11 of the line");
  expect_line_error("plain words", "not valid JSON at byte 1 of the line");
  expect_line_error("[1]", "expected a JSON object with the field 'text', got array");
}

TEST(DocumentReader, RefusesALineBeyondTheLimit) {
  const Folder folder;
  const auto path = folder.write("a.jsonl", "\n" + std::string(data::kMaxLineBytes + 1, 'x'));
  expect_error_with(path + ":2: the line is longer than 67108864 bytes", [&] { read_all({path}); });
}

TEST(DocumentReader, RefusesAFileThatWentAway) {
  expect_error_with("cannot open /nowhere/a.txt: No such file or directory", [] {
    DocumentReader reader({{"/nowhere/a.txt", 0}}, "text");
    reader.next();
  });
}

/// Cuts before the last blank.
std::size_t cut_before_blank(std::string_view text) {
  const std::size_t found = text.rfind(' ');
  return found == std::string_view::npos ? 0 : found;
}

TEST(DocumentReader, CutsLongDocumentsIntoPieces) {
  const Folder folder;
  std::string words;
  for (int i = 0; i < 50'000; ++i) words += "word" + std::to_string(i) + " ";
  const auto text = folder.write("a.txt", words);
  const auto lines =
      folder.write("b.jsonl", "{\"text\": \"short\"}\n{\"text\": \"" + words + "\"}\n");
  for (const std::size_t bytes : {std::size_t{16}, std::size_t{1000}, std::size_t{300'000}}) {
    const auto pieces = read_all({text, lines}, {bytes, cut_before_blank, 1 << 20});
    EXPECT_GT(pieces.size(), 3U);
    std::vector<std::string> whole;
    std::uint64_t source_bytes = 0;
    bool inside = false;
    for (const Document& piece : pieces) {
      EXPECT_EQ(piece.starts, !inside);
      EXPECT_LE(piece.text.size(), bytes);
      if (piece.starts) whole.emplace_back();
      whole.back() += piece.text;
      inside = !piece.ends;
      source_bytes += piece.source_bytes;
    }
    EXPECT_FALSE(inside);
    EXPECT_EQ(whole, (std::vector<std::string>{words, "short", words}));
    EXPECT_EQ(source_bytes, fs::file_size(text) + fs::file_size(lines));
  }
}

TEST(DocumentReader, ExtendsAPieceUntilItCanBeCut) {
  const Folder folder;
  const std::string longest(5000, 'x');
  const auto path = folder.write("a.txt", "a b " + longest + " c d");
  const auto pieces = read_all({path}, {16, cut_before_blank, 1 << 20});
  std::string whole;
  std::size_t most = 0;
  for (const Document& piece : pieces) {
    whole += piece.text;
    most = std::max(most, piece.text.size());
  }
  EXPECT_EQ(whole, "a b " + longest + " c d");
  EXPECT_GT(most, 5000U);
}

TEST(DocumentReader, RefusesAStretchThatCannotBeCut) {
  const Folder folder;
  const auto path = folder.write("a.txt", "a b " + std::string(5000, 'x') + " c d");
  expect_error_with(path + ": 1024 bytes without a place to cut them", [&] {
    read_all({path}, {16, cut_before_blank, 1024});
  });
}

}  // namespace
}  // namespace data_test
