// Byte streams: what gzip and zstd files hold, in reads of any size, and what is wrong with broken
// ones.

#include "data/bytes.h"

#include <zlib.h>
#include <zstd.h>

#include "data/damage.h"
#include "data/helpers.h"

namespace data_test {
namespace {

using data::ByteReader;
using data::open_bytes;

/// Text that compresses, but not to nothing: several blocks of both formats.
std::string sample(std::size_t size) {
  std::string text;
  for (std::uint32_t i = 1; text.size() < size; i = i * 1664525 + 1013904223) {
    text += "word" + std::to_string(i % 5000) + (i % 11 == 0 ? "\n" : " ");
  }
  text.resize(size);
  return text;
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

/// With a checksum, so that every changed byte of the content is seen.
std::string zstd(const std::string& text) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return packed;
}

std::string read_all(ByteReader& reader, std::size_t step) {
  std::string text;
  std::string block(step, '\0');
  for (;;) {
    const std::size_t got = reader.read(std::as_writable_bytes(std::span(block)));
    if (got == 0) break;
    text.append(block, 0, got);
  }
  EXPECT_EQ(reader.read(std::as_writable_bytes(std::span(block))), 0U);
  return text;
}

std::string read_file(const base::Path& path, std::size_t step = 65'536) {
  return read_all(*open_bytes(path), step);
}

struct Format {
  const char* name;
  std::string (*pack)(const std::string&);
};
const Format kPlain{"a.txt", [](const std::string& text) { return text; }};
const Format kGzip{"a.txt.gz", gzip};
const Format kZstd{"a.txt.zst", zstd};

TEST(Bytes, AreTheSameInReadsOfAnySize) {
  const Folder folder;
  const std::string text = sample(700'001);
  for (const Format& format : {kPlain, kGzip, kZstd}) {
    const std::string packed = format.pack(text);
    const std::string path = folder.write(format.name, packed);
    for (const std::size_t step : {1UL, 7UL, 65'536UL, 131'072UL, 5'000'000UL}) {
      const auto reader = open_bytes(path);
      EXPECT_EQ(reader->source_bytes(), 0U);
      EXPECT_TRUE(read_all(*reader, step) == text) << format.name << " " << step;
      EXPECT_EQ(reader->source_bytes(), packed.size());
    }
  }
}

TEST(Bytes, OfNothingAreNothing) {
  const Folder folder;
  for (const Format& format : {kPlain, kGzip, kZstd}) {
    EXPECT_EQ(read_file(folder.write(format.name, format.pack(""))), "");
  }
}

TEST(Bytes, CountSourceBytesOnTheWay) {
  const Folder folder;
  for (const Format& format : {kPlain, kGzip, kZstd}) {
    const std::string packed = format.pack(sample(2'000'000));
    const auto reader = open_bytes(folder.write(format.name, packed));
    std::string half(1'000'000, '\0');
    reader->read(std::as_writable_bytes(std::span(half)));
    EXPECT_GT(reader->source_bytes(), packed.size() * 2 / 5) << format.name;
    EXPECT_LT(reader->source_bytes(), packed.size() * 3 / 5) << format.name;
  }
}

TEST(Bytes, JoinMembersAndFrames) {
  const Folder folder;
  const std::string first = sample(300'000);
  for (const Format& format : {kGzip, kZstd}) {
    const std::string packed = format.pack(first) + format.pack("") + format.pack("last");
    for (const std::size_t step : {1UL, 65'536UL}) {
      EXPECT_TRUE(read_file(folder.write(format.name, packed), step) == first + "last");
    }
  }
}

TEST(Bytes, LeaveOutSkippableFramesAndPadding) {
  const Folder folder;
  const std::string skipped("\x50\x2A\x4D\x18\x05\x00\x00\x00hello", 13);
  const std::string packed = skipped + zstd("one ") + skipped + zstd("two") + skipped;
  EXPECT_EQ(read_file(folder.write("a.zst", packed)), "one two");
  EXPECT_EQ(read_file(folder.write("b.zst", skipped)), "");
  EXPECT_EQ(read_file(folder.write("a.gz", gzip("one") + std::string(200'000, '\0'))), "one");
}

TEST(Bytes, ReadFramesWithLargeWindows) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 30);
  std::string packed(1000, '\0');
  ZSTD_inBuffer in{"long", 4, 0};
  ZSTD_outBuffer out{packed.data(), packed.size(), 0};
  ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush);  // the size stays unknown
  ASSERT_EQ(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0U);
  ZSTD_freeCCtx(context);
  packed.resize(out.pos);
  const Folder folder;
  const std::string path = folder.write("a.zst", packed);
  EXPECT_EQ(read_file(path), "long");
  expect_error_with("corrupt zstd data near byte 0: Frame requires too much memory", [&] {
    read_all(*data::unzstd(open_bytes(folder.write("a.txt", packed)), "a", 20), 9);
  });
}

TEST(Bytes, RefuseEveryTruncation) {
  const Folder folder;
  for (const Format& format : {kGzip, kZstd}) {
    const std::string packed = format.pack(sample(300));
    const std::string path = folder.write(format.name, packed + packed);
    for_each_truncation(path, [&](std::size_t size) {
      if (size == packed.size()) return;  // the first member or frame, whole
      expect_error_with(path + ": the file ends at byte " + std::to_string(size) + " inside ",
                        [&] { read_file(path); });
    });
  }
}

TEST(Bytes, RefuseChangedContent) {
  const Folder folder;
  const std::string text = sample(300);
  for (const Format& format : {kGzip, kZstd}) {
    const std::string packed = format.pack(text);
    const std::string path = folder.write(format.name, packed);
    std::size_t refused = 0;
    for (std::size_t i = 0; i < packed.size(); ++i) {
      flip_bits(path, i, 0x10);
      try {  // a bit that means nothing may change, the content may not
        EXPECT_TRUE(read_file(path) == text) << i;
      } catch (const base::Error&) {
        ++refused;
      }
      flip_bits(path, i, 0x10);
    }
    EXPECT_GT(refused, packed.size() * 9 / 10) << format.name;
  }
}

TEST(Bytes, NameWhatIsWrongAndWhere) {
  const Folder folder;
  const auto refuse = [&](const std::string& name, const std::string& bytes,
                          const std::string& message) {
    const std::string path = folder.write(name, bytes);
    expect_error_with(path + ": " + message, [&] { read_file(path); });
  };
  refuse("a.gz", "", "the file ends at byte 0 inside the gzip header; it is not complete");
  refuse("a.gz", "text", "corrupt gzip data near byte 0: expected a gzip header (1f 8b)");
  refuse("a.gz", "\x1ftext", "corrupt gzip data near byte 2: incorrect header check");
  const std::string one = gzip("one");
  refuse("a.gz", one + "text",
         "corrupt gzip data near byte 23: expected another gzip header or the end");
  refuse("a.gz", one + std::string(9, '\0') + one,
         "corrupt gzip data near byte 32: expected another gzip header or the end");
  refuse("a.zst", "", "the file ends at byte 0 inside a zstd frame; it is not complete");
  refuse("a.zst", "text", "corrupt zstd data near byte 0: expected a zstd frame (28 b5 2f fd)");
  refuse("a.zst", zstd("one") + "text",
         "corrupt zstd data near byte 16: expected a zstd frame (28 b5 2f fd)");
  refuse("a.zst", std::string("\x28\xb5\x2f\xfd\x20\x2b\x01\x00\x00", 9),
         "corrupt zstd data near byte ");  // 43 bytes, says the frame, and ends
  expect_error_with("cannot open /nowhere/a.gz: No such file or directory",
                    [] { open_bytes("/nowhere/a.gz"); });
  expect_error_with("at byte 0: Is a directory", [&] { read_file(folder.path()); });
}

}  // namespace
}  // namespace data_test
