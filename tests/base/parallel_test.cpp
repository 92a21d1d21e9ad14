// Threads: every index once, exceptions out, nesting harmless.

#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "expect_error.h"

namespace base {
namespace {

/// Runs each test with 1 to 7 threads, and puts the number back.
class ParallelTest : public testing::TestWithParam<int> {
 protected:
  ParallelTest() { set_thread_count(GetParam()); }
  ~ParallelTest() override { set_thread_count(before_); }

 private:
  int before_ = thread_count();
};

INSTANTIATE_TEST_SUITE_P(Threads, ParallelTest, testing::Range(1, 8));

constexpr std::int64_t kCounts[] = {0, 1, 2, 3, 6, 7, 8, 97, 1000};

TEST_P(ParallelTest, TouchesEveryIndexOnce) {
  for (const std::int64_t count : kCounts) {
    std::vector<int> hits(static_cast<std::size_t>(count));
    parallel_for(count, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; });
    EXPECT_EQ(hits, std::vector<int>(static_cast<std::size_t>(count), 1));
  }
}

TEST_P(ParallelTest, TouchesEveryIndexOnceInAnyChunks) {
  for (const std::int64_t count : kCounts) {
    for (const std::int64_t chunk : {1, 3, 100}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
      parallel_for_dynamic(
          count, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; }, chunk);
      for (const auto& hit : hits) EXPECT_EQ(hit, 1);
    }
  }
}

TEST_P(ParallelTest, GivesEachThreadOneRange) {
  std::atomic<int> ranges{0};
  std::atomic<std::int64_t> sum{0};
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    EXPECT_LT(begin, end);
    ++ranges;
    sum += end - begin;
  };
  parallel_ranges(1000, body);
  EXPECT_LE(ranges, GetParam());
  EXPECT_EQ(sum, 1000);
}

TEST_P(ParallelTest, NumbersItsThreads) {
  EXPECT_EQ(thread_count(), GetParam());
  EXPECT_EQ(thread_index(), 0);
  std::atomic<int> wrong{0};
  parallel_for(100, [&](std::int64_t) {
    if (thread_index() < 0 || thread_index() >= GetParam()) ++wrong;
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(ParallelTest, RethrowsWhatABodyThrows) {
  const auto body = [](std::int64_t i) {
    if (i == 77) fail("index {}", i);
  };
  expect_error("index 77", [&] { parallel_for(100, body); });
  expect_error("index 77", [&] { parallel_for_dynamic(100, body, 4); });
}

TEST_P(ParallelTest, ThrowsOneOfManyAndFinishesFirst) {
  std::atomic<int> inside{0};
  EXPECT_THROW(parallel_ranges(100,
                               [&](std::int64_t, std::int64_t) {
                                 ++inside;
                                 std::this_thread::yield();
                                 --inside;
                                 throw std::logic_error("each of them");
                               }),
               std::logic_error);
  EXPECT_EQ(inside, 0);
}

TEST_P(ParallelTest, RunsNestedLoopsOnTheCallingThread) {
  std::atomic<int> wrong{0};
  std::vector<std::atomic<int>> hits(50);
  parallel_for(5, [&](std::int64_t i) {
    const auto outer = std::this_thread::get_id();
    parallel_for(10, [&](std::int64_t j) {
      // Where the outer loop has one thread only, the inner one may have several.
      if (GetParam() > 1 && std::this_thread::get_id() != outer) ++wrong;
      ++hits[static_cast<std::size_t>(i * 10 + j)];
    });
  });
  EXPECT_EQ(wrong, 0);
  for (const auto& hit : hits) EXPECT_EQ(hit, 1);
}

TEST(SetThreadCount, RefusesNonsense) {
  const int before = thread_count();
  expect_error("threads: expected 1 to 1024, got 0", [] { set_thread_count(0); });
  expect_error("threads: expected 1 to 1024, got 1025", [] { set_thread_count(1025); });
  EXPECT_EQ(thread_count(), before);
}

TEST(BackgroundTask, RunsAndEnds) {
  std::atomic<int> calls{0};
  BackgroundTask task([&] { ++calls; });
  task.wait();
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(task.running());
  task.wait();  // nothing left to wait for
}

TEST(BackgroundTask, RunsBesideItsMaker) {
  std::atomic<bool> go{false};
  BackgroundTask task([&] {
    while (!go) std::this_thread::yield();
  });
  EXPECT_TRUE(task.running());
  go = true;
  task.wait();
  EXPECT_FALSE(task.running());
}

TEST(BackgroundTask, HandsItsExceptionToWait) {
  BackgroundTask task([] { fail("from the background"); });
  expect_error("from the background", [&] { task.wait(); });
  EXPECT_NO_THROW(task.wait());
}

TEST(BackgroundTask, DropsAnExceptionNobodyWaitsFor) {
  EXPECT_NO_THROW({ BackgroundTask task([] { fail("unheard"); }); });
}

TEST(BackgroundTask, IsWaitedForWhenReplacedOrDestroyed) {
  std::atomic<int> finished{0};
  const auto slow = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++finished;
  };
  {
    BackgroundTask task(slow);
    task = BackgroundTask(slow);
    EXPECT_GE(finished, 1);
    BackgroundTask moved(std::move(task));
  }
  EXPECT_EQ(finished, 2);
}

TEST(BackgroundTask, WithNothingToDoIsIdle) {
  BackgroundTask task;
  EXPECT_FALSE(task.running());
  task.wait();
}

TEST(BackgroundTask, MayRunLoopsOfItsOwn) {
  std::atomic<int> sum{0};
  BackgroundTask task([&] { parallel_for(100, [&](std::int64_t) { ++sum; }); });
  parallel_for(100, [&](std::int64_t) { ++sum; });
  task.wait();
  EXPECT_EQ(sum, 200);
}

}  // namespace
}  // namespace base
