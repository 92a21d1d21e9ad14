// Passes that come again: kept, compared, run as one.

#include "kernels/cuda/queue.h"

#include <utility>

#include "kernels/cuda/device.h"

namespace kernels::gpu {
namespace {

constexpr int kMostDifferences = 8;  // of a pass in a row

}  // namespace

Queue::Pass::~Pass() {
  settle();
  forget_graph();
  if (done != nullptr) close_event(done);
}

void Queue::Pass::forget_graph() {
  if (graph != nullptr) close_graph(graph);
  graph = nullptr;
}

void Queue::Pass::settle() noexcept {
  try {
    if (done != nullptr) wait_for_event(done);
  } catch (...) {  // the next call tells of it
  }
}

Queue::Queue() : handle_(make_stream()) {}

Queue::~Queue() {
  passes_.clear();
  close_stream(handle_);
}

void Queue::run(const Operation& operation) {
  running_ = true;
  try {
    operation.run(*this);
  } catch (...) {
    running_ = false;
    throw;
  }
  running_ = false;
}

void Queue::gather(Gatherer& gatherer) {
  if (gatherer_ != &gatherer) give_gathered();
  gatherer_ = &gatherer;
}

void Queue::give_gathered() {
  if (Gatherer* const gatherer = std::exchange(gatherer_, nullptr)) gatherer->give();
}

void Queue::push(const Operation& operation) {
  if (running_) return operation.run(*this);
  give_gathered();
  if (state_ == State::kComparing) {
    auto& all = pass_->operations;
    if (next_ < all.size() && all[next_]->same(operation)) {
      all[next_]->renew(operation, *this);
      ++next_;
      return;
    }
    run_one_by_one();
    state_ = pass_->differed < kMostDifferences ? State::kKeeping : State::kOutside;
  }
  if (state_ != State::kKeeping) return run(operation);
  // What is kept has its own memory for uploads: the caller's may change at once.
  pass_->operations.push_back(operation.kept());
  run(*pass_->operations.back());
}

void Queue::begin_pass(int number) {
  if (pass_ != nullptr) fail("queue: a pass inside a pass");
  give_gathered();
  pass_ = &passes_[number];
  next_ = 0;
  waited_ = false;
  if (pass_->differed >= kMostDifferences) return;
  state_ = pass_->operations.empty() ? State::kKeeping : State::kComparing;
}

void Queue::end_pass() {
  close();
  pass_ = nullptr;
}

void Queue::drop_pass() noexcept {
  try {
    close();
  } catch (...) {  // the failure that came first is the one that is told
  }
  if (pass_ != nullptr) {
    pass_->settle();
    pass_->operations.clear();
    pass_->forget_graph();
  }
  pass_ = nullptr;
  state_ = State::kOutside;
}

void Queue::close() {
  give_gathered();
  const State state = state_;
  state_ = State::kOutside;
  if (state == State::kKeeping) mark_done();
  if (state != State::kComparing) return;
  if (next_ == pass_->operations.size()) {
    run_as_one();
  } else {
    run_one_by_one();
  }
}

void Queue::run_one_by_one() {
  ++pass_->differed;
  pass_->settle();
  pass_->forget_graph();
  pass_->operations.resize(next_);
  for (const auto& operation : pass_->operations) run(*operation);
  mark_done();  // uploads read their own memory here as well
}

void Queue::run_as_one() {
  ++repeated_;
  pass_->differed = 0;
  if (!makes_graphs()) {
    for (const auto& operation : pass_->operations) run(*operation);
    return;
  }
  if (pass_->graph == nullptr) {
    begin_capture(handle_);
    try {
      for (const auto& operation : pass_->operations) run(*operation);
    } catch (...) {
      give_up_capture(handle_);
      throw;
    }
    pass_->graph = end_capture(handle_);
  }
  run_graph(pass_->graph, handle_);
  mark_done();
}

void Queue::mark_done() {
  if (pass_->done == nullptr) pass_->done = make_event();
  record_event(pass_->done, handle_);
}

void Queue::wait_for_repeated() {
  if (waited_ || pass_ == nullptr) return;
  waited_ = true;
  if (pass_->done != nullptr) wait_for_event(pass_->done);
}

}  // namespace kernels::gpu
