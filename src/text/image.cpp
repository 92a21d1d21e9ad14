// The image of a vocabulary: sections of one block of memory, each on a cache line.

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "text/bpe.h"
#include "text/vocabulary.h"

namespace text {
namespace {

/// Changes with the layout.
constexpr std::uint32_t kMagic = 0x42504502;
constexpr std::uint32_t kNone = 0xFFFFFFFF;

enum Section : std::uint8_t {
  kBegins,
  kPool,
  kLiteral,
  kList,
  kWhole,
  kPairs,
  kResults,
  kByteIds,
  kByteRanks,
  kJoined,
  kSections,
};

struct Header {
  std::uint32_t magic;
  std::uint32_t end_of_text;  // kNone: none
  std::uint64_t offset[kSections];
  std::uint64_t bytes[kSections];
};

/// Puts one section behind another.
class Writer {
 public:
  Writer() : image_((sizeof(Header) + sizeof(ImageLine) - 1) / sizeof(ImageLine)) {
    header_.magic = kMagic;
  }

  template <class T>
  void add(Section section, const T* values, std::size_t count, std::size_t readable_behind = 0) {
    const std::size_t bytes = count * sizeof(T);
    const std::size_t offset = image_.size() * sizeof(ImageLine);
    image_.resize(image_.size() + (bytes + readable_behind) / sizeof(ImageLine) + 1);
    if (bytes > 0) {
      std::memcpy(std::as_writable_bytes(std::span(image_)).data() + offset, values, bytes);
    }
    header_.offset[section] = offset;
    header_.bytes[section] = bytes;
  }
  Image finish(std::uint32_t end_of_text) {
    header_.end_of_text = end_of_text;
    std::memcpy(image_.data(), &header_, sizeof(header_));
    return std::move(image_);
  }

 private:
  Header header_{};
  Image image_;
};

std::span<const std::byte> bytes_of(const Image& image) { return std::as_bytes(std::span(image)); }

template <class T>
std::span<const T> section(std::span<const std::byte> image, Section section) {
  Header header;
  std::memcpy(&header, image.data(), sizeof(header));
  return {reinterpret_cast<const T*>(image.data() + header.offset[section]),
          header.bytes[section] / sizeof(T)};
}

/// Which two bytes some merge joins across: the last of its left and the first of its right token.
std::vector<std::uint64_t> joined_bytes(const Vocabulary& vocabulary) {
  std::vector<std::uint64_t> joined(65536 / 64);
  for (const Merge& merge : vocabulary.merges) {
    const auto left = static_cast<std::uint8_t>(vocabulary.bytes(merge.left).back());
    const auto right = static_cast<std::uint8_t>(vocabulary.bytes(merge.right).front());
    const std::size_t two = left | std::size_t{right} << 8;
    joined[two / 64] |= std::uint64_t{1} << two % 64;
  }
  return joined;
}

/// Rank -> token, or nothing where the tokens follow each other in order of rank.
std::vector<TokenId> results_of(const Vocabulary& vocabulary) {
  std::vector<TokenId> results;
  bool in_order = true;
  for (const Merge& merge : vocabulary.merges) {
    in_order = in_order && merge.result == vocabulary.merges.front().result + results.size();
    results.push_back(merge.result);
  }
  return in_order ? std::vector<TokenId>() : results;
}

/// The ranks of pairs of single bytes. Two merges never have the same two tokens.
std::vector<std::uint16_t> byte_ranks(const Vocabulary& vocabulary) {
  std::vector<int> byte_of(vocabulary.size(), -1);
  for (int b = 0; b < 256; ++b) byte_of[vocabulary.byte_ids[static_cast<std::size_t>(b)]] = b;
  std::vector<std::uint16_t> ranks(65536, cpu::kNoRank);
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const Merge& merge = vocabulary.merges[rank];
    const int left = byte_of[merge.left];
    const int right = byte_of[merge.right];
    if (left < 0 || right < 0) continue;
    ranks[static_cast<std::size_t>(left << 8 | right)] = static_cast<std::uint16_t>(rank);
  }
  return ranks;
}

}  // namespace

