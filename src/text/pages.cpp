// Memory maps. A large one starts on a huge page's border: a map that straddles borders has small
// pages at both ends.

#include "text/pages.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/error.h"

namespace text {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

Pages::Pages(std::size_t bytes) : bytes_(bytes) {
  const bool huge = bytes >= kHugePage;
  const std::size_t slack = huge ? kHugePage : 0;
  void* const map =
      ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) base::fail("out of memory: cannot get {} kB", bytes >> 10);
  data_ = map;
  if (!huge) return;
  auto* const begin = static_cast<std::byte*>(map);
  const std::size_t before =
      (kHugePage - reinterpret_cast<std::uintptr_t>(map) % kHugePage) % kHugePage;
  if (before > 0) (void)::munmap(begin, before);
  if (slack > before) (void)::munmap(begin + before + bytes, slack - before);
  data_ = begin + before;
  // A hint only: without huge pages the same memory serves, slower.
  (void)::madvise(data_, bytes, MADV_HUGEPAGE);
}

void advise_huge(void* data, std::size_t bytes) {
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  if (first < last) (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

void Pages::release() noexcept {
  if (data_ != nullptr) (void)::munmap(data_, bytes_);
  data_ = nullptr;
}

}  // namespace text
