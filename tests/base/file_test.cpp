// Files: what is written appears whole or not at all; every failure names the path and the reason.

#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "expect_error.h"

namespace base {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;

/// A fresh folder of its own for each test.
class FileTest : public testing::Test {
 protected:
  FileTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = Path(testing::TempDir()) /
              ("base_" + std::string(test->name()) + "_" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~FileTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  /// Names in the folder, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      result.push_back(entry.path().filename());
    }
    std::sort(result.begin(), result.end());
    return result;
  }
  std::string path(const std::string& name) const { return folder_ / name; }

  Path folder_;
};

/// A file system of its own on a folder; needs root, and says whether it got it.
class Mount {
 public:
  Mount(const Path& folder, unsigned long flags, const char* options) : folder_(folder) {
    mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", flags, options) == 0;
  }
  ~Mount() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  bool mounted() const { return mounted_; }

 private:
  Path folder_;
  bool mounted_ = false;
};

// ---- reading ----------------------------------------------------------------------------------

using ReadFile = FileTest;

TEST_F(ReadFile, ReturnsEveryByte) {
  std::string content(3 << 20, 'x');
  content[5] = '\0';
  content.back() = '\xff';
  write_file(path("a"), content);
  EXPECT_EQ(read_file(path("a")), content);
}

TEST_F(ReadFile, ReturnsNothingForAnEmptyFile) {
  write_file(path("a"), "");
  EXPECT_EQ(read_file(path("a")), "");
}

TEST_F(ReadFile, ReadsFilesThatDoNotKnowTheirSize) {
  EXPECT_THAT(read_file("/proc/self/status"), HasSubstr("VmRSS"));
}

TEST_F(ReadFile, NamesAnAbsentFile) {
  expect_error("cannot open " + path("absent") + ": No such file or directory",
               [&] { (void)read_file(path("absent")); });
}

TEST_F(ReadFile, RefusesAFolder) {
  expect_error("cannot read " + folder_.string() + ": it is a folder, expected a file",
               [&] { (void)read_file(folder_); });
}

using MappedFileTest = FileTest;

TEST_F(MappedFileTest, ShowsTheBytes) {
  write_file(path("a"), "hello");
  const MappedFile file(path("a"));
  EXPECT_EQ(as_text(file.bytes()), "hello");
  EXPECT_EQ(file.path(), path("a"));
}

TEST_F(MappedFileTest, OfAnEmptyFileIsEmpty) {
  write_file(path("a"), "");
  EXPECT_TRUE(MappedFile(path("a")).bytes().empty());
  EXPECT_TRUE(MappedFile().bytes().empty());
}

TEST_F(MappedFileTest, MovesItsMapping) {
  write_file(path("a"), "first");
  write_file(path("b"), "second");
  MappedFile a(path("a"));
  MappedFile moved(std::move(a));
  EXPECT_EQ(as_text(moved.bytes()), "first");
  moved = MappedFile(path("b"));
  EXPECT_EQ(as_text(moved.bytes()), "second");
  EXPECT_EQ(moved.path(), path("b"));
}

TEST_F(MappedFileTest, NamesWhatItCannotOpen) {
  expect_error("cannot open " + path("absent") + ": No such file or directory",
               [&] { MappedFile file(path("absent")); });
  expect_error("cannot read " + folder_.string() + ": it is a folder, expected a file",
               [&] { MappedFile file(folder_); });
}

// ---- writing ----------------------------------------------------------------------------------

using AtomicFileTest = FileTest;

TEST_F(AtomicFileTest, KeepsTheOldContentUntilCommit) {
  write_file(path("a"), "old");
  AtomicFile file(path("a"));
  file.write(std::string(2 << 20, 'n'));  // more than the buffer: some of it is on disk by now
  EXPECT_EQ(read_file(path("a")), "old");
  file.commit();
  EXPECT_EQ(read_file(path("a")), std::string(2 << 20, 'n'));
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, IsAbsentUntilCommit) {
  AtomicFile file(path("a"));
  file.write("text");
  EXPECT_FALSE(std::filesystem::exists(path("a")));
  file.commit();
  EXPECT_EQ(read_file(path("a")), "text");
}

TEST_F(AtomicFileTest, RemovesItsTemporaryWithoutCommit) {
  write_file(path("a"), "old");
  {
    AtomicFile file(path("a"));
    file.write("new");
    EXPECT_EQ(names().size(), 2U);
  }
  EXPECT_THAT(names(), ElementsAre("a"));
  EXPECT_EQ(read_file(path("a")), "old");
}

