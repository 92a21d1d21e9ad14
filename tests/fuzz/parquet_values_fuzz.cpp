// Any bytes as the values of a page: the first byte is the encoding, the second the count.

#include "base/error.h"
#include "data/compact.h"
#include "data/parquet_format.h"
#include "data/parquet_values.h"
#include "memory_file.h"

using namespace data::parquet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const Bytes bytes = std::as_bytes(std::span(data, size).subspan(2));
  PageHeader header;
  try {
    if (read_page_header(bytes, header) > bytes.size()) std::abort();
  } catch (const base::Error&) {
  }
  try {
    const std::string_view page("\0\0\0\0\3\0\0\0one\3\0\0\0two\5\0\0\0three", 27);
    const Dictionary dictionary(std::as_bytes(std::span(page)), 4);
    const std::uint32_t count = data[1];
    const auto values = read_values(static_cast<Encoding>(data[0] % 16), bytes, count, &dictionary);
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      for (const char c : values->next()) sum += static_cast<unsigned char>(c);
    }
    volatile std::uint64_t kept = sum;
    (void)kept;
  } catch (const base::Error&) {
  }
  return 0;
}
