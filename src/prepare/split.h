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

/// One split's tokens as they come, written as shards PREFIX_000000.bin, PREFIX_000001.bin, ...
/// A full shard holds shard_tokens + 1 tokens, the last of which is the first of the next one.
class ShardSequence {
 public:
  /// Writes nothing until the first token.
  ShardSequence(base::Path folder, std::string prefix, std::int64_t shard_tokens);

  void append(std::span<const data::TokenId> tokens);
  /// Completes the last shard, which may be shorter.
  void finish();

  /// Distinct tokens so far.
  std::int64_t tokens() const { return tokens_; }
  /// The completed shards.
  const std::vector<data::ShardInfo>& shards() const { return shards_; }

 private:
  void open_shard();
  void close_shard();

  base::Path folder_;
  std::string prefix_;
  std::int64_t shard_tokens_;
  std::string name_;  // of the shard being written
  std::optional<data::ShardWriter> writer_;
  data::TokenId last_ = 0;
  std::int64_t tokens_ = 0;
  std::vector<data::ShardInfo> shards_;
};

/// Cuts documents into pieces of kSplitPieceTokens and sends each piece whole to one of two
/// sequences. The choice depends on the document's and the piece's number alone.
class Splitter {
 public:
  /// Both sequences must outlive the splitter.
  Splitter(ShardSequence& train, ShardSequence& validation, double validation_fraction);

  /// Begins the next document, with the token that precedes its text.
  void begin_document(data::TokenId end_of_text);
  void append(std::span<const data::TokenId> ids);
  void end_document();

  std::int64_t documents() const { return document_ + 1; }

 private:
  void emit();

  ShardSequence& train_;
  ShardSequence& validation_;
  double validation_fraction_;
  std::vector<data::TokenId> piece_;
  std::int64_t document_ = -1;
  std::int64_t piece_number_ = 0;
};

}  // namespace prepare