TEST_F(AtomicFileTest, JoinsPiecesOfEverySize) {
  AtomicFile file(path("a"));
  std::string expected;
  for (const std::size_t size : {1UL, 0UL, (1UL << 20) - 1, 1UL, 1UL << 20, 3UL, (1UL << 20) + 1}) {
    const std::string piece(size, static_cast<char>('a' + size % 26));
    file.write(piece);
    expected += piece;
    EXPECT_EQ(file.size(), expected.size());
  }
  file.commit();
  EXPECT_TRUE(read_file(path("a")) == expected);
}

TEST_F(AtomicFileTest, OverwritesInsideWhatIsWritten) {
  AtomicFile file(path("a"));
  file.write("0123456789");
  file.write_at(2, as_bytes("ab"));
  file.write("!");
  file.write_at(9, as_bytes("cd"));
  EXPECT_EQ(file.size(), 11U);
  file.commit();
  EXPECT_EQ(read_file(path("a")), "01ab45678cd");
}

TEST_F(AtomicFileTest, RefusesToOverwritePastTheEnd) {
  AtomicFile file(path("a"));
  file.write("0123");
  expect_error("cannot write " + path("a") + ": 2 bytes at offset 3 lie past its 4",
               [&] { file.write_at(3, as_bytes("ab")); });
  EXPECT_THROW(file.write_at(UINT64_MAX, as_bytes("ab")), Error);
}

TEST_F(AtomicFileTest, MovesWithItsContent) {
  AtomicFile a(path("a"));
  a.write("one");
  AtomicFile moved(std::move(a));
  moved.write(" two");
  AtomicFile other(path("b"));
  other.write("lost");
  other = std::move(moved);
  EXPECT_THAT(names(), ElementsAre(testing::StartsWith("a.tmp."))) << "b's temporary is gone";
  other.commit();
  EXPECT_EQ(read_file(path("a")), "one two");
}

TEST_F(AtomicFileTest, NamesTheFileItCannotCreate) {
  expect_error("cannot create " + path("no/a") + ": No such file or directory",
               [&] { AtomicFile file(path("no/a")); });
}

TEST_F(AtomicFileTest, LeavesNothingWhereAFolderIsInTheWay) {
  std::filesystem::create_directories(path("a/b"));
  EXPECT_THAT(error_of([&] { write_file(path("a"), "text"); }),
              HasSubstr("cannot write " + path("a") + ": "));
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, OnAFullDiskSaysSoAndLeavesTheOldFile) {
  const Mount disk(folder_, 0, "size=256k");
  if (!disk.mounted()) GTEST_SKIP() << "needs root to mount a small tmpfs";
  write_file(path("a"), "old");
  EXPECT_EQ(
      error_of([&] { write_file(path("a"), std::string(1 << 19, 'x')); }),
      "cannot write " + path("a") + ": No space left on device; free some space and try again");
  EXPECT_THAT(names(), ElementsAre("a"));
  EXPECT_EQ(read_file(path("a")), "old");
}

TEST_F(AtomicFileTest, OnAReadOnlyDiskSaysSo) {
  const Mount disk(folder_, MS_RDONLY, nullptr);
  if (!disk.mounted()) GTEST_SKIP() << "needs root to mount a read-only tmpfs";
  expect_error("cannot create " + path("a") + ": Read-only file system; check the permissions",
               [&] { write_file(path("a"), "text"); });
}

using AtomicFolderTest = FileTest;

TEST_F(AtomicFolderTest, AppearsWholeAtCommit) {
  AtomicFolder folder(path("out"));
  write_file(folder.temporary() / "a", "text");
  EXPECT_FALSE(std::filesystem::exists(path("out")));
  folder.commit();
  EXPECT_EQ(read_file(path("out/a")), "text");
  EXPECT_THAT(names(), ElementsAre("out"));
}

