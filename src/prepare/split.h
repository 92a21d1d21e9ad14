#pragma once
/// Ids -> pieces -> training or validation -> shards. Private to the room.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/data.h"

namespace prepare {

/// How far a sequence is, durably.
struct SequenceState {
  std::int64_t tokens = 0;
  data::TokenId last = 0;
  std::vector<data::ShardInfo> shards;      ///< the completed ones
  std::optional<data::ShardProgress> open;  ///< the one being written
  // With masks:
  std::optional<data::MaskProgress> open_mask;  ///< that of the one being written
  bool last_learnt = false;                     ///< whether `last` is
  bool answered = false;                        ///< an answer, and its document, end here
  std::int64_t learnt = 0;                      ///< of `tokens`
};

/// What becomes of a token, with masks.
enum class Mark : std::uint8_t {
  kGiven,
  kLearnt,
  kBoundary,  ///< begins a document: learnt where it ends an answer that stands before it
};

/// Where and how a sequence is written.
struct SequenceOptions {
  base::Path folder;
  std::string prefix;
  std::int64_t shard_tokens = 0;
  data::ShardFormat format = data::ShardFormat::kLlmc;
  bool masks = false;  ///< beside the shards
};

/// One split's tokens as they come, written as shards PREFIX_000000.bin, PREFIX_000001.bin, ...
/// A full shard holds shard_tokens + 1 tokens, the last of which is the first of the next one.
/// nanoGPT's format is a single file, PREFIX.bin.
class ShardSequence {
 public:
  /// Writes nothing until the first token. With a state, goes on where that was taken.
  explicit ShardSequence(SequenceOptions options, SequenceState left = {});

  /// With masks, there is a mark for each token; else there are none.
  void append(std::span<const data::TokenId> tokens, std::span<const Mark> marks = {});
  /// What was appended last is the end of an answer and of its document.
  void end_answer() { state_.answered = true; }
  /// Completes the last shard, which may be shorter.
  void finish();

  /// Distinct tokens so far.
  std::int64_t tokens() const { return state_.tokens; }
  std::int64_t learnt() const { return state_.learnt; }
  /// The completed shards.
  const std::vector<data::ShardInfo>& shards() const { return state_.shards; }
  /// Grows by one with each shard's worth of tokens.
  std::int64_t milestones() const;
  /// Makes what there is durable.
  SequenceState sync();

  /// Name of shard `index`.
  static std::string shard_name(const std::string& prefix, std::size_t index,
                                data::ShardFormat format);

 private:
  void open_shard();
  void close_shard();
  void append_marks(std::span<const Mark> marks);

  SequenceOptions options_;
  SequenceState state_;
  std::int64_t shard_limit_;
  std::string name_;  // of the shard being written
  std::optional<data::ShardWriter> writer_;
  std::optional<data::MaskWriter> mask_writer_;
  std::vector<std::uint8_t> bits_;  // of what is being appended
};

/// Cuts documents into pieces of kSplitPieceTokens and sends each piece whole to one of two
/// sequences. The choice depends on the document's and the piece's number alone, so that nothing
/// waits for the end of a piece.
class Splitter {
 public:
  /// Where it stands.
  struct State {
    std::int64_t document = -1;
    std::int64_t piece = 0;
    std::int64_t piece_tokens = 0;  ///< of the piece already sent
  };

  /// Both sequences must outlive the splitter.
  Splitter(ShardSequence& train, ShardSequence& validation, double validation_fraction,
           const State& left);

  void begin_document();
  void append(std::span<const data::TokenId> ids, std::span<const Mark> marks = {});
  /// The document ends with an answer.
  void end_answer();

  std::int64_t documents() const { return state_.document + 1; }
  const State& state() const { return state_; }

 private:
  /// Where the present piece goes.
  ShardSequence& target() const;

  ShardSequence& train_;
  ShardSequence& validation_;
  double validation_fraction_;
  State state_;
};

}  // namespace prepare
