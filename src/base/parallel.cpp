// Threads: OpenMP for loops, std::thread for background tasks.

#include "base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"

namespace base {
namespace {

/// Keeps the first exception of a parallel region: one must never leave an OpenMP body.
class FirstException {
 public:
  void capture() {
    const std::lock_guard lock(mutex_);
    if (!exception_) exception_ = std::current_exception();
  }
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr exception_;
};

}  // namespace

int thread_count() { return omp_get_max_threads(); }

void set_thread_count(int count) {
  if (count < 1 || count > 1024) fail("threads: expected 1 to 1024, got {}", count);
  omp_set_num_threads(count);
}

int thread_index() { return omp_get_thread_num(); }

namespace detail {

void run_static(std::int64_t count, RangeFunction function, void* context) {
  if (count <= 0) return;
  if (count == 1 || omp_in_parallel() || omp_get_max_threads() == 1) {
    function(context, 0, count);
    return;
  }
  FirstException first;
#pragma omp parallel
  {
    const std::int64_t threads = omp_get_num_threads();
    const std::int64_t index = omp_get_thread_num();
    const std::int64_t begin = count * index / threads;
    const std::int64_t end = count * (index + 1) / threads;
    try {
      if (begin < end) function(context, begin, end);
    } catch (...) {
      first.capture();
    }
  }
  first.rethrow();
}

void run_dynamic(std::int64_t count, std::int64_t chunk, RangeFunction function, void* context) {
  if (count <= 0) return;
  if (count <= chunk || omp_in_parallel() || omp_get_max_threads() == 1) {
    function(context, 0, count);
    return;
  }
  FirstException first;
  std::atomic<std::int64_t> next{0};
#pragma omp parallel
  {
    try {
      for (;;) {
        const std::int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
        if (begin >= count) break;
        function(context, begin, std::min(begin + chunk, count));
      }
    } catch (...) {
      first.capture();
      next.store(count, std::memory_order_relaxed);
    }
  }
  first.rethrow();
}

}  // namespace detail

struct BackgroundTask::State {
  std::atomic<bool> running{true};
  std::exception_ptr exception;
  std::thread thread;
};

BackgroundTask::BackgroundTask() = default;

BackgroundTask::BackgroundTask(std::function<void()> function) : state_(std::make_unique<State>()) {
  state_->thread = std::thread([state = state_.get(), function = std::move(function)] {
    omp_set_num_threads(1);  // of this thread's own loops; a second team would fight the first
    try {
      function();
    } catch (...) {
      state->exception = std::current_exception();
    }
    state->running = false;
  });
}

BackgroundTask::~BackgroundTask() {
  if (state_ && state_->thread.joinable()) state_->thread.join();
}

BackgroundTask::BackgroundTask(BackgroundTask&&) noexcept = default;

BackgroundTask& BackgroundTask::operator=(BackgroundTask&& other) noexcept {
  if (state_ && state_->thread.joinable()) state_->thread.join();
  state_ = std::move(other.state_);
  return *this;
}

void BackgroundTask::wait() {
  if (!state_) return;
  if (state_->thread.joinable()) state_->thread.join();
  const auto state = std::move(state_);
  if (state->exception) std::rethrow_exception(state->exception);
}

bool BackgroundTask::running() const { return state_ && state_->running; }

}  // namespace base
