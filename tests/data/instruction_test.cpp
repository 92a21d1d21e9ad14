// Prompts and answers, conversations, and everything that is neither.

#include "data/instruction.h"

#include "data/helpers.h"

namespace data_test {
namespace {

using data::Instruction;

/// "given|LEARNT|given", or what is wrong.
std::string read(std::string line) {
  Instruction instruction;
  const std::string wrong = data::read_instruction(line, instruction);
  if (!wrong.empty()) return wrong;
  std::string shown;
  std::string_view rest = instruction.text;
  for (const data::Segment& segment : instruction.segments) {
    shown += shown.empty() && !segment.learnt && &segment == &instruction.segments[0] ? "" : "|";
    shown += segment.learnt ? "+" : "";
    shown += rest.substr(0, segment.bytes);
    rest.remove_prefix(segment.bytes);
  }
  EXPECT_EQ(rest, "");
  return shown;
}

TEST(ReadInstruction, JoinsPromptAndCompletionAsTheyAre) {
  EXPECT_EQ(read(R"({"prompt": "2 + 2 =", "completion": " 4"})"), "2 + 2 =|+ 4");
  EXPECT_EQ(read(R"({"id": [1, {"prompt": 2}], "completion":"\u00e9\n", "prompt" : ""})"),
            "|+\xC3\xA9\n");
  EXPECT_EQ(read(R"({"prompt": 1, "prompt": "last", "completi\u006fn": "x"})"), "last|+x");
  EXPECT_EQ(read("{\"prompt\": \"\xFF\", \"completion\": \"\xFE\"}"), "\xFF|+\xFE");
}

TEST(ReadInstruction, PutsMessagesIntoLinesOfWhichAnswersAreLearnt) {
  EXPECT_EQ(read(R"({"messages": [{"role": "user", "content": "Hi"},
                                  {"role": "assistant", "content": "Hello"}]})"),
            "User: Hi\nAssistant:|+ Hello");
  EXPECT_EQ(read(R"({"messages": [{"role": "system", "content": "Be\nbrief"},
                                  {"content": "a", "n": null, "role": "user"},
                                  {"role": "assistant", "content": "b"},
                                  {"role": "user", "content": ""},
                                  {"role": "assistant", "content": ""}]})"),
            "System: Be\nbrief\nUser: a\nAssistant:|+ b|\nUser:\nAssistant:|+");
  EXPECT_EQ(read(R"({"messages": [{"role": "assistant", "content": "b"},
                                  {"role": "user", "content": "c"}]})"),
            "Assistant:|+ b|\nUser: c");
}

TEST(ReadInstruction, SaysWhatIsWrong) {
  const std::map<std::string, std::string> cases = {
      {R"([1])",
       "expected a JSON object with 'prompt' and 'completion' or with 'messages', got array"},
      {R"({"text": "a"})", "the fields 'prompt' and 'completion' (or 'messages') are missing"},
      {R"({"prompt": "a"})", "the field 'completion' is missing"},
      {R"({"completion": "a"})", "the field 'prompt' is missing"},
      {R"({"prompt": 1, "completion": "a"})", "field 'prompt': expected a string, got number"},
      {R"({"prompt": "a", "completion": null})", "field 'completion': expected a string, got null"},
      {R"({"prompt": "a", "completion": ""})",
       "field 'completion' is empty: there is nothing to learn"},
      {R"({"prompt": "a", "messages": []})",
       "expected 'prompt' and 'completion' or 'messages', got both"},
      {R"({"messages": {}})", "field 'messages': expected an array of messages, got object"},
      {R"({"messages": []})", "field 'messages' is empty"},
      {R"({"messages": ["a"]})", "message 1: expected an object, got string"},
      {R"({"messages": [{"role": "assistant", "content": "a"}, {"content": "b"}]})",
       "message 2: the field 'role' is missing"},
      {R"({"messages": [{"role": "user", "content": [1]}]})",
       "message 1: field 'content': expected a string, got array"},
      {R"({"messages": [{"role": "tool", "content": "a"}]})",
       "message 1: field 'role': expected system, user or assistant, got 'tool'"},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]})",
       "no message of the assistant has content: there is nothing to learn"},
      {R"({"prompt": "a", "completion": "b"} x)", "not valid JSON at byte 36 of the line"},
      {R"({"messages": [{"role": "user", "content": "a"})",
       "not valid JSON at byte 47 of the line"}};
  for (const auto& [line, wrong] : cases) EXPECT_EQ(read(line), wrong) << line;
  const std::string deep(1001, '[');
  EXPECT_EQ(read("{\"prompt\": " + deep + "}"), "nested deeper than 1000 levels");
}

