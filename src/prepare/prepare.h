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
#include "prepare/learn.h"
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
  std::string text_field = "text";    ///< "a.b" is the field b of the object a
  data::ShardFormat format = data::ShardFormat::kLlmc;
  double max_rejected = 0.01;  ///< share of the records that may be rejected, in [0, 1]
  bool strict_utf8 = false;    ///< reject documents that are not UTF-8
  bool drop_duplicates = false;
  /// The inputs are .jsonl files of instruction data: masks say that the answers are learnt.
  bool mask_prompts = false;
  bool restart = false;  ///< empty a prepared or unfinished output folder first
};

/// How far preparation is; given to the callback about ten times a second, from one thread.
struct Progress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;   ///< 0 when unknown (stdin)
  std::uint64_t bytes_before = 0;  ///< of bytes_done, by an earlier run
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t rejected = 0;
  double seconds = 0;
};

struct Result {
  data::Manifest manifest;
  bool already_done = false;   ///< the same arguments on a finished output: nothing was done
  bool resumed = false;        ///< went on where an earlier run was stopped
  std::int64_t forgotten = 0;  ///< documents that deduplication had no memory to remember
  double seconds = 0;
};

/// Writes `out`: train_000000.bin ..., val_000000.bin ..., their masks, vocab.json, merges.txt,
/// rejected.jsonl if a record was rejected, and, last, manifest.json.
///
/// At each completed shard the state is saved. A run that was stopped, in whatever way, is taken up
/// there by the same arguments on the same inputs (size, time of modification, first and last MiB);
/// the number of threads may be another. Inputs that are no files (stdin) are read from the
/// beginning. The bytes are those of a run that was not stopped. The same arguments on a finished
/// output change nothing; an output folder that holds anything else is an Error and is left
/// untouched. An error before the first state leaves nothing.
///
/// A record that cannot be used is rejected; more than max_rejected of them are an Error, as early
/// as that is certain.
///
/// Memory is at most 2 GiB and 256 MiB a thread, whatever the inputs; 1 GiB more for deduplication.
Result run(const Options& options, const text::Tokenizer& tokenizer,
           const std::function<void(const Progress&)>& progress);

}  // namespace prepare
