// Reading and writing one safetensors file; every promise of the format that a file can break.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "expect_error.h"
#include "formats/formats.h"
#include "formats/safetensors_bytes.h"
#include "temporary_folder.h"

namespace {

using formats::SafetensorsWriter;
using formats::TensorFile;
using formats_test::file_bytes;
using formats_test::put;
using testing::ElementsAre;
using testing::HasSubstr;

class Safetensors : public testing::Test {
 protected:
  TemporaryFolder folder_;
  base::Path path_ = folder_ / "x.safetensors";

  TensorFile open(const std::string& header, std::size_t data_bytes) {
    put(path_, file_bytes(header, data_bytes));
    return TensorFile::open(path_);
  }
  /// Expects this header to be refused with "<path>: <message>".
  void refuse(const std::string& header, std::size_t data_bytes, const std::string& message) {
    expect_error(path_.string() + ": " + message, [&] { open(header, data_bytes); });
  }
};

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

// ---- what is well-formed ----------------------------------------------------------------------

TEST_F(Safetensors, ReadsNamesTypesShapesAndBytes) {
  const TensorFile file = open(R"({"__metadata__":{"format":"pt"},)"
                               R"("b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                               R"("a":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})",
                               32);
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.tensors()[0].name, "a");  // sorted
  const formats::Tensor* const b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, base::DType::kF32);
  EXPECT_THAT(b->shape, ElementsAre(2, 3));
  EXPECT_EQ(b->elements(), 6);
  EXPECT_EQ(b->bytes.size(), 24U);
  EXPECT_EQ(b->view().shape(), (base::Shape{2, 3}));
  EXPECT_EQ(std::to_integer<int>(file.find("a")->bytes[0]), 24);  // the data counts its own bytes
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST_F(Safetensors, OrderOfTheHeaderNeedNotBeTheOrderOfTheData) {
  const TensorFile file = open(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},)"
                               R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                               6);
  EXPECT_EQ(std::to_integer<int>(file.find("a")->bytes[0]), 4);
}

TEST_F(Safetensors, TakesScalarsEmptyTensorsSpacesAndNoTensors) {
  const TensorFile file = open(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                               R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}}   )",
                               4);
  EXPECT_EQ(file.find("s")->elements(), 1);
  EXPECT_EQ(file.find("e")->elements(), 0);
  EXPECT_TRUE(open("{}", 0).tensors().empty());
}

TEST_F(Safetensors, KnowsTypesThatAreOnlySkipped) {
  for (const auto& [name, bytes] : std::map<std::string, int>{{"BOOL", 1},
                                                              {"F8_E4M3", 1},
                                                              {"F8_E5M2", 1},
                                                              {"I16", 2},
                                                              {"U16", 2},
                                                              {"U32", 4},
                                                              {"I64", 8},
                                                              {"U64", 8}}) {
    const TensorFile file =
        open(fmt::format(R"({{"x":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name,
                         3 * bytes),
             static_cast<std::size_t>(3 * bytes));
    EXPECT_FALSE(file.find("x")->type.has_value()) << name;
    expect_error("tensor \"x\": type " + name + " cannot be computed with",
                 [&] { file.find("x")->view(); });
  }
}

TEST_F(Safetensors, ViewsIntegersOfOneByte) {
  const TensorFile file = open(R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},)"
                               R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
                               5);
  EXPECT_EQ(file.find("a")->view().type(), base::DType::kI8);
  EXPECT_EQ(file.find("b")->view().type(), base::DType::kU8);
  EXPECT_EQ(file.find("b")->view().bytes(), 3);
}

TEST_F(Safetensors, AViewHasOneToFourDimensions) {
  const TensorFile file =
      open(R"({"x":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})", 4);
  expect_error("tensor \"x\": expected 1 to 4 dimensions, got (1, 1, 1, 1, 1)",
               [&] { file.find("x")->view(); });
}

// ---- what is not ------------------------------------------------------------------------------

TEST_F(Safetensors, RefusesAMissingFile) {
  EXPECT_THAT(error_of([&] { TensorFile::open(path_); }), HasSubstr(path_.string()));
}

TEST_F(Safetensors, RefusesAnEmptyFile) {
  put(path_, "");
  expect_error(path_.string() + ": the file is empty, expected safetensors",
               [&] { TensorFile::open(path_); });
}