Image make_image(const Vocabulary& vocabulary, const std::string& merges_name) {
  if (vocabulary.merges.size() > cpu::kLookOn) {
    base::fail("{}: expected at most {} merges, got {}", merges_name, cpu::kLookOn,
               vocabulary.merges.size());
  }
  Writer writer;
  const std::vector<TokenId> results = results_of(vocabulary);
  const std::vector<std::uint64_t> whole(vocabulary.size() / 64 + 1);
  writer.add(kBegins, vocabulary.begins.data(), vocabulary.begins.size());
  writer.add(kPool, vocabulary.pool.data(), vocabulary.pool.size(), Tokenizer::Tables::kReadable);
  writer.add(kLiteral, vocabulary.literal.data(), vocabulary.literal.size());
  writer.add(kList, vocabulary.merges.data(), vocabulary.merges.size());
  writer.add(kWhole, whole.data(), whole.size());
  writer.add(kPairs, vocabulary.pairs.data(), vocabulary.pairs.size());
  writer.add(kResults, results.data(), results.size());
  writer.add(kByteIds, vocabulary.byte_ids.data(), vocabulary.byte_ids.size());
  const auto ranks = byte_ranks(vocabulary);
  writer.add(kByteRanks, ranks.data(), ranks.size());
  const auto joined = joined_bytes(vocabulary);
  writer.add(kJoined, joined.data(), joined.size());
  return writer.finish(vocabulary.end_of_text ? *vocabulary.end_of_text : kNone);
}

void mark_whole_tokens(Image& image) {
  const Tokenizer::Tables tables(bytes_of(image));
  auto* const whole = const_cast<std::uint64_t*>(tables.whole.data());  // of `image`, ours
  TokenId ids[cpu::kMostMergedBytes];
  for (std::size_t id = 0; id < tables.size(); ++id) {
    const std::string_view bytes = tables.bytes(id);
    if (bytes.empty() || bytes.size() > cpu::ShortEntry::kMostBytes) continue;
    if (tables.is_literal(static_cast<TokenId>(id))) continue;
    const std::size_t count =
        cpu::kGenericTable.merge(tables.merges, bytes.data(), bytes.size(), ids);
    if (count == 1 && ids[0] == id) whole[id / 64] |= std::uint64_t{1} << id % 64;
  }
}

Tokenizer::Tables::Tables(std::span<const std::byte> image) { set_parts(image); }

Tokenizer::Tables::Tables(Image image) : owned_(std::move(image)) { set_parts(bytes_of(owned_)); }

void Tokenizer::Tables::set_parts(std::span<const std::byte> image) {
  Header header;
  std::memcpy(&header, image.data(), sizeof(header));
  if (header.magic != kMagic) base::fail("the built-in vocabulary is broken; build gpt2 again");
  begins = section<std::uint32_t>(image, kBegins);
  pool = section<char>(image, kPool).data();
  literal = section<TokenId>(image, kLiteral);
  list = section<Merge>(image, kList);
  whole = section<std::uint64_t>(image, kWhole);
  if (header.end_of_text != kNone) end_of_text = static_cast<TokenId>(header.end_of_text);
  const auto pairs = section<cpu::PairBucket>(image, kPairs);
  merges.buckets = pairs.data();
  merges.shift = static_cast<std::uint32_t>(32 - std::countr_zero(pairs.size()));
  merges.mask = static_cast<std::uint32_t>(pairs.size() - 1);
  const auto results = section<TokenId>(image, kResults);
  merges.results = results.empty() ? nullptr : results.data();
  merges.first_result = list.empty() ? 0 : list.front().result;
  merges.byte_ids = section<TokenId>(image, kByteIds).data();
  merges.byte_ranks = section<std::uint16_t>(image, kByteRanks).data();
  merges.joined = section<std::uint64_t>(image, kJoined).data();
}

bool Tokenizer::Tables::is_literal(TokenId id) const {
  return std::binary_search(literal.begin(), literal.end(), id);
}

}  // namespace text
