#pragma once
/// Results of many threads, taken in order. Private to the room.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace prepare {

/// Numbered results arrive in any order and leave in theirs. There is no thread that waits for
/// them: whoever brings the next one due hands over all that are due.
template <class T>
class Ordered {
 public:
  /// `take` gets the results one at a time; `limit` bounds the sum of their sizes.
  Ordered(std::function<void(T&)> take, std::size_t limit)
      : take_(std::move(take)), limit_(limit) {}

  /// Waits until there is room for more. False when work has been stopped.
  bool wait_for_room() {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return stopped_ || held_ < limit_; });
    return !stopped_;
  }

  /// An empty result, whose memory was used before if there is any such.
  T reuse() {
    const std::lock_guard lock(mutex_);
    if (used_.empty()) return T();
    T result = std::move(used_.back());
    used_.pop_back();
    return result;
  }

  /// Brings result `number`, of `size`.
  void bring(std::uint64_t number, T result, std::size_t size) {
    std::unique_lock lock(mutex_);
    held_ += size;
    waiting_.emplace(number, std::pair(std::move(result), size));
    if (taking_) return;  // somebody is at it, and will find this one too
    taking_ = true;
    for (auto due = waiting_.begin(); !stopped_ && due != waiting_.end() && due->first == next_;
         due = waiting_.begin()) {
      auto [ready, bytes] = std::move(due->second);
      waiting_.erase(due);
      lock.unlock();
      take_(ready);  // an exception leaves `taking_` set: nothing is taken behind what is missing
      lock.lock();
      ++next_;
      held_ -= bytes;
      used_.push_back(std::move(ready));
      room_.notify_all();
    }
    taking_ = false;
  }

  /// Lets everybody go.
  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    room_.notify_all();
  }

 private:
  std::function<void(T&)> take_;
  std::size_t limit_;
  std::mutex mutex_;
  std::condition_variable room_;
  std::map<std::uint64_t, std::pair<T, std::size_t>> waiting_;
  std::vector<T> used_;
  std::uint64_t next_ = 0;
  std::size_t held_ = 0;
  bool taking_ = false;
  bool stopped_ = false;
};

}  // namespace prepare