TEST_F(Safetensors, RefusesAFileShorterThanItsLengthField) {
  put(path_, "1234567");
  expect_error(path_.string() + ": 7 bytes are too few for safetensors; it was cut short",
               [&] { TensorFile::open(path_); });
}

TEST_F(Safetensors, RefusesAHeaderBeyondTheFile) {
  std::string bytes = file_bytes("{}", 0);
  bytes[0] = 3;
  put(path_, bytes);
  expect_error(
      path_.string() + ": header of 3 bytes, the file has 2 after its length; it was cut short",
      [&] { TensorFile::open(path_); });
}

TEST_F(Safetensors, RefusesAHeaderOfOverAHundredMegabytes) {
  for (const int high : {0x01, 0xff}) {
    std::string bytes(16, '\0');
    bytes[7] = static_cast<char>(high);  // 2^56 and more
    put(path_, bytes);
    EXPECT_THAT(error_of([&] { TensorFile::open(path_); }),
                HasSubstr("expected at most 100000000; not a safetensors file"));
  }
}

TEST_F(Safetensors, RefusesAnythingThatIsNotAJsonObject) {
  refuse("", 0, "header: expected a JSON object, starting with '{'");
  refuse("[]", 0, "header: expected a JSON object, starting with '{'");
  refuse(" {}", 0, "header: expected a JSON object, starting with '{'");
  for (const char* const text : {"{", "{}x", "{\"a\":}", "{\"a\":1,}", "{} {}", "{\"\xff\":{}}"}) {
    EXPECT_THAT(error_of([&] { open(text, 0); }),
                HasSubstr(path_.string() + ": header: not UTF-8 JSON"))
        << text;
  }
}

TEST_F(Safetensors, RefusesDeepNestingWithoutFollowingIt) {
  EXPECT_THAT(error_of([&] { open("{\"a\":" + std::string(100'000, '['), 0); }),
              HasSubstr("header: nested deeper than 3 levels"));
}

TEST_F(Safetensors, RefusesANameThatStandsTwice) {
  refuse(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
         R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
         2, "header: the name \"a\" stands there twice");
  refuse(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
         "header: the name \"dtype\" stands there twice");
}

TEST_F(Safetensors, RefusesEntriesOfAnotherForm) {
  refuse(R"({"a":3})", 0, "tensor \"a\": expected an object, got number");
  refuse(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, "tensor \"a\": no dtype");
  refuse(R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,1]}})", 1, "tensor \"a\": no dtype");
  refuse(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "tensor \"a\": no shape");
  refuse(R"({"a":{"dtype":"U8","shape":[1]}})", 1, "tensor \"a\": no data_offsets");
  refuse(R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1,
         "tensor \"a\": shape: expected an array, got number");
  refuse(R"({"__metadata__":[]})", 0, "__metadata__: expected an object, got array");
  refuse(R"({"__metadata__":{"k":1}})", 0, "__metadata__: \"k\": expected a string, got number");
}

TEST_F(Safetensors, RefusesUnknownTypes) {
  refuse(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4,
         "tensor \"a\": unknown dtype \"F31\"");
  refuse(R"({"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})", 4,
         "tensor \"a\": unknown dtype \"f32\"");
}

TEST_F(Safetensors, RefusesNumbersThatAreNoSizes) {
  for (const char* const number :
       {"-1", "1.0", "1e2", "\"1\"", "null", "9223372036854775808", "99999999999999999999999"}) {
    EXPECT_THAT(
        error_of([&] {
          open(fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[0,1]}}}})", number),
               1);
        }),
        HasSubstr("tensor \"a\": shape: expected whole numbers from 0 to 2^63 - 1, got "));
    EXPECT_THAT(
        error_of([&] {
          open(fmt::format(R"({{"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,{}]}}}})", number),
               1);
        }),
        HasSubstr("data_offsets: expected whole numbers from 0 to 2^63 - 1, got "));
  }
}

TEST_F(Safetensors, RefusesAShapeThatIsNotItsBytes) {
  refuse(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,12]}})", 12,
         "tensor \"a\": shape (2, 2) of F32 needs 16 bytes, data_offsets give 12");
  // 2^62 x 4 bytes wraps around to 0, and so does the product of two halves.
  refuse(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0,
         "tensor \"a\": shape (4611686018427387904) of F32 needs over 2^64 bytes, "
         "data_offsets give 0");
  refuse(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
         "tensor \"a\": shape (4294967296, 4294967296) of U8 needs over 2^64 bytes, "
         "data_offsets give 0");
}

