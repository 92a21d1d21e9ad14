#pragma once
/// The CPU plays a grid: the threads of a block are fibers that meet at barriers and warp
/// operations; blocks run one after another. For tests, not for speed: a kernel's mistakes show as
/// wrong numbers in some schedule, as reports of AddressSanitizer, or of ThreadSanitizer, to which
/// each fiber is a thread that only barriers and warp meetings order. x86-64 only.
///
/// Not seen: streams, memory fences, blocks that wait for each other, bank conflicts, speed.

#include <sys/mman.h>

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/gpu_types.h"

#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};
constinit inline thread_local uint3 threadIdx{}, blockIdx{};
constinit inline thread_local dim3 blockDim{}, gridDim{};

namespace kernels::gpu::host {

/// Which thread and block runs next; asynchronous copies land late, early or mixed.
enum class Order { kForward, kReverse, kRandom };
inline Order order = Order::kForward;
inline std::uint64_t seed = 1;

/// While one exists, ThreadSanitizer does not look: what the emulation does is not the kernel's.
struct Unwatched {
#ifdef __SANITIZE_THREAD__
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unwatched() {}
#endif
};
/// What happened before a release happens before what follows the acquire of the same address.
inline void order_release([[maybe_unused]] void* at) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(at);
#endif
}
inline void order_acquire([[maybe_unused]] void* at) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(at);
#endif
}

/// The operation at which a thread waits, and its line in the kernel.
struct Place {
  const char* what = "";
  const char* file = "";
  int line = 0;
  bool operator==(const Place& other) const {
    return line == other.line && std::strcmp(what, other.what) == 0 &&
           std::strcmp(file, other.file) == 0;
  }
  std::string text() const {
    return std::string(what) + " (" + file + ":" + std::to_string(line) + ")";
  }
};
enum class State : std::uint8_t { kReady, kAtBarrier, kInWarp, kDone };
struct Copy {
  void* to;
  const void* from;
  int bytes;
  unsigned group;
};

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* asan = nullptr;
  void* tsan = nullptr;
  unsigned index = 0;
  State state = State::kDone;
  Place place;
  std::vector<Copy> copies;
  unsigned groups = 0;
};
struct Warp {
  std::uint32_t arrived = 0;
  unsigned parity = 0;
  Place place;
  char token[2];
  alignas(16) unsigned char slot[2][32 * 64];
};
struct Shared {
  const void* key;
  void* data;
  std::size_t bytes;
};

inline constexpr std::size_t kStackBytes = 256 * 1024;
inline constexpr std::size_t kGuardBytes = 4096;
#ifdef __SANITIZE_THREAD__
// Neighbouring blocks use different fibers, so that nothing orders one block before the other.
inline constexpr unsigned kFiberSets = 2;
#else
inline constexpr unsigned kFiberSets = 1;
#endif

/// Saves the callee-saved registers on this stack, and goes on where the other stack was left.
__attribute__((naked, noinline, no_sanitize("address", "thread", "undefined"))) inline void
switch_stack(void** /*save*/, void* /*load*/) {
  asm volatile(
      "push %%rbp\n push %%rbx\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
      "mov %%rsp, (%%rdi)\n mov %%rsi, %%rsp\n"
      "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%rbx\n pop %%rbp\n ret\n" ::
          : "memory");
}

class Engine {
 public:
  using Body = void (*)(const void*);

  /// Runs body(arguments) as every thread of every block. Throws Error for a deadlock, divergence
  /// at a meeting point, or what fail() was told.
  void run_grid(dim3 grid, dim3 block, std::size_t dynamic_bytes, Body body, const void* arguments);

  Fiber& now() { return *now_; }
  unsigned lane() const { return now_->index % 32; }
  /// xorshift64: the schedule's only source of chance.
  std::uint64_t random() {
    random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
    return random_;
  }
  /// Ends the launch; run_grid throws.
  [[noreturn]] void fail(const std::string& text);

  void meet_block(Place place);
  /// Every lane gives a value; all lanes get all 32. Two slots in turn: no lane can be two
  /// operations ahead of another.
  template <class T>
  const T* meet_warp(const T& value, Place place);

  /// Shared memory: each array its own allocation, so that ASan sees its ends, and all bits set
  /// (NaN) when a block starts. `key` null: the dynamic one.
  void* static_shared(const void* key, std::size_t bytes);
  void* dynamic_shared();
  void check_shared(const void* address, const char* what);

