#pragma once
/// The only place that starts threads.
///
/// parallel_for is OpenMP inside, because oneDNN runs on the same OpenMP threads: two pools would
/// fight over the cores. Results must not depend on the number of threads: split sums by shape.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <type_traits>

namespace base {

/// Number of threads that parallel_for uses (OpenMP's default until set_thread_count).
int thread_count();

/// Sets that number. Throws Error unless 1 <= count <= 1024.
void set_thread_count(int count);

/// Index of the calling thread inside parallel_for, in [0, thread_count()); 0 outside.
int thread_index();

namespace detail {
using RangeFunction = void (*)(void* context, std::int64_t begin, std::int64_t end);
void run_static(std::int64_t count, RangeFunction function, void* context);
void run_dynamic(std::int64_t count, std::int64_t chunk, RangeFunction function, void* context);
}  // namespace detail

/// Calls body(begin, end) on disjoint ranges that cover [0, count), one contiguous range a thread.
/// The first exception thrown by a body is rethrown here after all threads have finished.
/// Inside another parallel_for it runs on the calling thread alone.
template <class Body>
void parallel_ranges(std::int64_t count, Body&& body) {
  detail::run_static(
      count,
      [](void* context, std::int64_t begin, std::int64_t end) {
        (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&body)));  // the cast above restores a const
}

/// Calls body(i) for every i in [0, count), one contiguous range a thread.
template <class Body>
void parallel_for(std::int64_t count, Body&& body) {
  parallel_ranges(count, [&body](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  });
}

/// As parallel_for, but threads take `chunk` indices at a time as they become free: for tasks of
/// unequal cost.
template <class Body>
void parallel_for_dynamic(std::int64_t count, Body&& body, std::int64_t chunk = 1) {
  auto range = [&body](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  };
  detail::run_dynamic(
      count, chunk,
      [](void* context, std::int64_t begin, std::int64_t end) {
        (*static_cast<decltype(range)*>(context))(begin, end);
      },
      &range);
}

/// One function on a thread of its own (a writer, a progress ticker), which runs its loops alone.
class BackgroundTask {
 public:
  BackgroundTask();
  /// Starts `function` at once.
  explicit BackgroundTask(std::function<void()> function);
  /// Waits; an exception not collected by wait() is dropped here.
  ~BackgroundTask();
  BackgroundTask(BackgroundTask&&) noexcept;
  BackgroundTask& operator=(BackgroundTask&&) noexcept;

  /// Waits for the end and rethrows what the function threw. Does nothing when nothing runs.
  void wait();
  /// True while the function has not returned.
  bool running() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace base
