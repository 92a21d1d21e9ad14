#pragma once
/// What the room's instruction sets share: plain data, and the table of functions that each text of
/// cpu/*.inc compiles to. Private to the room.
///
/// Only plain data here: an inline function would be compiled into every instruction set's object,
/// and the linker might keep the one that this processor cannot run.

#include <cstddef>
#include <cstdint>

namespace text::cpu {

/// Ranks are 16 bits: at most 65,534 merges.
inline constexpr std::uint16_t kNoRank = 0xFFFF;
/// Behind a bucket's ranks: it overflowed, look into the following one as well.
inline constexpr std::uint16_t kLookOn = 0xFFFE;

/// A cache line of the table pair of tokens -> rank: one look-up reads one line.
struct alignas(64) PairBucket {
  static constexpr std::size_t kPairs = 10;
  std::uint32_t keys[kPairs];  // left << 16 | right
  // kNoRank: free; taken from the front. The last one belongs to no key: kNoRank or kLookOn.
  std::uint16_t ranks[kPairs + 1];
  std::uint16_t unused;
};
static_assert(sizeof(PairBucket) == 64);

/// The merges as the loops read them. Everything is owned by the tokenizer's tables.
struct Merges {
  const PairBucket* buckets;
  std::uint32_t shift;           // bucket of a key: key * kPairHash >> shift
  std::uint32_t mask;            // number of buckets - 1
  const std::uint16_t* results;  // rank -> token; null where that is first_result + rank
  std::uint32_t first_result;
  const std::uint16_t* byte_ids;    // byte -> token
  const std::uint16_t* byte_ranks;  // first byte << 8 | second byte -> rank of the two
  const std::uint64_t* joined;  // bit first | second << 8: some merge joins across the two bytes
};

/// Fibonacci hashing: 2^32 / golden ratio.
inline constexpr std::uint32_t kPairHash = 0x9E3779B1U;

/// The classes of characters: kClassBlock and kClassBits of unicode_tables.inc.
struct Classes {
  const std::uint8_t* block;
  const std::uint64_t* bits;
  std::uint32_t limit;
};
extern const Classes kClasses;

/// ASCII: what the pattern asks of a byte, as bits. 0 for bytes of longer characters.
enum ByteFlag : std::uint8_t {
  kLetter = 1,
  kNumber = 2,
  kSpace = 4,
  kApostrophe = 8,  // with kSpace: U+0020
  kStmd = 16,       // 's 't 'm 'd
  kRv = 32,         // 're 've
  kE = 64,
  kL = 128,  // 'll
};
struct ByteFlags {
  alignas(64) std::uint8_t of[256];
};
extern const ByteFlags kByteFlags;

/// Where cutting stands between two blocks of 64 bytes. Each word is a mask of the last block.
struct CutState {
  std::uint64_t letters, numbers, spaces, blanks, invalid, starts, apostrophes, rv, l;
  std::uint64_t pairs, triples;  // contractions of 2 and 3 bytes end here
  std::uint64_t wide_space_ends;
  // What a character that began in the last block says about this one.
  std::uint64_t next_letters, next_numbers, next_spaces, next_whole, next_wide_space_ends;
  bool inside;  // false before the first block
};

/// Bytes that are cut at once; positions in them fit 16 bits.
inline constexpr std::size_t kChunkBytes = 8192;
inline constexpr std::size_t kBlockBytes = 64;
/// Room for the positions of a chunk: one a byte and a whole vector behind the last.
inline constexpr std::size_t kPositions = kChunkBytes + 128;

/// The ids of a piece of up to 15 bytes.
struct alignas(32) ShortEntry {
  static constexpr std::size_t kMostBytes = 15;
  static constexpr std::size_t kMostIds = 7;
  std::uint8_t key[16];  // zero-padded, the length in the last byte; 0 there: a free entry
  std::uint16_t ids[kMostIds];
  std::uint16_t count;  // 0: more ids than fit, see the long entries
};

/// The ids of a piece of up to 63 bytes.
struct alignas(64) LongEntry {
  static constexpr std::size_t kMostBytes = 63;
  static constexpr std::size_t kMostIds = 31;
  std::uint8_t key[64];  // as in ShortEntry
  std::uint16_t ids[kMostIds];
  std::uint16_t count;
};

/// The ids of pieces seen before. Sets of two short entries share a cache line, the one used last
/// in front; a long entry has one place. Forgetting is harmless.
struct Cache {
  ShortEntry* entries;
  std::size_t capacity;  // of entries, a power of two
  std::size_t most;      // to which capacity may grow
  std::size_t used;
  std::size_t full;  // it grows when so many are used
  LongEntry* long_entries;
  std::size_t long_capacity;  // a power of two
};

/// One encoder's data as the loops see it.
struct Session {
  Merges merges;
  Cache cache;
  std::uint16_t* block;  // ids gather here
  std::size_t block_ids;
  void* owner;
};

/// Ids that a block has room for at least when a group of pieces begins.
inline constexpr std::size_t kGroup = 128;
inline constexpr std::size_t kGroupIds = kGroup * 16;

/// The longest piece of Kernels::merge.
inline constexpr std::size_t kMostMergedBytes = 32;
/// The longest of Kernels::merge_medium, a quadratic search.
inline constexpr std::size_t kMediumBytes = 256;

/// What the loops ask of the encoder (encoder.cpp).
/// Takes the first `count` ids of the block.
void take_block(Session& session, std::size_t count);
/// Passes on the ids of a piece longer than kMediumBytes; the block must have been taken.
void take_long_piece(Session& session, const char* piece, std::size_t bytes);
/// Gives the cache twice as many entries, all free. Returns the old ones, which stay until
/// free_old_entries.
ShortEntry* double_entries(Session& session);
void free_old_entries(Session& session);

/// What one instruction set can do.
struct Kernels {
  const char* name;
  /// Passes the ids of a text on, block by block.
  void (*encode)(Session& session, const char* text, std::size_t bytes);
  /// Where pieces begin in `blocks` blocks from text[begin] on; returns how many. A position p
  /// stands for text[begin - 1 + p]. The block behind the text's last byte must be asked for too.
  std::size_t (*cut)(CutState& state, const char* text, std::size_t bytes, std::size_t begin,
                     std::size_t blocks, std::uint16_t* positions);
  /// The ids of a piece of 1 to kMostMergedBytes bytes; returns how many.
  std::size_t (*merge)(const Merges& merges, const char* piece, std::size_t bytes,
                       std::uint16_t* ids);
  /// The same for 1 to kMediumBytes bytes.
  std::size_t (*merge_medium)(const Merges& merges, const char* piece, std::size_t bytes,
                              std::uint16_t* ids);
  /// The rank of two tokens; kNoRank where no merge joins them.
  std::uint16_t (*rank)(const Merges& merges, std::uint32_t left, std::uint32_t right);
  /// Puts pieces that are one token into free entries: token i is pool[begins[i], begins[i + 1])
  /// where bit i of `whole` is set. 16 bytes must be readable from each.
  void (*seed)(Session& session, const char* pool, const std::uint32_t* begins,
               const std::uint64_t* whole, std::size_t tokens);
};

extern const Kernels kGenericTable;
extern const Kernels kAvx2Table;
extern const Kernels kAvx512Table;

}  // namespace text::cpu
