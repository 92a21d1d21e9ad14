// Encoding: the loops of cpu/ with their memory, and what they ask for.

#include <algorithm>
#include <utility>

#include "text/bpe.h"
#include "text/cpu/isa.h"
#include "text/pages.h"
#include "text/text.h"
#include "text/vocabulary.h"

namespace text {
namespace {

/// Of short texts: a prompt's pieces, without touching much memory.
constexpr std::size_t kSmallEntries = std::size_t{1} << 10;
constexpr std::size_t kSmallLongEntries = std::size_t{1} << 6;
/// Of long ones: the vocabulary and as many pieces again, a quarter full.
constexpr std::size_t kLargeEntries = std::size_t{1} << 18;
constexpr std::size_t kLargeLongEntries = std::size_t{1} << 14;
/// So much text makes an encoder's tables large: filling them takes as long as encoding 1 MB.
constexpr std::size_t kLargeTextBytes = std::size_t{1} << 20;
/// Room for the longest piece of the loops and a group of short ones, twice.
constexpr std::size_t kBlockIds = std::size_t{1} << 13;
static_assert(kBlockIds >= 2 * (cpu::kMediumBytes + cpu::kGroupIds));

}  // namespace

/// What a session's pointers point to, and where its ids go.
struct Memory {
  Memory(const Tokenizer::Tables& tables, const cpu::Kernels& kernels)
      : merger(tables, kernels), block(std::make_unique_for_overwrite<TokenId[]>(kBlockIds)) {}
  Merger merger;
  std::unique_ptr<TokenId[]> block;
  Pages entries;
  Pages old_entries;  // while they move to new ones
  Pages long_entries;
  std::vector<TokenId>* ids = nullptr;
};

namespace {

Memory& memory_of(cpu::Session& session) { return *static_cast<Memory*>(session.owner); }

void set_entries(cpu::Session& session, Pages& pages, std::size_t capacity) {
  pages = Pages(capacity * sizeof(cpu::ShortEntry));
  session.cache.entries = pages.as<cpu::ShortEntry>();
  session.cache.capacity = capacity;
  session.cache.used = 0;
  session.cache.full = capacity / 2;
}

void set_long_entries(cpu::Session& session, Pages& pages, std::size_t capacity) {
  pages = Pages(capacity * sizeof(cpu::LongEntry));
  session.cache.long_entries = pages.as<cpu::LongEntry>();
  session.cache.long_capacity = capacity;
}

std::vector<std::string_view> split_at_end_of_text(std::string_view bytes) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = bytes.find(kEndOfText);
    parts.push_back(bytes.substr(0, at));
    if (at == std::string_view::npos) return parts;
    bytes.remove_prefix(at + kEndOfText.size());
  }
}

}  // namespace

void cpu::take_block(Session& session, std::size_t count) {
  std::vector<TokenId>& ids = *memory_of(session).ids;
  ids.insert(ids.end(), session.block, session.block + count);
}

void cpu::take_long_piece(Session& session, const char* piece, std::size_t bytes) {
  Memory& memory = memory_of(session);
  memory.merger.merge({piece, bytes}, *memory.ids);
}

cpu::ShortEntry* cpu::double_entries(Session& session) {
  Memory& memory = memory_of(session);
  memory.old_entries = std::move(memory.entries);
  set_entries(session, memory.entries, 2 * session.cache.capacity);
  return memory.old_entries.as<ShortEntry>();
}

void cpu::free_old_entries(Session& session) { memory_of(session).old_entries = Pages(); }

struct Encoder::State {
  State(const Tokenizer::Tables& t, const cpu::Kernels& k, std::size_t cache_bytes)
      : tables(t), kernels(k), memory(t, k) {
    session.merges = t.merges;
    session.block = memory.block.get();
    session.block_ids = kBlockIds;
    session.owner = &memory;
    // Half of it: while the table grows, the old one is there as well, half as large.
    std::size_t most = kSmallEntries;
    while (2 * most * sizeof(cpu::ShortEntry) <= cache_bytes / 2) most *= 2;
    session.cache.most = most;
    set_entries(session, memory.entries, kSmallEntries);
    set_long_entries(session, memory.long_entries, kSmallLongEntries);
  }

  /// Makes the tables large once there is much text.
  void expect(std::size_t bytes) {
    // A quarter full is a few per cent faster than half full, once growing has paid off.
    if (text_bytes >= session.cache.capacity * 64) session.cache.full = session.cache.capacity / 4;
    text_bytes += bytes;
    if (large || text_bytes < kLargeTextBytes || session.cache.most < kLargeEntries) return;
    large = true;
    set_long_entries(session, memory.long_entries, kLargeLongEntries);
    if (session.cache.capacity >= kLargeEntries) return;
    set_entries(session, memory.entries, kLargeEntries);
    kernels.seed(session, tables.pool, tables.begins.data(), tables.whole.data(), tables.size());
  }

  /// Appends the ids of a text without special tokens.
  void encode(std::string_view bytes, std::vector<TokenId>& ids) {
    expect(bytes.size());
    memory.ids = &ids;
    // English has four bytes a token, Chinese one and a half. Room that stays unused is never
    // touched.
    const std::size_t needed = ids.size() + bytes.size() / 4 * 3 + 4;
    if (needed > ids.capacity()) {
      ids.reserve(std::max(needed, 2 * ids.capacity()));
      advise_huge(ids.data() + ids.size(), (ids.capacity() - ids.size()) * sizeof(TokenId));
    }
    kernels.encode(session, bytes.data(), bytes.size());
  }

  const Tokenizer::Tables& tables;
  const cpu::Kernels& kernels;
  Memory memory;
  cpu::Session session{};
  std::size_t text_bytes = 0;  // so far
  bool large = false;
};

Encoder::Encoder(const Tokenizer& tokenizer, std::size_t cache_bytes)
    : state_(std::make_unique<State>(tokenizer.tables(), cpu::chosen_kernels(), cache_bytes)) {}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;

void Encoder::encode(std::string_view bytes, std::vector<TokenId>& ids, SpecialTokens special) {
  const auto end_of_text = state_->tables.end_of_text;
  if (special == SpecialTokens::kAsText || !end_of_text) {
    state_->encode(bytes, ids);
    return;
  }
  const auto parts = split_at_end_of_text(bytes);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) ids.push_back(*end_of_text);
    state_->encode(parts[i], ids);
  }
}

std::string_view Encoder::instruction_set() const { return state_->kernels.name; }

std::vector<std::string_view> cut_for_threads(std::string_view bytes, std::size_t parts) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::vector<std::string_view> found;
  std::size_t begin = 0;
  for (std::size_t part = 1; part <= parts && begin < bytes.size(); ++part) {
    std::size_t end = std::max(begin + 1, bytes.size() / parts * part);
    // A piece always starts where white space follows a letter, and nothing before it depends on
    // what comes then.
    while (end < bytes.size() &&
           !(is_letter(bytes[end - 1]) && (bytes[end] == ' ' || bytes[end] == '\n'))) {
      ++end;
    }
    if (part == parts) end = bytes.size();
    found.push_back(bytes.substr(begin, end - begin));
    begin = end;
  }
  return found;
}

std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view bytes,
                            SpecialTokens special) {
  std::vector<TokenId> ids;
  Encoder(tokenizer).encode(bytes, ids, special);
  return ids;
}

}  // namespace text
