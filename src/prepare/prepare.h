#pragma once
/// The corpus: documents through the tokenizer into shards.
///
/// Law: threads and order live here; bytes of the output do not depend on the number of threads.

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/data.h"
#include "text/text.h"

namespace prepare {

/// A document's ids are cut into pieces of this many for the choice between training and
/// validation.
inline constexpr std::int64_t kSplitPieceTokens = 4096;

/// The largest full shard: with the shared token its count still fits the header's int32.
inline constexpr std::int64_t kMaxShardTokens = std::numeric_limits<std::int32_t>::max() - 1;

struct Options {
  std::vector<std::string> inputs;
  base::Path out;
  std::int64_t shard_tokens = data::kDefaultShardTokens;
  double validation_fraction = 0.01;  ///< in [0, 1)
  std::string text_field = "text";
};

/// How far preparation is; given to the callback about ten times a second, from one thread.
struct Progress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;  ///< 0 when unknown (stdin)
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  double seconds = 0;
};

struct Result {
  data::Manifest manifest;
  bool already_done = false;  ///< the same arguments on a finished output: nothing was done
  double seconds = 0;
};

/// Writes `out`: train_000000.bin ..., val_000000.bin ..., vocab.json, merges.txt and, last,
/// manifest.json. Memory stays under 1 GiB whatever the inputs' size.
/// The same arguments on a finished output change nothing; an output folder that holds anything
/// else is an Error and is left untouched. On an error nothing but temporaries is left, and those
/// go.
Result run(const Options& options, const text::Tokenizer& tokenizer,
           const std::function<void(const Progress&)>& progress);

}  // namespace prepare