TEST_F(Safetensors, RefusesOffsetsThatAreNoRangeOrLeaveTheFile) {
  refuse(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1,
         "tensor \"a\": data_offsets: expected [begin, end], got [0]");
  refuse(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1,
         "tensor \"a\": data_offsets: expected [begin, end], got [1, 0]");
  refuse(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1,
         "tensor \"a\": ends at byte 2 of the data, the file has 1; it was cut short");
}

TEST_F(Safetensors, RefusesHolesOverlapsAndTrailingBytes) {
  refuse(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
         R"("b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
         5, "tensor \"b\": starts at byte 3 of the data, expected 2; there is a hole before it");
  refuse(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
         R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
         5, "tensor \"b\": starts at byte 2 of the data, expected 3; it overlaps another one");
  refuse(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3,
         "1 bytes follow the last tensor; expected the end of the file");
  refuse("{}", 3, "3 bytes follow the last tensor; expected the end of the file");
}

TEST_F(Safetensors, HostileNamesStayOnOneShortLine) {
  const std::string message =
      error_of([&] { open(R"({"a\nb)" + std::string(5000, 'x') + R"(":3})", 0); });
  EXPECT_THAT(message, HasSubstr("a\\nbxxx"));
  EXPECT_LT(message.size(), 400U);
}

// ---- writing ----------------------------------------------------------------------------------

TEST_F(Safetensors, WritesWhatItReads) {
  SafetensorsWriter writer(path_,
                           {{.name = "w", .type = base::DType::kF32, .shape = {2, 2}},
                            {.name = "none", .type = base::DType::kF32, .shape = {0}},
                            {.name = "h", .type = base::DType::kBf16, .shape = {1}}},
                           {{"format", "pt"}});
  writer.write(bytes_of({1, 2, 3}));
  writer.write(bytes_of({4}));
  const std::uint16_t half = 0x3f80;
  writer.write(std::as_bytes(std::span(&half, 1)));
  EXPECT_FALSE(std::filesystem::exists(path_)) << "visible before commit()";
  const std::uint32_t checksum = writer.commit();

  const std::string content = base::read_file(path_);
  EXPECT_EQ(base::crc32c(base::as_bytes(content)), checksum);
  std::uint64_t length = 0;
  std::memcpy(&length, content.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0U);
  const auto header = nlohmann::json::parse(content.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["format"], "pt");
  EXPECT_EQ(header["h"]["data_offsets"], (nlohmann::json{16, 18}));

  const TensorFile file = TensorFile::open(path_);
  const base::ConstView w = file.find("w")->view();
  EXPECT_THAT(std::vector<float>(w.f32(), w.f32() + 4), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(file.find("h")->type, base::DType::kBf16);
}

TEST_F(Safetensors, WritingPastATensorsEndIsRefused) {
  SafetensorsWriter writer(path_, {{.name = "w", .shape = {2}}, {.name = "v", .shape = {2}}}, {});
  expect_error(path_.string() + ": 12 bytes given, tensor \"w\" has room for 8", [&] {
    writer.write(bytes_of({1, 2, 3}));
  });
  writer.write(bytes_of({1, 2}));
  writer.write(bytes_of({3, 4}));
  expect_error(path_.string() + ": 4 bytes given, tensor \"v\" has room for 0",
               [&] { writer.write(bytes_of({5})); });
}

TEST_F(Safetensors, AnUnfinishedFileNeverAppears) {
  {
    SafetensorsWriter writer(path_, {{.name = "w", .shape = {2}}, {.name = "v", .shape = {2}}}, {});
    writer.write(bytes_of({1, 2}));
    expect_error(path_.string() + ": tensor \"v\" lacks 8 bytes", [&] { writer.commit(); });
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(Safetensors, WritingRefusesImpossibleSpecs) {
  expect_error("tensor \"w\": given twice", [&] {
    SafetensorsWriter(path_, {{.name = "w", .shape = {2}}, {.name = "w", .shape = {2}}}, {});
  });
  expect_error("tensor \"w\": shape (-1) cannot exist",
               [&] { SafetensorsWriter(path_, {{.name = "w", .shape = {-1}}}, {}); });
}

}  // namespace