 private:
  static void entry();
  void prepare(Fiber& fiber);
  void go(Fiber& to);
  void make_ready(Fiber& fiber);
  Fiber& pick();
  void wait(State state, Place place);
  void* add_shared(const void* key, std::size_t bytes);
  void free_shared();
  std::string who_waits_where();
  void run_block(uint3 block, unsigned number);
  void after_failure();
  void prepare_main();

  Fiber main_;
  Fiber sets_[kFiberSets][1024];  // a suspended fiber keeps pointers to itself: they never move
  Warp warp_sets_[kFiberSets][32];
  char barrier_token_[kFiberSets][2];
  char start_token_ = 0, end_token_ = 0;
  Fiber* fibers_ = nullptr;
  Warp* warps_ = nullptr;
  Fiber* now_ = &main_;
  unsigned set_ = 0, threads_ = 0, warp_count_ = 0, ready_count_ = 0, at_barrier_ = 0, parity_ = 0;
  std::uint32_t ready_[32] = {};
  // Random order: which warp is preferred, drawn anew for each block. Even draws each time would
  // keep the warps abreast and never show a missing barrier.
  unsigned rank_[32] = {};
  Place barrier_place_;
  std::vector<Shared> shared_;
  std::size_t dynamic_bytes_ = 0, static_bytes_ = 0;
  Body body_ = nullptr;
  const void* arguments_ = nullptr;
  std::string error_;
  std::uint64_t random_ = 1;
};

inline constinit thread_local Engine* engine = nullptr;

// ---- fibers -------------------------------------------------------------------------------------

/// A fresh fiber that will start at entry().
inline void Engine::prepare(Fiber& fiber) {
  if (fiber.stack == nullptr) {
    void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
      gpu::fail("kernels on the host: no memory for fiber stacks");
    }
    fiber.stack = static_cast<char*>(memory) + kGuardBytes;
    fiber.stack_bytes = kStackBytes;
  }
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
  fiber.asan = nullptr;
#endif
#ifdef __SANITIZE_THREAD__
  // After a failure the old one is left alone: it may still be inside an Unwatched.
  fiber.tsan = __tsan_create_fiber(0);
#endif
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes) - 2;
  *top = reinterpret_cast<void*>(&entry);
  fiber.stack_pointer = top - 6;
  fiber.state = State::kDone;
}

inline void Engine::go(Fiber& to) {
  Fiber& from = *now_;
  if (&to == &from) return;
  now_ = &to;
  threadIdx = {to.index % blockDim.x, to.index / blockDim.x % blockDim.y,
               to.index / (blockDim.x * blockDim.y)};
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.asan, to.stack, to.stack_bytes);
#endif
#ifdef __SANITIZE_THREAD__
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
  switch_stack(&from.stack_pointer, to.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.asan, nullptr, nullptr);
#endif
}

inline void Engine::make_ready(Fiber& fiber) {
  fiber.state = State::kReady;
  ready_[fiber.index / 32] |= 1U << fiber.index % 32;
  ++ready_count_;
}

inline Fiber& Engine::pick() {
  if (ready_count_ == 0) return main_;
  unsigned warp = 0;
  unsigned lane = 0;
  if (order == Order::kForward) {
    while (ready_[warp] == 0) ++warp;
    lane = static_cast<unsigned>(std::countr_zero(ready_[warp]));
  } else if (order == Order::kReverse) {
    warp = warp_count_ - 1;
    while (ready_[warp] == 0) --warp;
    lane = 31 - static_cast<unsigned>(std::countl_zero(ready_[warp]));
  } else {
    while (ready_[rank_[warp]] == 0) ++warp;
    warp = rank_[warp];
    const auto turn = static_cast<unsigned>(random() % 32);
    lane = static_cast<unsigned>(std::countr_zero(std::rotr(ready_[warp], static_cast<int>(turn))));
    lane = (lane + turn) % 32;
  }
  ready_[warp] &= ~(1U << lane);
  --ready_count_;
  return fibers_[warp * 32 + lane];
}

inline void Engine::wait(State state, Place place) {
  now_->state = state;
  now_->place = place;
  go(pick());
}

inline void Engine::fail(const std::string& text) {
  error_ = text + " [block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) +
           ", " + std::to_string(blockIdx.z) + "), thread " + std::to_string(now_->index) + "]";
  go(main_);
  __builtin_trap();  // nobody comes back to a failed thread
}

