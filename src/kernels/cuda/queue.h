#pragma once
/// What a backend gives a device to do, in order, and passes that come again.
///
/// Law: everything that a device does is an Operation pushed on a Queue; what an operation depends
/// on is in it by value, or in device memory that an operation before it wrote. Between
/// begin_pass() and end_pass() a queue keeps what is pushed. When the pass of that number comes
/// again, it compares each operation with the one that came at the same place before, and queues
/// none of them; at the end, if all were the same, they are run as one (a CUDA graph, which costs
/// the host one call instead of one an operation). Where one differs, those before it are run one
/// by one, and the pass is kept anew from there on. So a pass does the same whether it is run as
/// one or not, and nobody has to say what may change between two of them. Uploads are the exception
/// that makes this useful: their content may differ. A pass that has differed several times in a
/// row (one with dropout, whose masks have a key) is no longer kept.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "kernels/cuda/gpu_types.h"

struct CUstream_st;     // cudaStream_t is a pointer to it
struct CUgraphExec_st;  // cudaGraphExec_t
struct CUevent_st;      // cudaEvent_t

namespace kernels::gpu {

class Queue;
using Graph = CUgraphExec_st*;

class Operation {
 public:
  Operation() = default;
  virtual ~Operation() = default;
  Operation(const Operation&) = default;
  Operation& operator=(const Operation&) = delete;
  /// Gives it to the device.
  virtual void run(Queue& queue) const = 0;
  /// Whether `other` does the same but for the content of an upload.
  virtual bool same(const Operation& other) const = 0;
  /// Itself, with what it needs to run again.
  virtual std::unique_ptr<Operation> kept() const = 0;
  /// Takes the content of `newer`, which is the same(); `queue` may have to be waited for.
  virtual void renew(const Operation& /*newer*/, Queue& /*queue*/) {}
};

/// Work that is gathered until anything else is pushed or waited for, so that what comes in many
/// pieces is given as one operation.
class Gatherer {
 public:
  Gatherer() = default;
  virtual ~Gatherer() = default;
  Gatherer(const Gatherer&) = delete;
  Gatherer& operator=(const Gatherer&) = delete;
  /// Pushes what was gathered, if anything was.
  virtual void give() = 0;
};

/// Not copyable, one caller at a time. Functions of a device's side stand in device.h.
class Queue {
 public:
  Queue();
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// What an operation pushes while it is run is a part of it.
  void push(const Operation& operation);
  /// `gatherer` holds work that stands at this place of the queue: it is told to give it before
  /// the place passes.
  void gather(Gatherer& gatherer);
  /// What follows belongs to pass `number`. Passes do not nest.
  void begin_pass(int number);
  /// Gives the device what is still held back.
  void end_pass();
  /// The same where the pass failed half-way: what was pushed is done, as whoever pushed it counts
  /// on, but nothing is kept for the next time.
  void drop_pass() noexcept;
  /// Before the host reads or frees anything: gives the device what is held back; the rest of an
  /// open pass is queued as it comes.
  void close();
  /// Waits until the pass that is being repeated has been run, as it was before.
  void wait_for_repeated();

  CUstream_st* handle() const { return handle_; }
  /// How often a pass was run as one.
  std::int64_t repeated() const { return repeated_; }

 private:
  struct Pass {
    std::vector<std::unique_ptr<Operation>> operations;
    Graph graph = nullptr;
    CUevent_st* done = nullptr;  // after kept operations' last run
    int differed = 0;            // times in a row
    Pass() = default;
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass();
    void forget_graph();
    /// Waits, so that what its operations own may be freed.
    void settle() noexcept;
  };
  enum class State : std::uint8_t { kOutside, kKeeping, kComparing };

  void give_gathered();
  void run(const Operation& operation);
  void run_as_one();
  void run_one_by_one();
  void mark_done();

  CUstream_st* handle_;
  std::map<int, Pass> passes_;
  Pass* pass_ = nullptr;
  Gatherer* gatherer_ = nullptr;
  std::size_t next_ = 0;  // place of what is compared next
  State state_ = State::kOutside;
  bool waited_ = false;
  bool running_ = false;
  std::int64_t repeated_ = 0;
};

}  // namespace kernels::gpu
