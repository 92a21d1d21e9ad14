#pragma once
/// What both stream formats are asked.

#include <utility>
#include <vector>

#include "base/error.h"
#include "memory_file.h"

namespace fuzz {

/// The content up to 4 MiB and whether it was refused at some place.
template <class Open>
std::pair<std::vector<std::byte>, bool> content_of(std::span<const std::byte> bytes,
                                                   std::size_t source_step, std::size_t step,
                                                   Open&& open) {
  constexpr std::size_t kMost = std::size_t{4} << 20;
  std::vector<std::byte> content;
  try {
    const auto reader = open(std::make_unique<MemoryReader>(bytes, source_step));
    std::vector<std::byte> block(step);
    while (content.size() < kMost) {
      const std::size_t got = reader->read(block);
      if (got > block.size() || reader->source_bytes() > bytes.size()) std::abort();
      if (got == 0) break;
      content.insert(content.end(), block.begin(),
                     block.begin() + static_cast<std::ptrdiff_t>(got));
    }
    content.resize(std::min(content.size(), kMost));
    return {std::move(content), false};
  } catch (const base::Error& error) {
    if (std::strchr(error.what(), '\n') != nullptr) std::abort();
    return {std::move(content), true};
  }
}

/// Reads large blocks and small ones; what was refused may have given more or less before it.
/// `same_refusals`: the library judges alike however its input is cut.
template <class Open>
int compare_cuts(std::span<const std::uint8_t> data, bool same_refusals, Open&& open) {
  const auto bytes = std::as_bytes(data);
  const auto [whole, refused] = content_of(bytes, SIZE_MAX, 1U << 16, open);
  if (whole.size() > (std::size_t{1} << 16)) return 0;  // seen enough
  const auto [pieces, pieces_refused] = content_of(bytes, 3, 7, open);
  if (same_refusals && refused != pieces_refused) std::abort();
  const std::size_t common = std::min(whole.size(), pieces.size());
  if (!refused && !pieces_refused && whole.size() != pieces.size()) std::abort();
  if (!std::equal(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(common),
                  pieces.begin())) {
    std::abort();
  }
  return 0;
}

}  // namespace fuzz
