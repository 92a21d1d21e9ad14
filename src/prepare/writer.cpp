// The one place where order matters.

#include <algorithm>

#include "base/error.h"
#include "prepare/pipeline.h"

namespace prepare {
namespace {

/// So many records are looked at before anything is called hopeless.
constexpr std::int64_t kEnoughRecords = 100;

State begin(Output& output) {
  State state = output.state().value_or(State());
  std::vector<std::string> kept = {std::string(data::kUnfinishedName), std::string(kStateName),
                                   std::string(kRejectedName), std::string(kDocumentsName)};
  if (!output.state()) return state;
  const auto keep = [&](const SequenceState& sequence, const std::string& prefix) {
    for (const data::ShardInfo& shard : sequence.shards) {
      std::error_code error;
      if (!std::filesystem::exists(output.folder() / shard.file, error)) {
        base::fail("{} is missing: an earlier run left it there; begin again with --restart",
                   (output.folder() / shard.file).string());
      }
      kept.push_back(shard.file);
      if (shard.mask_crc32c) kept.push_back(data::mask_name(shard.file));
    }
    if (!sequence.open) return;
    // Completed after the state was saved, the open shard stands under its final name.
    for (const auto format : {data::ShardFormat::kLlmc, data::ShardFormat::kNanogpt}) {
      const auto shard = ShardSequence::shard_name(prefix, sequence.shards.size(), format);
      for (const std::string& name : {shard, data::mask_name(shard)}) {
        kept.push_back(name);
        kept.push_back(name + std::string(data::kPartSuffix));
      }
    }
  };
  keep(state.train, "train");
  keep(state.validation, "val");
  output.remove_except(kept);
  return state;
}

SequenceOptions sequence_options(const Options& options, const Output& output, const char* prefix) {
  return {output.folder(), prefix, options.shard_tokens, options.format, options.mask_prompts};
}

std::string percent(double share) { return fmt::format("{:.4g} %", share * 100); }

}  // namespace

Writer::Writer(const Options& options, Output& output, bool resumable, std::uint64_t bytes_total)
    : max_rejected_(options.max_rejected),
      output_(output),
      resumable_(resumable),
      bytes_total_(bytes_total),
      state_(begin(output)),
      rejected_(output.folder(), state_.rejected_bytes),
      train_(sequence_options(options, output, "train"), state_.train),
      validation_(sequence_options(options, output, "val"), state_.validation),
      splitter_(train_, validation_, options.validation_fraction, state_.splitter),
      saved_milestones_(train_.milestones() + validation_.milestones()) {
  state_.masks = options.mask_prompts;
  if (options.drop_duplicates) seen_.emplace(output.folder() / kDocumentsName, state_.hashes);
}

void Writer::write(const Encoded& encoded) {
  state_.text_bytes += encoded.text_bytes;
  std::size_t begin = 0;
  std::size_t broken = 0;
  for (const Encoded::Part& part : encoded.parts) {
    if (part.broken) {
      reject(encoded.broken[broken++]);
    } else {
      const std::size_t count = part.ids_end - begin;
      write_part(part, std::span(encoded.ids).subspan(begin, count),
                 encoded.marks.empty() ? std::span<const Mark>()
                                       : std::span(encoded.marks).subspan(begin, count));
    }
    begin = part.ids_end;
    const std::int64_t milestones = train_.milestones() + validation_.milestones();
    if (milestones != saved_milestones_) save(part.next);
  }
  state_.bytes_done += encoded.source_bytes;
  if (!encoded.parts.empty()) {
    state_.position = encoded.parts.back().next;
    refuse_if_hopeless();
  }
  bytes_shown_ = state_.bytes_done;
  tokens_shown_ = train_.tokens() + validation_.tokens();
  documents_shown_ = splitter_.documents();
  rejected_shown_ = state_.rejected;
}

void Writer::write_part(const Encoded::Part& part, std::span<const text::TokenId> ids,
                        std::span<const Mark> marks) {
  if (part.starts) {
    state_.dropping = seen_ && !seen_->is_new(part.hash);
    if (state_.dropping) ++state_.duplicates;
    if (!state_.dropping) splitter_.begin_document();
  }
  if (!state_.dropping) splitter_.append(ids, marks);
  if (!state_.dropping && part.answers) splitter_.end_answer();
  if (part.ends) ++state_.records;
}

void Writer::reject(const data::BrokenRecord& record) {
  ++state_.records;
  ++state_.rejected;
  if (state_.first_rejected.empty()) state_.first_rejected = record.what();
  rejected_.add(record);
}

void Writer::save(const data::Position& next) {
  saved_milestones_ = train_.milestones() + validation_.milestones();
  state_.position = next;
  if (!resumable_) return;
  state_.rejected_bytes = rejected_.sync();
  if (seen_) state_.hashes = seen_->sync();
  state_.splitter = splitter_.state();
  state_.train = train_.sync();
  state_.validation = validation_.sync();
  base::sync_folder(output_.folder());  // the names of the files that have just been begun
  output_.save(state_);
}

void Writer::refuse_if_hopeless() {
  if (state_.rejected == 0 || max_rejected_ >= 1) return;
  if (max_rejected_ == 0) refuse();
  if (state_.records < kEnoughRecords) return;
  // Nothing was good, or there would still be too many if all that is to come were good and ten
  // times as dense as what was.
  const double left = bytes_total_ == 0 ? 1e300
                                        : static_cast<double>(bytes_total_) /
                                              static_cast<double>(std::max<std::uint64_t>(
                                                  1, std::min(state_.bytes_done, bytes_total_)));
  const double most = static_cast<double>(state_.records) * left * 10;
  if (state_.rejected == state_.records ||
      static_cast<double>(state_.rejected) > max_rejected_ * most) {
    refuse();
  }
}

void Writer::refuse() {
  save(state_.position);  // a higher limit goes on from here
  base::fail("{} of {} records rejected ({}), more than --max-rejected {}; the first: {}{}",
             state_.rejected, state_.records,
             percent(static_cast<double>(state_.rejected) / static_cast<double>(state_.records)),
             percent(max_rejected_), state_.first_rejected,
             resumable_ ? "; all of them: " + (output_.folder() / kRejectedName).string() : "");
}

void Writer::finish() {
  if (static_cast<double>(state_.rejected) > max_rejected_ * static_cast<double>(state_.records)) {
    refuse();
  }
  train_.finish();
  validation_.finish();
  rejected_.sync();
}

Progress Writer::progress() const {
  Progress progress;
  progress.bytes_done = bytes_shown_;
  progress.tokens = tokens_shown_;
  progress.documents = documents_shown_;
  progress.rejected = rejected_shown_;
  return progress;
}

}  // namespace prepare
