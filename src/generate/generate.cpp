// The loop around the KV caches: feed, choose, hand over, feed what was chosen.
//
// Law: ids in, ids out. The number that decides token i is a pure function of (seed, stream, i), so
// a sample does not depend on threads, nor on the samples made before it or beside it.

#include "generate/generate.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "base/rng.h"

namespace generate {
namespace {

std::size_t context_of(const model::Config& config) {
  return static_cast<std::size_t>(config.context);
}

/// The last prompt that was fed, for the requests after it that have the same.
struct SharedPrompt {
  std::vector<std::int32_t> ids;
  std::unique_ptr<model::KvCache> cache;
  std::vector<float> logits;  // (V)
};

/// A sequence on its way, in one slot of the batch.
struct Stream {
  std::size_t index = 0;  ///< of its request
  const Request* request = nullptr;
  std::int64_t made = 0;                ///< tokens so far
  std::int32_t last = 0;                ///< the newest one, not yet fed
  std::optional<std::int32_t> drawn{};  ///< the next one, where a device's candidates had it
  std::unique_ptr<model::KvCache> cache;
  std::vector<std::int32_t> window;  ///< with --slide: the ids behind the cache and `last`
  std::optional<Stop> stop;
};

/// Runs requests in slots. Between two steps every live stream has a token that is not yet fed.
class Batch {
 public:
  Batch(model::Gpt2& model, std::span<const Request> requests, std::int64_t slots,
        const std::function<bool(std::size_t, std::int32_t)>& on_token,
        const std::function<void(std::size_t, Stop)>& on_end)
      : model_(model),
        vocab_(static_cast<std::size_t>(model.config().vocab_size)),
        requests_(requests),
        on_token_(on_token),
        on_end_(on_end),
        ends_(requests.size()) {
    streams_.resize(std::min(static_cast<std::size_t>(slots), requests.size()));
    logits_.resize(streams_.size() * vocab_);
  }

  void run() {
    while (reported_ < requests_.size()) {
      fill_slots();
      feed();
      choose(live_);
    }
  }

 private:
  std::span<float> row(std::size_t n) { return std::span(logits_).subspan(n * vocab_, vocab_); }

  /// Starts the next requests in the free slots; each has its first token after that, or ended.
  void fill_slots() {
    live_.clear();
    for (Stream& stream : streams_) {
      while (next_ < requests_.size() && (stream.request == nullptr || stream.stop)) start(stream);
      if (stream.request != nullptr && !stream.stop) live_.push_back(&stream);
    }
  }

  void start(Stream& stream) {
    const std::size_t index = next_++;
    const Request& request = requests_[index];
    std::unique_ptr<model::KvCache> memory = std::move(stream.cache);
    stream = {};
    stream.index = index;
    stream.request = &request;
    if (request.options.max_tokens == 0) return end(stream, Stop::kMaxTokens);
    const auto ids = std::span(request.prompt)
                         .last(std::min(request.prompt.size(), context_of(model_.config())));
    if (request.options.slide) stream.window.assign(ids.begin(), ids.end());
    // Room for all that can come; a context's worth would be far more than most sequences use.
    const std::int64_t room =
        std::min(static_cast<std::int64_t>(ids.size()) + request.options.max_tokens,
                 model_.config().context);
    stream.cache =
        memory ? std::move(memory) : std::make_unique<model::KvCache>(model_.make_cache(room));
    stream.cache->truncate(0);
    stream.cache->reserve(room);
    feed_prompt(stream, ids);
    Stream* const one[] = {&stream};
    choose(one);
  }

  /// Leaves the logits after the prompt in row 0.
  void feed_prompt(Stream& stream, std::span<const std::int32_t> ids) {
    if (std::ranges::equal(shared_.ids, ids)) {
      stream.cache->assign(*shared_.cache);
      std::ranges::copy(shared_.logits, row(0).begin());
      return;
    }
    model_.decode(*stream.cache, ids, row(0));
    const bool wanted = stream.index + 1 < requests_.size() &&
                        requests_[stream.index + 1].prompt == stream.request->prompt;
    if (!wanted) return;
    shared_.ids.assign(ids.begin(), ids.end());
    shared_.logits.assign(row(0).begin(), row(0).end());
    shared_.cache =
        std::make_unique<model::KvCache>(model_.make_cache(static_cast<std::int64_t>(ids.size())));
    shared_.cache->assign(*stream.cache);
  }

  /// Feeds the newest tokens of the live streams: those with room together, full windows one by one
  /// from position 0, because every position in them changes. Orders live_ by rows of logits.
  void feed() {
    const std::int64_t context = model_.config().context;
    const auto full = std::stable_partition(
        live_.begin(), live_.end(), [&](const Stream* s) { return s->cache->length() < context; });
    caches_.clear();
    ids_.clear();
    for (auto stream = live_.begin(); stream != full; ++stream) {
      caches_.push_back((*stream)->cache.get());
      ids_.push_back((*stream)->last);
    }
    if (!ids_.empty()) feed_together();
    for (auto stream = full; stream != live_.end(); ++stream) {
      std::vector<std::int32_t>& window = (*stream)->window;
      (*stream)->cache->truncate(0);
      model_.decode(*(*stream)->cache, std::span(window).last(context_of(model_.config())),
                    row(static_cast<std::size_t>(stream - live_.begin())));
    }
  }

