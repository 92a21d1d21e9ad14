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

/// Numbered results arrive in any order, whole or in parts, and leave in theirs. There is no thread
/// that waits for them: whoever brings what is due hands over all that is due.
///
/// Nobody waits for ever: of the results that were begun, the first one's thread waits for room
/// only while another thread is handing over, which makes room.
template <class T>
class Ordered {
 public:
  /// `take` gets the results one at a time; `limit` bounds the sum of their sizes; so many as
  /// `most_used` are kept to be used again.
  Ordered(std::function<void(T&)> take, std::size_t limit, std::size_t most_used)
      : take_(std::move(take)), limit_(limit), most_used_(most_used) {}

  /// Waits, before a result is begun, until there is room. False when work has been stopped.
  bool wait_for_room() {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return stopped_ || held_ < limit_; });
    return !stopped_;
  }

  /// Waits, between two parts of result `number`, until there is room or it is due. False when work
  /// has been stopped.
  bool wait_for_turn(std::uint64_t number) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return stopped_ || held_ < limit_ || (number == next_ && !taking_); });
    return !stopped_;
  }

  /// A result, whose memory was used before if there is any such.
  T reuse() {
    const std::lock_guard lock(mutex_);
    if (used_.empty()) return T();
    T result = std::move(used_.back());
    used_.pop_back();
    return result;
  }

  /// Brings result `number` or its next part, of `size`; `last`: there is no more of it.
  void bring(std::uint64_t number, T result, std::size_t size, bool last) {
    std::unique_lock lock(mutex_);
    held_ += size;
    waiting_.emplace(number, Part{std::move(result), size, last});
    if (taking_) return;  // somebody is at it, and will find this one too
    taking_ = true;
    for (auto due = waiting_.begin(); !stopped_ && due != waiting_.end() && due->first == next_;
         due = waiting_.begin()) {
      Part part = std::move(due->second);
      waiting_.erase(due);
      lock.unlock();
      take_(part.result);  // an exception leaves `taking_` set: nothing is taken behind a gap
      lock.lock();
      if (part.last) ++next_;
      held_ -= part.size;
      if (used_.size() < most_used_) used_.push_back(std::move(part.result));
      room_.notify_all();
    }
    taking_ = false;
    room_.notify_all();
  }

  /// Lets everybody go.
  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    room_.notify_all();
  }

 private:
  struct Part {
    T result;
    std::size_t size;
    bool last;
  };

  std::function<void(T&)> take_;
  std::size_t limit_;
  std::size_t most_used_;
  std::mutex mutex_;
  std::condition_variable room_;
  std::multimap<std::uint64_t, Part> waiting_;  // a result's parts in the order they came
  std::vector<T> used_;
  std::uint64_t next_ = 0;
  std::size_t held_ = 0;
  bool taking_ = false;
  bool stopped_ = false;
};

}  // namespace prepare
