#pragma once
/// Part of the room's door, which includes it: a vocabulary learnt from documents.
///
/// Law: the result does not depend on the number of threads.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "text/text.h"

namespace prepare {

struct LearnOptions {
  std::vector<std::string> inputs;  ///< as prepare::Options
  base::Path out;
  std::string text_field = "text";
  double max_rejected = 0.01;  ///< share of the records that may be broken, in [0, 1]
  text::LearnOptions vocabulary;
};

/// How far it is.
struct LearnProgress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;  ///< 0 when unknown (stdin)
  std::size_t entries = 0;        ///< of the vocabulary; 0 while texts are counted
  double seconds = 0;
};

struct LearnResult {
  std::size_t vocab_size = 0;
  std::uint64_t text_bytes = 0;
  std::uint64_t pieces = 0;          ///< pre-tokens counted
  std::size_t different_pieces = 0;  ///< after forgetting the rarest, where there were too many
  std::int64_t records = 0;          ///< broken ones included
  std::int64_t rejected = 0;         ///< records that were broken and passed over
  std::string first_rejected;        ///< file, line or row, and reason of the first one
  double seconds = 0;
};

/// Writes `out`: vocab.json, merges.txt and tokenizer.json, all of them or nothing. `out` must be
/// absent or an empty folder. Broken records are passed over; more than max_rejected of them are an
/// Error, at the end of the inputs or, with max_rejected = 0, soon after the first. Memory stays
/// under 1.5 GiB whatever the inputs are: pre-tokens are added up every 64 MiB of text, of which
/// the 4 million commonest are kept.
LearnResult learn(const LearnOptions& options,
                  const std::function<void(const LearnProgress&)>& progress);

}  // namespace prepare