inline void Engine::entry() {
  Engine& e = *engine;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  for (;;) {
    order_acquire(&e.start_token_);
    e.body_(e.arguments_);
    order_release(&e.end_token_);
    const Unwatched unwatched;
    if (!e.now_->copies.empty()) e.fail("a thread left the kernel without waiting for its copies");
    e.wait(State::kDone, {});
  }
}

// ---- meeting points -----------------------------------------------------------------------------

inline void Engine::meet_block(Place place) {
  const Unwatched unwatched;
  if (at_barrier_ == 0) barrier_place_ = place;
  if (!(place == barrier_place_)) {
    fail("divergence: " + place.text() + " while other threads wait at " + barrier_place_.text());
  }
  const unsigned mine = parity_;
  order_release(&barrier_token_[set_][mine]);
  if (++at_barrier_ == threads_) {
    at_barrier_ = 0;
    parity_ ^= 1;
    for (unsigned i = 0; i < threads_; ++i) make_ready(fibers_[i]);
    go(pick());
  } else {
    wait(State::kAtBarrier, place);
  }
  order_acquire(&barrier_token_[set_][mine]);
}

template <class T>
const T* Engine::meet_warp(const T& value, Place place) {
  static_assert(sizeof(T) <= 64);
  Warp& warp = warps_[now_->index / 32];
  const unsigned mine = warp.parity;
  if (threads_ % 32 != 0) {
    fail("a warp operation in a block whose size is not a multiple of 32: " + place.text());
  }
  if (warp.arrived == 0) warp.place = place;
  if (!(place == warp.place)) {
    fail("divergence in a warp: " + place.text() + " while other lanes wait at " +
         warp.place.text());
  }
  T* slot = reinterpret_cast<T*>(warp.slot[mine]);
  slot[lane()] = value;
  order_release(&warp.token[mine]);
  warp.arrived |= 1U << lane();
  if (warp.arrived == ~0U) {
    warp.arrived = 0;
    warp.parity ^= 1;
    for (unsigned i = 0; i < 32; ++i) {
      if (i != lane()) make_ready(fibers_[now_->index - lane() + i]);
    }
  } else {
    wait(State::kInWarp, place);
  }
  order_acquire(&warp.token[mine]);
  return slot;
}

// ---- shared memory ------------------------------------------------------------------------------

inline void* Engine::add_shared(const void* key, std::size_t bytes) {
  const std::size_t room = (bytes + 127) / 128 * 128;
  void* data = std::aligned_alloc(128, room);
  std::memset(data, 0xFF, room);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(static_cast<char*>(data) + bytes, room - bytes);
#endif
  shared_.push_back({key, data, bytes});
  return data;
}

inline void Engine::free_shared() {
  for (const Shared& array : shared_) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(array.data, (array.bytes + 127) / 128 * 128);
#endif
    std::free(array.data);
  }
  shared_.clear();
}

inline void* Engine::static_shared(const void* key, std::size_t bytes) {
  for (const Shared& array : shared_) {
    if (array.key == key) return array.data;
  }
  if ((static_bytes_ += bytes) > 48 * 1024) fail("more than 48 KB of static shared memory");
  return add_shared(key, bytes);
}

inline void* Engine::dynamic_shared() {
  for (const Shared& array : shared_) {
    if (array.key == nullptr) return array.data;
  }
  fail("dynamic_shared() in a launch without dynamic shared memory");
}

/// Throws unless `address` is 16 aligned bytes of this block's shared memory.
inline void Engine::check_shared(const void* address, const char* what) {
  for (const Shared& array : shared_) {
    const char* end = static_cast<char*>(array.data) + array.bytes;
    if (address < array.data || static_cast<const char*>(address) + 16 > end) continue;
    if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0) {
      fail(std::string(what) + ": the shared address is not a multiple of 16");
    }
    return;
  }
  fail(std::string(what) + ": the address is not in this block's shared memory");
}

// ---- blocks and grids ---------------------------------------------------------------------------