TEST_F(AtomicFolderTest, IsRemovedWithoutCommit) {
  {
    AtomicFolder folder(path("out"));
    std::filesystem::create_directories(folder.temporary() / "deep/er");
    write_file(folder.temporary() / "deep/er/a", "text");
  }
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(AtomicFolderTest, TakesATrailingSlash) {
  AtomicFolder folder(path("out/"));
  write_file(folder.temporary() / "a", "text");
  EXPECT_FALSE(std::filesystem::exists(path("out")));
  folder.commit();
  EXPECT_EQ(read_file(path("out/a")), "text");
}

TEST_F(AtomicFolderTest, RefusesWhatExists) {
  std::filesystem::create_directories(path("out"));
  write_file(path("out/a"), "old");
  {
    AtomicFolder folder(path("out"));
    expect_error("cannot write " + path("out") + ": it exists already", [&] { folder.commit(); });
  }
  EXPECT_EQ(read_file(path("out/a")), "old");
  EXPECT_THAT(names(), ElementsAre("out"));
}

TEST_F(AtomicFolderTest, ReplacesTheWholeFolderWhenAsked) {
  std::filesystem::create_directories(path("out"));
  write_file(path("out/old"), "old");
  AtomicFolder folder(path("out"));
  write_file(folder.temporary() / "new", "new");
  folder.commit(/*replace=*/true);
  EXPECT_FALSE(std::filesystem::exists(path("out/old")));
  EXPECT_EQ(read_file(path("out/new")), "new");
  EXPECT_THAT(names(), ElementsAre("out"));
}

TEST_F(AtomicFolderTest, ReplacesWhereThereIsNothingYet) {
  AtomicFolder folder(path("out"));
  folder.commit(/*replace=*/true);
  EXPECT_TRUE(std::filesystem::is_directory(path("out")));
}

using Folders = FileTest;

TEST_F(Folders, AreCreatedWithTheirParents) {
  create_folders(path("a/b/c"));
  create_folders(path("a/b/c"));
  EXPECT_TRUE(std::filesystem::is_directory(path("a/b/c")));
}

TEST_F(Folders, NameWhatIsInTheWay) {
  write_file(path("a"), "a file");
  EXPECT_THAT(error_of([&] { create_folders(path("a/b")); }),
              HasSubstr("cannot create folder " + path("a/b") + ": "));
}

using FolderLockTest = FileTest;

TEST_F(FolderLockTest, KeepsASecondOneOutWhileItLives) {
  {
    const FolderLock lock(folder_);
    expect_error(
        folder_.string() +
            " is being written by another process; wait for its end or choose another folder",
        [&] { const FolderLock second(folder_); });
  }
  EXPECT_NO_THROW(FolderLock again(folder_));
}

TEST_F(FolderLockTest, NamesAFolderThatIsAbsent) {
  expect_error("cannot open " + path("absent") + ": No such file or directory",
               [&] { const FolderLock lock(path("absent")); });
}

using AppendLine = FileTest;

TEST_F(AppendLine, AddsLines) {
  append_line(path("log"), "one");
  append_line(path("log"), "");
  append_line(path("log"), "three");
  EXPECT_EQ(read_file(path("log")), "one\n\nthree\n");
}

TEST_F(AppendLine, NamesWhatItCannotOpen) {
  EXPECT_THAT(error_of([&] { append_line(path("no/log"), "x"); }),
              EndsWith(path("no/log") + ": No such file or directory"));
}

// ---- checksums --------------------------------------------------------------------------------

TEST(Crc32c, MatchesTheStandard) {
  // Source: RFC 3720, appendix B.4; the last is the customary check value of the CRC catalogues.
  std::string rising;
  std::string falling;
  for (int i = 0; i < 32; ++i) {
    rising += static_cast<char>(i);
    falling += static_cast<char>(31 - i);
  }
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\0'))), 0x8a9136aaU);
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\xff'))), 0x62a8ab43U);
  EXPECT_EQ(crc32c(as_bytes(rising)), 0x46dd794eU);
  EXPECT_EQ(crc32c(as_bytes(falling)), 0x113fdb5cU);
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Crc32c, ContinuesFromAnyCut) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i * 37);
  const std::uint32_t whole = crc32c(as_bytes(text));
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string_view view = text;
    EXPECT_EQ(crc32c(as_bytes(view.substr(cut)), crc32c(as_bytes(view.substr(0, cut)))), whole);
  }
}

TEST(Fnv1a64, MatchesTheStandard) {
  // Source: the test vectors of draft-eastlake-fnv, appendix C.
  EXPECT_EQ(fnv1a64({}), 0xcbf29ce484222325ULL);
  EXPECT_EQ(fnv1a64(as_bytes("a")), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(fnv1a64(as_bytes("foobar")), 0x85944171f73967e8ULL);
  EXPECT_EQ(fnv1a64(as_bytes("bar"), fnv1a64(as_bytes("foo"))), 0x85944171f73967e8ULL);
}

// ---- the machine ------------------------------------------------------------------------------

TEST(FreeDiskBytes, SeesTheDisk) {
  EXPECT_GT(free_disk_bytes("/"), 0U);
  EXPECT_THAT(error_of([] { (void)free_disk_bytes("/absent"); }), HasSubstr("/absent"));
}

TEST(MemoryBytes, ArePlausible) {
  EXPECT_GT(free_memory_bytes(), std::uint64_t{1} << 20);
  EXPECT_LT(free_memory_bytes(), std::uint64_t{1} << 50);
  const std::uint64_t before = peak_memory_bytes();
  EXPECT_GT(before, std::uint64_t{1} << 20);
  const std::string block(64 << 20, 'x');  // written, so resident
  EXPECT_GE(peak_memory_bytes(), block.size());
}

}  // namespace
}  // namespace base
