// Running the loops on all threads, and timing them.

#include "kernels/cpu/limits.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include "base/parallel.h"
#include "kernels/kernels.h"

namespace kernels {
namespace cpu {
namespace {

/// Memory that is read and copied: more than most caches hold.
constexpr std::int64_t kMemoryBytes = std::int64_t{512} << 20;
/// What is read or copied between two looks at the clock: about a quarter of a millisecond.
constexpr std::int64_t kBlockBytes = std::int64_t{4} << 20;
constexpr std::int64_t kBlocks = kMemoryBytes / kBlockBytes;
/// Time of arithmetic between two looks at the clock, and of a trial that picks a loop.
constexpr double kBlockSeconds = 2e-4;
constexpr double kTrialSeconds = 2e-3;

/// A loop, and the rounds that take about kBlockSeconds.
struct TimedLoop {
  ArithmeticLoop loop;
  std::int64_t rounds = 64;
  double block_operations() const { return loop.operations * static_cast<double>(rounds); }
};

TimedLoop timed(const ArithmeticLoop& loop) {
  TimedLoop result{.loop = loop};
  for (; result.rounds < (std::int64_t{1} << 40); result.rounds *= 2) {
    const double begun = base::seconds(base::Clock::kThread);
    loop.run(result.rounds);
    if (base::seconds(base::Clock::kThread) - begun >= kBlockSeconds) break;
  }
  return result;
}

/// The fastest of some loops on the calling thread.
TimedLoop fastest(const std::vector<ArithmeticLoop>& loops) {
  TimedLoop best;
  double best_rate = 0;
  for (const ArithmeticLoop& loop : loops) {
    const TimedLoop candidate = timed(loop);
    const double begun = base::seconds(base::Clock::kThread);
    double operations = 0;
    double taken = 0;
    while (taken < kTrialSeconds) {
      loop.run(candidate.rounds);
      operations += candidate.block_operations();
      taken = base::seconds(base::Clock::kThread) - begun;
    }
    if (operations / taken <= best_rate) continue;
    best_rate = operations / taken;
    best = candidate;
  }
  return best;
}

/// Runs block(thread, n) for n = 0, 1, ... on every thread for `seconds`; the sum of the threads'
/// rates, where a block counts `amount`.
template <class Block>
double rate_of(double amount, double seconds, base::Clock clock, const Block& block) {
  std::vector<double> rates(static_cast<std::size_t>(base::thread_count()));
  base::parallel_for(base::thread_count(), [&](std::int64_t thread) {
    const double begun = base::seconds(clock);
    double taken = 0;
    std::int64_t blocks = 0;
    while (taken < seconds || blocks == 0) {
      block(thread, blocks++);
      taken = base::seconds(clock) - begun;
    }
    rates[static_cast<std::size_t>(thread)] =
        amount * static_cast<double>(blocks) / std::max(taken, 1e-9);
  });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace
}  // namespace cpu

struct LimitMeter::State {
  std::vector<const cpu::LimitsTable*> tables = cpu::limits_tables(cpu::chosen_isa());
  std::optional<cpu::TimedLoop> f32, bf16, int8;  // chosen when first asked for
  base::Arena arena;
  std::byte* memory = nullptr;
  std::vector<std::int64_t> cursors;  // of each thread: the block that it reads next

  using Member = cpu::ArithmeticLoop cpu::LimitsTable::*;

  /// The fastest loop of the given kinds.
  const cpu::TimedLoop& loop(std::optional<cpu::TimedLoop>& chosen,
                             std::initializer_list<Member> kinds) const {
    if (chosen) return *chosen;
    std::vector<cpu::ArithmeticLoop> loops;
    for (const Member kind : kinds) {
      for (const cpu::LimitsTable* table : tables) {
        if ((table->*kind).run != nullptr) loops.push_back(table->*kind);
      }
    }
    chosen = cpu::fastest(loops);
    return *chosen;
  }

  static double arithmetic(const cpu::TimedLoop& timed, double seconds, base::Clock clock) {
    return cpu::rate_of(timed.block_operations(), seconds, clock,
                        [&](std::int64_t, std::int64_t) { timed.loop.run(timed.rounds); });
  }

  void need_memory() {
    cursors.resize(static_cast<std::size_t>(base::thread_count()));
    if (memory != nullptr) return;
    arena = base::Arena(static_cast<std::size_t>(cpu::kMemoryBytes));
    memory = static_cast<std::byte*>(arena.take_bytes(static_cast<std::size_t>(cpu::kMemoryBytes)));
    // Written once: pages that were never written are all the same one.
    base::parallel_for(cpu::kBlocks, [&](std::int64_t block) {
      std::memset(memory + block * cpu::kBlockBytes, 1, static_cast<std::size_t>(cpu::kBlockBytes));
    });
  }

  /// Each thread goes round its own share of the first `blocks` blocks.
  template <class Block>
  double stream(std::int64_t blocks, double seconds, base::Clock clock, const Block& block) {
    need_memory();
    const std::int64_t share = std::max<std::int64_t>(blocks / base::thread_count(), 1);
    return cpu::rate_of(static_cast<double>(cpu::kBlockBytes), seconds, clock,
                        [&](std::int64_t thread, std::int64_t) {
                          std::int64_t& cursor = cursors[static_cast<std::size_t>(thread)];
                          cursor = (cursor + 1) % share;
                          block(memory + (thread * share + cursor) % blocks * cpu::kBlockBytes);
                        });
  }

  double read(double seconds, base::Clock clock) {
    void (*run)(const void*, std::int64_t) = nullptr;
    for (const cpu::LimitsTable* table : tables) {
      if (table->read != nullptr) run = table->read;
    }
    return stream(cpu::kBlocks, seconds, clock,
                  [run](const std::byte* from) { run(from, cpu::kBlockBytes); });
  }

  double copy(double seconds, base::Clock clock) {
    constexpr std::int64_t kHalf = cpu::kMemoryBytes / 2;
    return 2 * stream(cpu::kBlocks / 2, seconds, clock, [](std::byte* from) {
             std::memcpy(from + kHalf, from, static_cast<std::size_t>(cpu::kBlockBytes));
           });
  }
};

LimitMeter::LimitMeter() : state_(std::make_unique<State>()) {}
LimitMeter::~LimitMeter() = default;

double LimitMeter::measure(Limit limit, double seconds, base::Clock clock) {
  using cpu::LimitsTable;
  State& s = *state_;
  switch (limit) {
    case Limit::kF32:
      return s.arithmetic(s.loop(s.f32, {&LimitsTable::f32}), seconds, clock);
    case Limit::kBf16:
      // Where dot products are slower than f32, products that widen are the faster ones.
      return s.arithmetic(s.loop(s.bf16, {&LimitsTable::f32, &LimitsTable::bf16}), seconds, clock);
    case Limit::kInt8:
      return s.arithmetic(
          s.loop(s.int8, {&LimitsTable::f32, &LimitsTable::bf16, &LimitsTable::int8}), seconds,
          clock);
    case Limit::kRead:
      return s.read(seconds, clock);
    case Limit::kCopy:
      break;
  }
  return s.copy(seconds, clock);
}

}  // namespace kernels
