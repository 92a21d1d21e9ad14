// A model's folder: one file, or several named by an index.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "formats/formats.h"
#include "formats/safetensors_bytes.h"
#include "temporary_folder.h"

namespace {

using formats::TensorFile;
using formats_test::file_bytes;
using formats_test::put;

class Index : public testing::Test {
 protected:
  void SetUp() override {
    put(folder_ / "one.safetensors", file_bytes(kA, 1));
    put(folder_ / "two.safetensors", file_bytes(kB, 2));
  }
  void index(const std::string& text) { put(folder_ / "model.safetensors.index.json", text); }
  void weight_map(const std::string& map) { index(R"({"metadata":{},"weight_map":)" + map + "}"); }
  TensorFile open() { return TensorFile::open_model(folder_.path()); }
  void refuse(const std::string& message) {
    expect_error((folder_ / "model.safetensors.index.json").string() + ": " + message,
                 [&] { open(); });
  }

  static constexpr const char* kA = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  static constexpr const char* kB = R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  TemporaryFolder folder_;
};

TEST_F(Index, GathersTheTensorsOfAllFiles) {
  weight_map(R"({"b":"two.safetensors","a":"one.safetensors"})");
  const TensorFile file = open();
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.find("a")->bytes.size(), 1U);
  EXPECT_EQ(std::to_integer<int>(file.find("b")->bytes[1]), 1);
}

TEST_F(Index, IsNotAskedWhereThereIsASingleFile) {
  index("not JSON");
  put(folder_ / "model.safetensors", file_bytes(kB, 2));
  EXPECT_EQ(open().tensors().size(), 1U);
}

TEST_F(Index, AbsentWithTheFileMeansNoWeights) {
  expect_error(folder_.path().string() +
                   ": no weights: expected model.safetensors or model.safetensors.index.json",
               [&] { open(); });
  const std::string nowhere = (folder_ / "nowhere").string();
  expect_error(nowhere + ": no such folder; expected a model directory",
               [&] { TensorFile::open_model(nowhere); });
}

TEST_F(Index, RefusesPathsThatLeaveTheFolder) {
  for (const std::string name :
       {"../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", ".", "", "a\\\\b"}) {
    weight_map(R"({"a":")" + name + R"("})");
    refuse("weight_map: \"a\": expected the name of a file in the same folder, got \"\\\"" +
           std::string(name == "a\\\\b" ? R"(a\\\\b)" : name) + "\\\"\"");
  }
  weight_map(R"({"a":3})");
  refuse("weight_map: \"a\": expected the name of a file in the same folder, got \"3\"");
}

TEST_F(Index, RefusesATensorThatItsFileLacks) {
  weight_map(R"({"a":"one.safetensors","b":"two.safetensors","c":"one.safetensors"})");
  refuse("tensor \"c\" is listed in one.safetensors but not there");
}

TEST_F(Index, RefusesATensorThatTheIndexDoesNotKnow) {
  put(folder_ / "two.safetensors",
      file_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                 R"("b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                 2));
  weight_map(R"({"a":"one.safetensors","b":"two.safetensors"})");
  refuse("tensor \"a\" is in two.safetensors but not listed there by the index");
}

TEST_F(Index, RefusesAMissingFileByName) {
  weight_map(R"({"a":"three.safetensors"})");
  EXPECT_THAT(error_of([&] { open(); }), testing::HasSubstr("three.safetensors"));
}

TEST_F(Index, RefusesAnIndexOfAnotherForm) {
  index(R"({"weight_map":[]})");
  refuse("expected an object weight_map");
  index("{}");
  refuse("expected an object weight_map");
  weight_map("{}");
  refuse("weight_map names no tensor");
  weight_map(R"({"a":"one.safetensors","a":"two.safetensors"})");
  refuse("the name \"a\" stands there twice");
  index("");
  EXPECT_THAT(error_of([&] { open(); }), testing::HasSubstr("not UTF-8 JSON"));
}

}  // namespace
