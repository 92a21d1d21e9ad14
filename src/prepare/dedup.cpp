// Open addressing in 256 parts that grow one at a time.

#include "prepare/dedup.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace prepare {
namespace {

constexpr std::size_t kFirstSlots = 64;  // powers of two
constexpr std::size_t kHashBytes = sizeof(base::Hash128);
static_assert(kHashBytes == 16);

bool is_free(const base::Hash128& slot) { return slot == base::Hash128{}; }

/// The slot that holds `hash` or could.
std::size_t find_slot(const std::vector<base::Hash128>& slots, const base::Hash128& hash) {
  const std::size_t mask = slots.size() - 1;
  std::size_t at = hash.low & mask;
  while (!is_free(slots[at]) && slots[at] != hash) at = (at + 1) & mask;
  return at;
}

}  // namespace

HashSet::HashSet(std::size_t max_bytes) : max_slots_(kFirstSlots) {
  while (max_slots_ * 2 * kHashBytes * kParts <= max_bytes) max_slots_ *= 2;
}

HashSet::Outcome HashSet::insert(const base::Hash128& given) {
  base::Hash128 hash = given;
  if (is_free(hash)) hash.low = 1;
  Part& part = parts_[hash.high % kParts];
  if (part.slots.empty()) part.slots.resize(kFirstSlots);
  std::size_t slot = find_slot(part.slots, hash);
  if (!is_free(part.slots[slot])) return Outcome::kKnown;
  const bool crowded = (part.used + 1) * 8 > part.slots.size() * 7;
  if (crowded && part.slots.size() == max_slots_) return Outcome::kFull;
  if (crowded) {
    grow(part);
    slot = find_slot(part.slots, hash);
  }
  part.slots[slot] = hash;
  ++part.used;
  ++size_;
  return Outcome::kNew;
}

void HashSet::grow(Part& part) {
  std::vector<base::Hash128> larger(part.slots.size() * 2);
  for (const base::Hash128& hash : part.slots) {
    if (!is_free(hash)) larger[find_slot(larger, hash)] = hash;
  }
  part.slots.swap(larger);
}

SeenDocuments::SeenDocuments(const base::Path& path, std::int64_t count)
    : file_(path, static_cast<std::uint64_t>(count) * kHashBytes), count_(count) {
  if (count == 0) return;
  const base::MappedFile file(path);
  auto bytes = file.bytes();
  for (; bytes.size() >= kHashBytes; bytes = bytes.subspan(kHashBytes)) {
    base::Hash128 hash;
    std::memcpy(&hash, bytes.data(), kHashBytes);
    set_.insert(hash);
  }
}

bool SeenDocuments::is_new(const base::Hash128& hash) {
  const HashSet::Outcome outcome = set_.insert(hash);
  if (outcome == HashSet::Outcome::kKnown) return false;
  if (outcome == HashSet::Outcome::kFull) {
    ++forgotten_;
    return true;
  }
  file_.write(std::as_bytes(std::span(&hash, 1)));
  ++count_;
  return true;
}

std::int64_t SeenDocuments::sync() {
  file_.sync();
  return count_;
}

}  // namespace prepare
