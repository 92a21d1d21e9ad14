// Passes that keep nothing for a backward one: losses, logits, and one token after another.

#include "model/gpt2_state.h"

namespace model {
namespace {

/// Numbers of passes that come again, after training's.
enum InferencePass { kEvaluation = 16, kPrompt, kOneToken, kTokensOfSeveral, kCachedEvaluation };

}  // namespace

void Gpt2::State::blocks_forward_cached(const Activations& a, ConstView ids,
                                        std::span<KvCache* const> caches,
                                        std::span<const std::int64_t> counts) {
  const View res = a.block(0).res;
  positions.clear();
  std::int64_t first = 0;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    const std::int64_t rows = counts[i], position = caches[i]->length_;
    for (std::int64_t t = 0; t < rows; ++t) {
      positions.push_back(static_cast<std::int32_t>(position + t));
    }
    if (masters) {
      backend->embed_forward(res.rows(first, rows), ids.rows(first, rows), parameters.wte,
                             parameters.wpe, rows, position);
    }
    first += rows;
  }
  if (!masters) {
    backend->embed_packed(res, ids, ids_view(positions), copies[0], parameters.wpe);
  }
  for (std::size_t layer = 0; layer < parameters.blocks.size(); ++layer) {
    cached.clear();
    for (std::size_t i = 0; i < caches.size(); ++i) {
      const KvCache& cache = *caches[i];
      cached.push_back({cache.keys_[layer], cache.values_[layer], cache.length_, counts[i]});
    }
    block(a, layer);
  }
}

// ---- evaluation and generation ----------------------------------------------------------------

double Gpt2::evaluate(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                      std::int64_t batch, std::int64_t length, std::span<float> losses) {
  State& s = *state_;
  check_length(length, config());
  const std::int64_t rows = batch * length;
  if (batch < 1) base::fail("evaluate: batch: expected 1 or more, got {}", batch);
  check_count("ids", ids.size(), rows);
  check_count("targets", targets.size(), rows);
  check_count("losses", losses.size(), rows);
  check_ids("id", ids, 0, config().vocab_size);
  check_ids("target", targets, kernels::kIgnoredTarget, config().vocab_size);
  const Activations& a = s.inference.use(config(), *s.backend, batch, length);
  double sum = 0;
  s.backend->repeat(kEvaluation, [&] {
    s.blocks_forward(a, ids_view(ids), length);
    sum = s.scored_losses(a, targets, length, losses);
  });
  return sum;
}

double Gpt2::State::scored_losses(const Activations& a, std::span<const std::int32_t> targets,
                                  std::int64_t length, std::span<float> losses) {
  // The head is a third of a small model's work, and a strided window or a padded line scores only
  // a part of its rows: those are moved together first.
  const auto rows = static_cast<std::int64_t>(targets.size());
  scored.clear();
  scored_targets.clear();
  std::int64_t kept = 0;
  for (std::int64_t begin = 0; begin < rows; begin += length) {
    const auto own =
        targets.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(length));
    const auto counts = [](std::int32_t target) { return target != kernels::kIgnoredTarget; };
    const auto first = std::ranges::find_if(own, counts) - own.begin();
    const auto last = std::find_if(own.rbegin(), own.rend(), counts).base() - own.begin();
    if (first >= last) continue;
    scored.push_back({.row = begin + first, .count = last - first});
    scored_targets.insert(scored_targets.end(), own.begin() + first, own.begin() + last);
    final_norm(a, kept, begin + first, last - first);
    kept += last - first;
  }
  if (kept == 0) {
    std::ranges::fill(losses, 0.0F);
    return 0;
  }
  const double sum = backend->head_loss_forward(
      floats_view(losses.first(static_cast<std::size_t>(kept)), {kept}), a.normed.rows(0, kept),
      copies[0], ids_view(scored_targets), config().vocab_size);
  // Back to their rows, the last range first: none lies before where it was computed.
  for (auto range = scored.rbegin(); range != scored.rend(); ++range) {
    kept -= range->count;
    const auto from = losses.begin() + kept, to = losses.begin() + range->row;
    std::copy_backward(from, from + range->count, to + range->count);
    const auto next = range == scored.rbegin() ? losses.end() : losses.begin() + (range - 1)->row;
    std::fill(to + range->count, next, 0.0F);
  }
  std::fill(losses.begin(), losses.begin() + scored.front().row, 0.0F);
  return sum;
}

