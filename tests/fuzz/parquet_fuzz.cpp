// Any bytes as a Parquet file: read, or refused with one line.

#include "base/error.h"
#include "data/parquet.h"
#include "memory_file.h"

namespace {

constexpr std::int64_t kMostRows = 4096;       // a run of nulls can be as long as it likes
constexpr std::size_t kMostBytes = 16U << 20;  // and a value repeated

void check(const base::Error& error) {
  if (std::strchr(error.what(), '\n') != nullptr) std::abort();
}

void read_group(const data::ParquetFile& file, std::size_t group) {
  data::ParquetValues values = file.read(group);
  std::optional<std::string_view> value;
  std::uint64_t sum = 0;
  std::size_t bytes = 0;
  for (std::int64_t row = 0; row < kMostRows && bytes < kMostBytes && values.next(value); ++row) {
    for (const char c : value.value_or("")) sum += static_cast<unsigned char>(c);
    bytes += value.value_or("").size();
  }
  volatile std::uint64_t kept = sum;  // every byte is touched
  (void)kept;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const fuzz::MemoryFile memory(std::as_bytes(std::span(bytes, size)));
  try {
    const data::ParquetFile file(memory.path(), "text");
    for (std::size_t group = 0; group < std::min<std::size_t>(file.row_groups(), 4); ++group) {
      try {
        read_group(file, group);
      } catch (const base::Error& error) {
        check(error);
      }
    }
  } catch (const base::Error& error) {
    check(error);
  }
  return 0;
}
