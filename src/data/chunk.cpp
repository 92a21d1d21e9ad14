// What threads do beside the reader: lines become texts, texts are checked and hashed.

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "data/documents.h"
#include "data/instruction.h"
#include "data/json_text.h"
#include "data/source.h"

namespace data {

TextBuffer::TextBuffer(TextBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}

TextBuffer& TextBuffer::operator=(TextBuffer&& other) noexcept {
  if (this != &other) {
    std::free(data_);
    data_ = std::exchange(other.data_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
  }
  return *this;
}

void TextBuffer::reserve(std::size_t bytes) {
  constexpr std::size_t kPadding = 64;
  if (bytes <= capacity_) return;
  void* larger = std::realloc(data_, bytes + kPadding);
  if (larger == nullptr) throw std::bad_alloc();
  data_ = static_cast<char*>(larger);
  capacity_ = bytes;
  std::memset(data_ + bytes, 0, kPadding);
}

bool is_accepted(const ReaderOptions& options, std::string_view text,
                 std::span<const Segment> segments) {
  if (!options.accepts) return true;
  if (segments.empty()) return options.accepts(text);
  return std::all_of(segments.begin(), segments.end(), [&](const Segment& segment) {
    const std::string_view part = text.substr(0, segment.bytes);
    text.remove_prefix(segment.bytes);
    return options.accepts(part);
  });
}

base::Hash128 hash_of(std::string_view text, std::span<const Segment> segments) {
  base::Hash128 hash = base::chain_hash(text);
  for (const Segment& segment : segments) {
    const std::uint64_t cut = std::uint64_t{segment.bytes} << 1 | (segment.learnt ? 1U : 0U);
    hash = base::hash128({reinterpret_cast<const char*>(&cut), sizeof cut}, hash);
  }
  return hash;
}

void Chunk::parse(const OnDocument& on_document, const OnBroken& on_broken) {
  if (lines) {
    parse_lines(on_document, on_broken);
    return;
  }
  if (rows) {
    parse_rows(on_document, on_broken);
    return;
  }
  for (Entry& entry : entries) {
    if (entry.broken) {
      on_broken(*entry.broken, entry.document.next);
      continue;
    }
    entry.document.segments = entry.segments;
    hand_out(entry.document, std::string_view(buffer.data() + entry.begin, entry.size),
             entry.checked, on_document, on_broken);
  }
}

void Chunk::parse_lines(const OnDocument& on_document, const OnBroken& on_broken) {
  Position at = begin;
  Instruction instruction;
  char* const data = buffer.data();
  for (std::size_t from = 0; from < size;) {
    char* line = data + from;
    auto* newline = static_cast<char*>(std::memchr(line, '\n', size - from));
    std::size_t length =
        newline != nullptr ? static_cast<std::size_t>(newline - line) : size - from;
    const std::size_t taken = length + (newline != nullptr ? 1 : 0);
    from += taken;
    at.offset += taken;
    ++at.record;
    if (length > 0 && line[length - 1] == '\r') --length;
    if (std::string_view(line, length).find_first_not_of(" \t\r") == std::string_view::npos) {
      continue;
    }
    std::string_view text;
    Document document;
    std::string wrong;
    if (options->instructions) {
      wrong = read_instruction({line, length}, instruction);
      text = instruction.text;
      document.segments = instruction.segments;
    } else {
      wrong = find_text({line, length}, *field, text);
    }
    if (wrong.empty()) {
      document.next = at;
      hand_out(document, text, /*checked=*/false, on_document, on_broken);
    } else {
      on_broken(BrokenRecord(path, at.record, wrong), at);
    }
  }
}

void Chunk::hand_out(Document& document, std::string_view text, bool checked,
                     const OnDocument& on_document, const OnBroken& on_broken) const {
  if (!checked) {
    if (!is_accepted(*options, text, document.segments)) {
      // Behind a record stands the next one; a text file is a record of its own.
      const std::int64_t number = lines || document.next.record > 0 ? document.next.record : 1;
      on_broken(BrokenRecord(path, number, options->refusal), document.next);
      return;
    }
    if (options->hashes) document.hash = hash_of(text, document.segments);
  }
  document.text = text;
  on_document(document);
}

}  // namespace data
