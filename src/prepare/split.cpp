// Ids go straight to the shard they belong to: nothing is kept for the end of a piece or document.

#include "prepare/split.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
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

ShardSequence::ShardSequence(SequenceOptions options, SequenceState left)
    : options_(std::move(options)),
      state_(std::move(left)),
      shard_limit_(options_.format == data::ShardFormat::kNanogpt
                       ? std::numeric_limits<std::int64_t>::max()
                       : options_.shard_tokens + 1) {
  if (!state_.open) return;
  name_ = shard_name(options_.prefix, state_.shards.size(), options_.format);
  writer_.emplace(options_.folder / name_, options_.format, state_.open);
  if (!options_.masks) return;
  mask_writer_.emplace(options_.folder / data::mask_name(name_), state_.open->tokens,
                       state_.open_mask);
}

std::string ShardSequence::shard_name(const std::string& prefix, std::size_t index,
                                      data::ShardFormat format) {
  if (format == data::ShardFormat::kNanogpt) return prefix + ".bin";
  return fmt::format("{}_{:06}.bin", prefix, index);
}

std::int64_t ShardSequence::milestones() const {
  return options_.format == data::ShardFormat::kNanogpt ? state_.tokens / options_.shard_tokens
                                                        : std::ssize(state_.shards);
}

void ShardSequence::open_shard() {
  name_ = shard_name(options_.prefix, state_.shards.size(), options_.format);
  writer_.emplace(options_.folder / name_, options_.format);
  if (options_.masks) mask_writer_.emplace(options_.folder / data::mask_name(name_));
  if (state_.shards.empty()) return;
  writer_->append({&state_.last, 1});
  const std::uint8_t bit = state_.last_learnt ? 1 : 0;
  if (mask_writer_) mask_writer_->append({&bit, 1});
}

void ShardSequence::close_shard() {
  data::ShardInfo info{name_, writer_->tokens(), writer_->commit()};
  if (mask_writer_) info.mask_crc32c = mask_writer_->commit();
  state_.shards.push_back(std::move(info));
  writer_.reset();
  mask_writer_.reset();
}

void ShardSequence::append(std::span<const data::TokenId> tokens, std::span<const Mark> marks) {
  while (!tokens.empty()) {
    // A full shard is closed only when more follows, so that none holds the shared token alone.
    if (writer_ && writer_->tokens() == shard_limit_) close_shard();
    if (!writer_) open_shard();
    const auto room = static_cast<std::size_t>(shard_limit_ - writer_->tokens());
    const auto part = tokens.first(std::min(room, tokens.size()));
    writer_->append(part);
    state_.last = part.back();
    state_.tokens += std::ssize(part);
    tokens = tokens.subspan(part.size());
    if (!mask_writer_) continue;
    append_marks(marks.first(part.size()));
    marks = marks.subspan(part.size());
  }
}

void ShardSequence::append_marks(std::span<const Mark> marks) {
  bits_.clear();
  for (const Mark mark : marks) {
    const bool learnt = mark == Mark::kLearnt || (mark == Mark::kBoundary && state_.answered);
    bits_.push_back(learnt ? 1 : 0);
    state_.learnt += learnt ? 1 : 0;
    state_.answered = false;
  }
  state_.last_learnt = bits_.back() == 1;
  mask_writer_->append(bits_);
}

void ShardSequence::finish() {
  if (writer_) close_shard();
}

SequenceState ShardSequence::sync() {
  state_.open.reset();
  state_.open_mask.reset();
  if (writer_) state_.open = writer_->sync();
  if (mask_writer_) state_.open_mask = mask_writer_->sync();
  return state_;
}

Splitter::Splitter(ShardSequence& train, ShardSequence& validation, double validation_fraction,
                   const State& left)
    : train_(train),
      validation_(validation),
      validation_fraction_(validation_fraction),
      state_(left) {}

void Splitter::begin_document() { state_ = {state_.document + 1, 0, 0}; }

ShardSequence& Splitter::target() const {
  const bool validation = is_validation(state_.document, state_.piece, validation_fraction_);
  return validation ? validation_ : train_;
}

void Splitter::append(std::span<const data::TokenId> ids, std::span<const Mark> marks) {
  while (!ids.empty()) {
    if (state_.piece_tokens == kSplitPieceTokens) {
      ++state_.piece;
      state_.piece_tokens = 0;
    }
    const auto room = static_cast<std::size_t>(kSplitPieceTokens - state_.piece_tokens);
    const auto part = ids.first(std::min(room, ids.size()));
    target().append(part, marks.first(std::min(part.size(), marks.size())));
    state_.piece_tokens += std::ssize(part);
    ids = ids.subspan(part.size());
    marks = marks.subspan(std::min(part.size(), marks.size()));
  }
}

void Splitter::end_answer() { target().end_answer(); }

}  // namespace prepare
