// Nothing here waits for the end of a document: memory is one piece.

#include "prepare/split.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/rng.h"
#include "prepare/prepare.h"

namespace prepare {
namespace {

// Chosen so that the very first piece is drawn at 0.9999...: a corpus of one piece is for training.
constexpr std::uint64_t kSplitKey = 137'617;

bool is_validation(std::int64_t document, std::int64_t piece, double fraction) {
  return base::random_uniform(kSplitKey, static_cast<std::uint64_t>(document),
                              static_cast<std::uint64_t>(piece)) < fraction;
}

}  // namespace

ShardSequence::ShardSequence(base::Path folder, std::string prefix, std::int64_t shard_tokens)
    : folder_(std::move(folder)), prefix_(std::move(prefix)), shard_tokens_(shard_tokens) {}

void ShardSequence::open_shard() {
  name_ = fmt::format("{}_{:06}.bin", prefix_, shards_.size());
  writer_.emplace(folder_ / name_);
  if (!shards_.empty()) writer_->append({&last_, 1});
}

void ShardSequence::close_shard() {
  const std::int64_t tokens = writer_->tokens();
  shards_.push_back({name_, tokens, writer_->commit()});
  writer_.reset();
}

void ShardSequence::append(std::span<const data::TokenId> tokens) {
  while (!tokens.empty()) {
    // A full shard is closed only when more follows, so that none holds the shared token alone.
    if (writer_ && writer_->tokens() == shard_tokens_ + 1) close_shard();
    if (!writer_) open_shard();
    const auto room = static_cast<std::size_t>(shard_tokens_ + 1 - writer_->tokens());
    const auto part = tokens.first(std::min(room, tokens.size()));
    writer_->append(part);
    last_ = part.back();
    tokens_ += std::ssize(part);
    tokens = tokens.subspan(part.size());
  }
}

void ShardSequence::finish() {
  if (writer_) close_shard();
}

Splitter::Splitter(ShardSequence& train, ShardSequence& validation, double validation_fraction)
    : train_(train), validation_(validation), validation_fraction_(validation_fraction) {
  piece_.reserve(static_cast<std::size_t>(kSplitPieceTokens));
}

void Splitter::begin_document(data::TokenId end_of_text) {
  ++document_;
  piece_number_ = 0;
  append({&end_of_text, 1});
}

void Splitter::append(std::span<const data::TokenId> ids) {
  while (!ids.empty()) {
    const std::size_t room = static_cast<std::size_t>(kSplitPieceTokens) - piece_.size();
    const auto part = ids.first(std::min(room, ids.size()));
    piece_.insert(piece_.end(), part.begin(), part.end());
    ids = ids.subspan(part.size());
    if (std::ssize(piece_) == kSplitPieceTokens) emit();
  }
}

void Splitter::end_document() {
  if (!piece_.empty()) emit();
}

void Splitter::emit() {
  const bool validation = is_validation(document_, piece_number_, validation_fraction_);
  (validation ? validation_ : train_).append(piece_);
  piece_.clear();
  ++piece_number_;
}

}  // namespace prepare
