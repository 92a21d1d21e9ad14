// Inputs and documents: what is found, what is read, what is refused with file and line.

#include <gtest/gtest.h>

#include <cstdio>

#include "base/hash.h"
#include "data/data.h"
#include "data/helpers.h"

namespace data_test {
namespace {

namespace fs = std::filesystem;
using data::DocumentReader;
using data::Input;
using testing::ElementsAre;

std::vector<std::string> paths_of(const std::vector<Input>& inputs) {
  std::vector<std::string> paths;
  for (const Input& input : inputs) paths.push_back(input.path);
  return paths;
}

/// A document or a piece of one with a text of its own, or what was wrong in its place.
struct Document {
  std::string text;
  data::Position next;
  bool starts = true, ends = true;
  base::Hash128 hash;
  std::string broken;
};

std::vector<Document> read_from(const std::vector<Input>& inputs, data::ReaderOptions options,
                                const data::Position& from = {},
                                std::uint64_t* source_bytes = nullptr) {
  if (!options.pieces.last_cut) {
    options.pieces.last_cut = [](std::string_view) { return std::size_t{0}; };
  }
  DocumentReader reader(inputs, options);
  if (from != data::Position()) reader.seek(from);
  std::vector<Document> documents;
  data::Chunk chunk;
  while (reader.next(chunk)) {
    if (source_bytes != nullptr) *source_bytes += chunk.source_bytes;
    chunk.parse(
        [&](const data::Document& document) {
          documents.push_back({std::string(document.text), document.next, document.starts,
                               document.ends, document.hash, ""});
        },
        [&](const data::BrokenRecord& record, const data::Position& next) {
          documents.push_back({"", next, true, true, {}, record.what()});
        });
  }
  EXPECT_FALSE(reader.next(chunk));
  return documents;
}

std::vector<Document> read_all(const std::vector<std::string>& arguments,
                               const data::PieceRule& rule = {}, const std::string& field = "text",
                               std::uint64_t* source_bytes = nullptr) {
  data::ReaderOptions options;
  options.pieces = rule;
  options.text_field = field;
  return read_from(data::find_inputs(arguments), options, {}, source_bytes);
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
  folder.write("readme.md", "x");
  folder.write("paper.pdf", "no input");
  folder.write("d.txt.gz", "x");
  folder.write("e.txt.bz2", "no input");
  const std::string root = folder.path().string();
  const auto inputs = data::find_inputs({root});
  EXPECT_THAT(paths_of(inputs),
              ElementsAre(root + "/a.jsonl", root + "/b.txt", root + "/c.txt", root + "/d.txt.gz",
                          root + "/readme.md", root + "/sub/deep/y.jsonl", root + "/sub/z.txt"));
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
  expect_error_with(
      "input " + other +
          ": expected a .txt, .md, .jsonl (also .gz, .zst) or .parquet file or a folder",
      [&] { data::find_inputs({other}); });
  fs::create_directories(folder.path() / "empty");
  expect_error_with("empty holds no .txt, .md, .jsonl or .parquet file",
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
  EXPECT_EQ(documents[0].next, (data::Position{1, 0, 0, 0}));
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
  std::uint64_t bytes = 0;
  const auto documents = read_all({path}, {}, "text", &bytes);
  EXPECT_THAT(texts_of(documents), ElementsAre("one\ntwo", "\xC3\xA9\xF0\x9F\x98\x80", "", "last"));
  EXPECT_EQ(documents[0].next.record, 1);
  EXPECT_EQ(documents[1].next.record, 4);
  EXPECT_EQ(documents[3].next, (data::Position{0, 6, fs::file_size(path), 0}));
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

void expect_line_error(const std::string& line, const std::string& message,
                       const std::string& field = "text") {
  const Folder folder;
  const auto path =
      folder.write("a.jsonl", "{\"text\": \"fine\", \"a\": {\"b\": \"fine\"}}\n\n" + line +
                                  "\n{\"text\": \"on\", \"a\": {\"b\": \"on\"}}\n");
  const auto documents = read_all({path}, {}, field);
  ASSERT_EQ(documents.size(), 3U) << line;  // reading goes on behind it
  EXPECT_EQ(documents[1].broken, path + ":3: " + message);
  EXPECT_EQ(documents[2].text, "on");
}

TEST(DocumentReader, SetsBadLinesAsideWithFileAndLine) {
  expect_line_error("{\"body\": \"x\"}",
                    "the field 'text' is missing; name the field that holds the text with "
                    "--text-field");
  expect_line_error("{\"text\": 5}", "field 'text': expected a string, got number");
  expect_line_error("{\"text\": null}", "field 'text': expected a string, got null");
  expect_line_error("{\"text\": \"x\"", "not valid JSON at byte 13 of the line");
  expect_line_error("{\"text\": \"x\", \"y\": \"\\ud800\"}",
                    "not valid JSON at byte 21 of the line");
  expect_line_error("plain words", "not valid JSON at byte 1 of the line");
  expect_line_error("[1]", "expected a JSON object with the field 'text', got array");
  expect_line_error("{\"a\": 1}", "field 'a': expected an object, got number", "a.b");
  expect_line_error("{\"a\": {\"b\": []}}", "field 'a.b': expected a string, got array", "a.b");
  expect_line_error(std::string(1200, '[') + std::string(1200, ']'),
                    "nested deeper than 1000 levels");
}

TEST(DocumentReader, TakesNestedFields) {
  const Folder folder;
  const auto path = folder.write("a.jsonl",
                                 "{\"b\": \"no\", \"a\": {\"a\": \"no\", \"\\u0062\": "
                                 "\"yes\"}}\n{\"a\": 1, \"a\": {\"b\": \"last\"}}\n");
  EXPECT_THAT(texts_of(read_all({path}, {}, "a.b")), ElementsAre("yes", "last"));
}

TEST(DocumentReader, KeepsBytesThatAreNotUtf8UnlessTold) {
  const Folder folder;
  const auto lines = folder.write("a.jsonl", "{\"text\": \"\xFF\"}\n{\"text\": \"fine\"}\n");
  const auto text = folder.write("b.txt", "a b \xFF c d e f");
  EXPECT_THAT(texts_of(read_all({lines, text})), ElementsAre("\xFF", "fine", "a b \xFF c d e f"));
  data::ReaderOptions options;
  options.accepts = [](std::string_view view) {
    return view.find('\xFF') == std::string_view::npos;
  };
  options.refusal = "odd";
  for (const std::size_t piece : {std::size_t{4}, std::size_t{1000}}) {  // long and short
    options.pieces.bytes = piece;
    options.pieces.last_cut = [](std::string_view view) { return view.size() / 2; };
    const auto documents = read_from(data::find_inputs({lines, text}), options);
    ASSERT_EQ(documents.size(), 3U);
    EXPECT_EQ(documents[0].broken, lines + ":1: odd");
    EXPECT_EQ(documents[1].text, "fine");
    EXPECT_EQ(documents[2].broken, text + ":1: odd");
  }
}

TEST(DocumentReader, HashesAreThoseOfTheWholeText) {
  const Folder folder;
  std::string words;
  for (int i = 0; i < 300'000; ++i) words += "word" + std::to_string(i) + " ";
  const auto text = folder.write("a.txt", words);
  const auto lines = folder.write("b.jsonl", "{\"text\": \"" + words + "\"}\n{\"text\": \"x\"}\n");
  data::ReaderOptions options;
  options.hashes = true;
  options.pieces.last_cut = [](std::string_view view) { return view.rfind(' '); };
  for (const Document& document : read_from(data::find_inputs({text, lines}), options)) {
    EXPECT_EQ(document.hash, base::chain_hash(document.text == "x" ? "x" : words));
  }
}

TEST(DocumentReader, PassesOverALineBeyondTheLimit) {
  const Folder folder;
  const auto path = folder.write("a.jsonl", "{\"text\": \"one\"}\n");
  const std::uint64_t end = data::kMaxLineBytes + (std::uint64_t{1} << 27);
  fs::resize_file(path, end);  // a line of zeros that take no room on the disk
  std::FILE* file = std::fopen(path.c_str(), "ab");
  std::fputs("\n{\"text\": \"two\"}\n", file);
  std::fclose(file);
  const auto documents = read_all({path});
  ASSERT_EQ(documents.size(), 3U);
  EXPECT_EQ(documents[1].broken, path + ":2: the line is longer than 1073741824 bytes");
  EXPECT_EQ(documents[2].text, "two");
  EXPECT_EQ(documents[2].next, (data::Position{0, 3, fs::file_size(path), 0}));
}

TEST(DocumentReader, GoesOnFromEveryPlace) {
  const Folder folder;
  std::string words;
  for (int i = 0; i < 300'000; ++i) words += "word" + std::to_string(i) + " ";
  const auto lines = folder.write("a.jsonl", "{\"text\": \"one\"}\r\n\n{\"text\": \"" + words +
                                                 "\"}\n{\"text\": 3}\n{\"text\": \"four\"}");
  const auto inputs = data::find_inputs({lines, folder.write("b.txt", words),
                                         folder.write("c.txt", ""), folder.write("d.txt", "end")});
  data::ReaderOptions options;
  options.pieces.last_cut = [](std::string_view view) { return view.rfind(' '); };
  const auto whole = read_from(inputs, options);
  ASSERT_GT(whole.size(), 40U);
  for (std::size_t i = 0; i < whole.size(); i += i < 6 || i + 40 > whole.size() ? 1 : 5) {
    const auto rest = read_from(inputs, options, whole[i].next);
    ASSERT_EQ(rest.size(), whole.size() - i - 1) << i;
    for (std::size_t k = 0; k < rest.size(); ++k) {
      ASSERT_EQ(rest[k].text, whole[i + 1 + k].text) << i << " " << k;
      ASSERT_EQ(rest[k].next, whole[i + 1 + k].next);
      ASSERT_EQ(rest[k].broken, whole[i + 1 + k].broken);
      ASSERT_EQ(rest[k].starts, whole[i + 1 + k].starts);
      ASSERT_EQ(rest[k].ends, whole[i + 1 + k].ends);
    }
  }
}

TEST(DocumentReader, RefusesAFileThatWentAway) {
  expect_error_with("cannot open /nowhere/a.txt: No such file or directory", [] {
    DocumentReader reader({{"/nowhere/a.txt", 0, "", 0}}, {});
    data::Chunk chunk;
    reader.next(chunk);
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
    std::uint64_t source_bytes = 0;
    const auto pieces =
        read_all({text, lines}, {bytes, cut_before_blank, 1 << 20}, "text", &source_bytes);
    EXPECT_GT(pieces.size(), 3U);
    std::vector<std::string> whole;
    bool inside = false;
    for (const Document& piece : pieces) {
      EXPECT_EQ(piece.starts, !inside);
      EXPECT_LE(piece.text.size(), std::max(bytes, data::kLongRecordBytes));
      if (piece.starts) whole.emplace_back();
      whole.back() += piece.text;
      inside = !piece.ends;
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

TEST(DocumentReader, CutsAStretchWithoutAPlaceBetweenCharacters) {
  const Folder folder;
  std::string text = "a b ";
  for (int i = 0; i < 2000; ++i) text += "\xE4\xBD\xA0";
  const auto pieces = read_all({folder.write("a.txt", text)}, {16, cut_before_blank, 1024});
  std::string whole;
  for (const Document& piece : pieces) {
    EXPECT_LE(piece.text.size(), 1024U);
    EXPECT_NE(static_cast<unsigned char>(piece.text[0]) & 0xC0, 0x80);
    whole += piece.text;
  }
  EXPECT_EQ(whole, text);
}

}  // namespace
}  // namespace data_test