void Gpt2::logits(std::span<const std::int32_t> ids, std::span<float> logits) {
  State& s = *state_;
  const auto length = static_cast<std::int64_t>(ids.size());
  const std::int64_t vocab = config().vocab_size;
  check_length(length, config());
  check_ids("id", ids, 0, vocab);
  check_count("logits", logits.size(), length * vocab);
  const Activations& a = s.inference.use(config(), *s.backend, 1, length);
  s.blocks_forward(a, ids_view(ids), length);
  s.backend->head_logits(floats_view(logits, {length, vocab}), s.final_norm(a, 0, 0, length),
                         s.copies[0], vocab);
}

void Gpt2::logits_at(std::span<const std::int32_t> ids, std::int64_t batch, std::int64_t length,
                     std::span<const std::int64_t> rows, std::span<float> logits) {
  State& s = *state_;
  check_length(length, config());
  const std::int64_t vocab = config().vocab_size, all = batch * length;
  const auto count = static_cast<std::int64_t>(rows.size());
  if (batch < 1 || count < 1) {
    base::fail("logits_at: expected a batch and rows, got {} and {}", batch, count);
  }
  check_count("ids", ids.size(), all);
  check_count("logits", logits.size(), count * vocab);
  check_ids("id", ids, 0, vocab);
  if (rows.front() < 0 || rows.back() >= all ||
      std::ranges::adjacent_find(rows, std::greater_equal()) != rows.end()) {
    base::fail("logits_at: rows: expected 0 to {}, ascending", all - 1);
  }
  const Activations& a = s.inference.use(config(), *s.backend, batch, length);
  s.blocks_forward(a, ids_view(ids), length);
  // Rows side by side go together. None is written to where a later one is still to be read.
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    const auto run = [&] { return static_cast<std::int64_t>(end - begin); };
    while (end < rows.size() && rows[end] == rows[begin] + run()) ++end;
    s.final_norm(a, static_cast<std::int64_t>(begin), rows[begin], run());
  }
  s.backend->head_logits(floats_view(logits, {count, vocab}), a.normed.rows(0, count), s.copies[0],
                         vocab);
}

// ---- generation -------------------------------------------------------------------------------

namespace {

/// Ids to append to sequences, each the same number.
void check_decode(const Config& config, std::span<const std::int32_t> ids, std::size_t sequences,
                  std::span<const float> logits) {
  if (ids.empty()) base::fail("decode: expected at least one id");
  check_ids("id", ids, 0, config.vocab_size);
  check_count("logits", logits.size(), static_cast<std::int64_t>(sequences) * config.vocab_size);
}

}  // namespace

void Gpt2::State::make_room(KvCache& cache, std::int64_t rows) const {
  const Config& c = config();
  const Shape whole{c.heads, c.context, c.channels / c.heads};
  if (cache.keys_.size() != parameters.blocks.size() || cache.shape_ != whole ||
      cache.keys_[0].type() != backend->compute_type()) {
    base::fail("decode: the cache belongs to a model of another shape or type");
  }
  const std::int64_t needed = cache.length_ + rows;
  if (needed > c.context) {
    base::fail("decode: {} ids after {} go past the model's context of {}", rows, cache.length_,
               c.context);
  }
  // Twice the room each time, so that growing costs a constant a token.
  if (needed > cache.capacity_) {
    cache.reserve(std::min(std::max(needed, 2 * cache.capacity_), c.context));
  }
}

void Gpt2::decode(KvCache& cache, std::span<const std::int32_t> ids, std::span<float> logits) {
  State& s = *state_;
  const auto length = static_cast<std::int64_t>(ids.size());
  const std::int64_t vocab = config().vocab_size;
  check_decode(config(), ids, 1, logits);
  s.make_room(cache, length);
  const Activations& a = s.inference.use(config(), *s.backend, 1, length);
  KvCache* const caches[] = {&cache};
  s.backend->repeat(length == 1 ? kOneToken : kPrompt, [&] {
    s.blocks_forward_cached(a, ids_view(ids), caches, {&length, 1});
    cache.length_ += length;
    s.backend->head_logits(floats_view(logits, {1, vocab}), s.final_norm(a, 0, length - 1, 1),
                           s.copies[0], vocab);
  });
}