  /// One token of each of the first ids_.size() live streams. A device gives what their draws look
  /// at; where that is not enough, all logits of the row.
  void feed_together() {
    if (!model_.backend().has_candidates()) {
      return model_.decode_batch(caches_, ids_, std::span(logits_).first(ids_.size() * vocab_));
    }
    temperatures_.clear();
    for (std::size_t n = 0; n < ids_.size(); ++n) {
      temperatures_.push_back(inverse_temperature_for(live_[n]->request->options.sampling));
    }
    tops_.resize(ids_.size());
    model_.decode_batch(caches_, ids_, temperatures_, tops_);
    for (std::size_t n = 0; n < ids_.size(); ++n) {
      Stream& stream = *live_[n];
      stream.drawn = sample(tops_[n], static_cast<std::int64_t>(vocab_),
                            stream.request->options.sampling, uniform_of(stream));
      if (!stream.drawn) model_.last_logits(static_cast<std::int64_t>(n), row(n));
    }
  }

  static double uniform_of(const Stream& stream) {
    const Options& options = stream.request->options;
    return base::random_uniform(options.seed, options.stream,
                                static_cast<std::uint64_t>(stream.made));
  }

  /// Draws the next token of each stream from its row of logits, where it has not been drawn, and
  /// hands them over in order.
  void choose(std::span<Stream* const> streams) {
    base::parallel_for_dynamic(static_cast<std::int64_t>(streams.size()), [&](std::int64_t n) {
      Stream& stream = *streams[static_cast<std::size_t>(n)];
      stream.last = stream.drawn ? *stream.drawn
                                 : sample(row(static_cast<std::size_t>(n)),
                                          stream.request->options.sampling, uniform_of(stream));
      stream.drawn.reset();
    });
    for (Stream* stream : streams) take(*stream);
  }

  /// The newest token of a stream, or the stream's end.
  void take(Stream& stream) {
    const Options& options = stream.request->options;
    const model::Config& config = model_.config();
    if (!options.ignore_end_of_text && config.end_of_text == stream.last) {
      return end(stream, Stop::kEndOfText);
    }
    ++stream.made;
    if (!on_token_(stream.index, stream.last)) return end(stream, Stop::kCallback);
    if (stream.made == options.max_tokens) return end(stream, Stop::kMaxTokens);
    const bool full = stream.cache->length() == config.context;
    if (full && !options.slide) return end(stream, Stop::kContextFull);
    if (!options.slide) return;
    if (full) stream.window.erase(stream.window.begin());
    stream.window.push_back(stream.last);
  }

  /// Ends are handed over in the order of the requests: later ones wait.
  void end(Stream& stream, Stop stop) {
    stream.stop = stop;
    ends_[stream.index] = stop;
    for (; reported_ < ends_.size() && ends_[reported_]; ++reported_) {
      on_end_(reported_, *ends_[reported_]);
    }
  }

  model::Gpt2& model_;
  std::size_t vocab_;
  std::span<const Request> requests_;
  const std::function<bool(std::size_t, std::int32_t)>& on_token_;
  const std::function<void(std::size_t, Stop)>& on_end_;
  std::vector<std::optional<Stop>> ends_;  // by request
  std::size_t reported_ = 0;
  std::size_t next_ = 0;  // request to start
  std::vector<Stream> streams_;
  SharedPrompt shared_;
  // Of a step:
  std::vector<Stream*> live_;
  std::vector<model::KvCache*> caches_;
  std::vector<std::int32_t> ids_;
  std::vector<float> logits_;  // (slots, V)
  std::vector<float> temperatures_;
  std::vector<kernels::TopLogits> tops_;
};

}  // namespace

void check(const model::Config& config, std::span<const std::int32_t> prompt,
           const Options& options) {
  validate(options.sampling);
  if (options.max_tokens < 0) {
    base::fail("max-tokens: expected 0 or more, got {}", options.max_tokens);
  }
  if (prompt.empty()) base::fail("prompt: expected at least one token, got none");
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= config.vocab_size) {
      base::fail("prompt: id at position {}: expected 0 to {}, got {}", i, config.vocab_size - 1,
                 prompt[i]);
    }
  }
  if (prompt.size() > context_of(config) && !options.slide) {
    base::fail(
        "prompt: expected at most {} tokens (the model's context), got {}; shorten it, or slide "
        "the "
        "window (--slide)",
        config.context, prompt.size());
  }
}

void run_batch(model::Gpt2& model, std::span<const Request> requests, std::int64_t slots,
               const std::function<bool(std::size_t, std::int32_t)>& on_token,
               const std::function<void(std::size_t, Stop)>& on_end) {
  if (slots < 1) base::fail("batch: expected 1 or more sequences at a time, got {}", slots);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    try {
      check(model.config(), requests[i].prompt, requests[i].options);
    } catch (const base::Error& error) {
      base::fail("request {}: {}", i, error.what());
    }
  }
  Batch(model, requests, slots, on_token, on_end).run();
}

Stop run(model::Gpt2& model, std::span<const std::int32_t> prompt, const Options& options,
         const std::function<bool(std::int32_t)>& on_token) {
  check(model.config(), prompt, options);
  const Request request{{prompt.begin(), prompt.end()}, options};
  Stop result{};
  Batch(
      model, {&request, 1}, 1, [&](std::size_t, std::int32_t id) { return on_token(id); },
      [&](std::size_t, Stop stop) { result = stop; })
      .run();
  return result;
}

}  // namespace generate