/// Documents as "text" with a '|' where a segment begins, and the places behind them.
struct Read {
  std::string text;
  std::vector<data::Position> places;
  std::vector<base::Hash128> hashes;
  std::vector<std::string> broken;
};
Read read_all(const std::string& path, const data::ReaderOptions& options,
              const data::Position& from = {}) {
  data::DocumentReader reader({{path, std::filesystem::file_size(path), "", 0}}, options);
  if (from != data::Position()) reader.seek(from);
  Read all;
  bool learnt = false;  // of the segment before: a piece may begin within one
  for (data::Chunk chunk; reader.next(chunk);) {
    chunk.parse(
        [&](const data::Document& document) {
          std::string_view rest = document.text;
          bool first = document.starts;
          for (const data::Segment& segment : document.segments) {
            if (first || learnt != segment.learnt) all.text += segment.learnt ? "|+" : "|-";
            first = false;
            learnt = segment.learnt;
            all.text += rest.substr(0, segment.bytes);
            rest.remove_prefix(segment.bytes);
          }
          EXPECT_EQ(rest, "");
          all.places.push_back(document.next);
          all.hashes.push_back(document.hash);
        },
        [&](const data::BrokenRecord& record, const data::Position&) {
          all.broken.push_back(record.what());
        });
  }
  return all;
}

TEST(Instructions, OfLongLinesComeInPiecesThatKeepTheSegments) {
  const Folder folder;
  std::string line = R"({"messages": [)";
  std::string expected;
  for (int i = 0; i < 300; ++i) {
    const std::string question(static_cast<std::size_t>(i * 37), 'q');
    const std::string answer = i == 150 ? std::string(300'000, 'a') : "x" + std::to_string(i);
    line += (i > 0 ? R"(,{"role":"user","content":")" : R"({"role":"user","content":")") +
            question + R"("},{"role":"assistant","content":")" + answer + R"("})";
    expected += std::string(i > 0 ? "|-\n" : "|-") + "User:" + (i > 0 ? " " : "") + question +
                "\nAssistant:|+ " + answer;
  }
  const std::string path = folder.write("a.jsonl", line + "]}\n");
  data::ReaderOptions options;
  options.instructions = true;
  options.pieces.bytes = 1000;
  const Read all = read_all(path, options);
  EXPECT_EQ(all.text, expected);
  ASSERT_GT(all.places.size(), 100U);
  for (std::size_t i = 0; i < all.places.size(); i += 17) {  // and go on at each of them
    const Read rest = read_all(path, options, all.places[i]);
    EXPECT_EQ(rest.places, std::vector(all.places.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                       all.places.end()));
    const std::string tail = rest.text.substr(rest.text.find('\n') + 1);
    EXPECT_TRUE(expected.ends_with(tail));
  }
}

TEST(Instructions, AreEqualOnlyWithTheSameCut) {
  const Folder folder;
  const std::string path = folder.write("a.jsonl",
                                        "{\"prompt\": \"ab\", \"completion\": \"c\"}\n"
                                        "{\"prompt\": \"a\", \"completion\": \"bc\"}\n"
                                        "{\"completion\": \"c\", \"prompt\": \"ab\"}\n");
  data::ReaderOptions options;
  options.instructions = true;
  options.hashes = true;
  const auto hashes = read_all(path, options).hashes;
  ASSERT_EQ(hashes.size(), 3U);
  EXPECT_EQ(hashes[0], hashes[2]);
  EXPECT_FALSE(hashes[0] == hashes[1]);
}

TEST(Instructions, AreAcceptedSegmentBySegment) {
  const Folder folder;
  const std::string path = folder.write("a.jsonl", R"({"prompt": "a", "completion": "b"})");
  data::ReaderOptions options;
  options.instructions = true;
  options.accepts = [](std::string_view text) { return text != "b"; };
  EXPECT_EQ(read_all(path, options).broken, std::vector<std::string>{path + ":1: not accepted"});
}

}  // namespace
}  // namespace data_test