/// The blocks over one new position of each sequence; gives the head's input.
template <class Head>
void Gpt2::State::step_sequences(std::span<KvCache* const> caches,
                                 std::span<const std::int32_t> ids, Head&& head) {
  const auto count = static_cast<std::int64_t>(caches.size());
  check_count("ids", ids.size(), count);
  if (ids.empty()) base::fail("decode: expected at least one id");
  check_ids("id", ids, 0, config().vocab_size);
  for (KvCache* cache : caches) make_room(*cache, 1);
  const Activations& a = inference.use(config(), *backend, 1, count);
  ones.assign(caches.size(), 1);
  backend->repeat(kTokensOfSeveral, [&] {
    blocks_forward_cached(a, ids_view(ids), caches, ones);
    for (KvCache* cache : caches) ++cache->length_;
    head(final_norm(a, 0, 0, count));
  });
}

void Gpt2::decode_batch(std::span<KvCache* const> caches, std::span<const std::int32_t> ids,
                        std::span<float> logits) {
  State& s = *state_;
  const std::int64_t vocab = config().vocab_size;
  const auto count = static_cast<std::int64_t>(caches.size());
  check_count("logits", logits.size(), count * vocab);
  s.step_sequences(caches, ids, [&](ConstView normed) {
    s.backend->head_logits(floats_view(logits, {count, vocab}), normed, s.copies[0], vocab);
  });
}

void Gpt2::decode_batch(std::span<KvCache* const> caches, std::span<const std::int32_t> ids,
                        std::span<const float> inverse_temperatures,
                        std::span<kernels::TopLogits> rows) {
  State& s = *state_;
  check_count("inverse_temperatures", inverse_temperatures.size(),
              static_cast<std::int64_t>(caches.size()));
  check_count("rows", rows.size(), static_cast<std::int64_t>(caches.size()));
  s.step_sequences(caches, ids, [&](ConstView normed) {
    s.backend->head_candidates(rows, inverse_temperatures, normed, s.copies[0],
                               config().vocab_size);
  });
}

void Gpt2::last_logits(std::int64_t index, std::span<float> logits) {
  State& s = *state_;
  const std::int64_t vocab = config().vocab_size;
  const auto sequences = static_cast<std::int64_t>(s.ones.size());
  if (index < 0 || index >= sequences) {
    base::fail("last_logits: index: expected 0 to {}, got {}", sequences - 1, index);
  }
  check_count("logits", logits.size(), vocab);
  const Activations& a = s.inference.use(config(), *s.backend, 1, sequences);
  s.backend->head_logits(floats_view(logits, {1, vocab}), a.normed.rows(index, 1), s.copies[0],
                         vocab);
}

double Gpt2::evaluate_cached(std::span<KvCache* const> caches, std::span<const std::int64_t> counts,
                             std::span<const std::int32_t> ids,
                             std::span<const std::int32_t> targets, std::span<float> losses) {
  State& s = *state_;
  std::int64_t rows = 0;
  for (const std::int64_t count : counts) {
    if (count < 1) base::fail("evaluate_cached: counts: expected 1 or more each, got {}", count);
    rows += count;
  }
  if (rows < 1) base::fail("evaluate_cached: expected at least one sequence");
  check_count("counts", counts.size(), static_cast<std::int64_t>(caches.size()));
  check_count("ids", ids.size(), rows);
  check_count("targets", targets.size(), rows);
  check_count("losses", losses.size(), rows);
  check_ids("id", ids, 0, config().vocab_size);
  check_ids("target", targets, kernels::kIgnoredTarget, config().vocab_size);
  for (std::size_t i = 0; i < caches.size(); ++i) s.make_room(*caches[i], counts[i]);
  const Activations& a = s.inference.use(config(), *s.backend, 1, rows);
  double sum = 0;
  s.backend->repeat(kCachedEvaluation, [&] {
    s.blocks_forward_cached(a, ids_view(ids), caches, counts);
    for (std::size_t i = 0; i < caches.size(); ++i) caches[i]->length_ += counts[i];
    sum = s.scored_losses(a, targets, rows, losses);
  });
  return sum;
}

}  // namespace model