inline std::string Engine::who_waits_where() {
  std::string text;
  std::vector<bool> told(threads_);
  for (unsigned i = 0; i < threads_; ++i) {
    if (told[i]) continue;
    const Fiber& first = fibers_[i];
    unsigned count = 0;
    for (unsigned j = i; j < threads_; ++j) {
      if (fibers_[j].state != first.state) continue;
      if (first.state != State::kDone && !(first.place == fibers_[j].place)) continue;
      told[j] = true;
      ++count;
    }
    text += " " + std::to_string(count) + " of " + std::to_string(threads_) +
            " threads (the first is " + std::to_string(i) + ") ";
    text += first.state == State::kDone ? "have left the kernel;"
                                        : "wait at " + first.place.text() + ";";
  }
  return text;
}

inline void Engine::run_block(uint3 block, unsigned number) {
  set_ = number % kFiberSets;
  fibers_ = sets_[set_];
  warps_ = warp_sets_[set_];
  for (unsigned w = 0; w < warp_count_; ++w) {
    warps_[w].arrived = 0;
    rank_[w] = w;
  }
  blockIdx = block;
  at_barrier_ = 0;
  static_bytes_ = 0;
  if (order == Order::kRandom) {
    for (unsigned w = warp_count_; w > 1; --w) std::swap(rank_[w - 1], rank_[random() % w]);
  }
  if (dynamic_bytes_ != 0) add_shared(nullptr, dynamic_bytes_);
  for (unsigned i = 0; i < threads_; ++i) {
    fibers_[i].copies.clear();
    fibers_[i].groups = 0;
    make_ready(fibers_[i]);
  }
  go(pick());
  free_shared();
  unsigned done = 0;
  for (unsigned i = 0; i < threads_; ++i) done += fibers_[i].state == State::kDone ? 1 : 0;
  if (error_.empty() && done < threads_) {
    error_ = "deadlock in block (" + std::to_string(block.x) + ", " + std::to_string(block.y) +
             ", " + std::to_string(block.z) + "):" + who_waits_where();
  }
  if (!error_.empty()) after_failure();
}

inline void Engine::after_failure() {
  for (auto& set : sets_) {
    for (Fiber& fiber : set) {
      if (fiber.stack != nullptr) prepare(fiber);
    }
  }
  std::memset(ready_, 0, sizeof ready_);
  ready_count_ = 0;
  gpu::fail("kernel: " + std::exchange(error_, {}));
}

inline void Engine::prepare_main() {
#ifdef __SANITIZE_ADDRESS__
  if (main_.stack == nullptr) {
    pthread_attr_t attributes;
    void* stack = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &main_.stack_bytes);
    pthread_attr_destroy(&attributes);
    main_.stack = static_cast<char*>(stack);
  }
#endif
#ifdef __SANITIZE_THREAD__
  main_.tsan = __tsan_get_current_fiber();
#endif
}

inline void Engine::run_grid(dim3 grid, dim3 block, std::size_t dynamic_bytes, Body body,
                             const void* arguments) {
  const Unwatched unwatched;
  threads_ = block.x * block.y * block.z;
  if (now_ != &main_) gpu::fail("kernel: a launch inside a kernel");
  if (threads_ == 0 || threads_ > 1024 || block.z > 64) {
    gpu::fail("kernel: a block has 1 to 1024 threads");
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7FFFFFFFU || grid.y > 65535 ||
      grid.z > 65535) {
    gpu::fail("kernel: a grid has 1 to 2^31 - 1 x 65535 x 65535 blocks");
  }
  if (dynamic_bytes > 227 * 1024) gpu::fail("kernel: more than 227 KB of shared memory");
  blockDim = block, gridDim = grid;
  dynamic_bytes_ = dynamic_bytes;
  body_ = body, arguments_ = arguments;
  warp_count_ = (threads_ + 31) / 32;
  random_ = (seed * 0x9E3779B97F4A7C15ULL) | 1;
  for (auto& set : sets_) {
    for (unsigned i = 0; i < threads_; ++i) {
      if (set[i].stack != nullptr) continue;
      set[i].index = i;
      prepare(set[i]);
    }
  }
  prepare_main();
  order_release(&start_token_);
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  std::vector<std::uint32_t> sequence(blocks);
  for (std::size_t i = 0; i < blocks; ++i) {
    sequence[i] = static_cast<std::uint32_t>(order == Order::kReverse ? blocks - 1 - i : i);
  }
  if (order == Order::kRandom) {
    for (std::size_t i = blocks; i > 1; --i) std::swap(sequence[i - 1], sequence[random() % i]);
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::uint32_t b = sequence[i];
    run_block({b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)}, static_cast<unsigned>(i));
  }
  order_acquire(&end_token_);
}

}  // namespace kernels::gpu::host
