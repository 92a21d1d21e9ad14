// What a run computes with: chosen when it begins, kept when it is resumed.

#include <cstdlib>

#include "expect_error.h"
#include "train/helpers.h"
#include "train/run_folder.h"

namespace train {
namespace {

using testing::HasSubstr;

class RunCpu : public testing::Test {
 protected:
  RunCpu() {
    if (const char* before = std::getenv(kForce)) before_ = before;
    ::unsetenv(kForce);
    make_data(folder_ / "data");
    o_ = small_run(folder_ / "data", folder_ / "run");
    o_.precision = base::DType::kF32;
    o_.choose_cpu = [this](base::DType type) {
      ++asked_;
      return kernels::cpu_choices(type).back();
    };
  }
  ~RunCpu() override {
    if (before_) {
      ::setenv(kForce, before_->c_str(), 1);
    } else {
      ::unsetenv(kForce);
    }
  }
  std::optional<kernels::CpuChoice> recorded() const { return read_record(*o_.out).facts.cpu; }
  void record(const kernels::CpuChoice& cpu) {
    RunRecord record = read_record(*o_.out);
    record.facts.cpu = cpu;
    write_record(*o_.out, record);
  }
  /// The notes of resuming and one more step.
  std::string notes_of_resuming() {
    o_.resume = true;
    Trainer trainer(o_);
    std::string notes;
    Callbacks callbacks;
    callbacks.on_note = [&](const std::string& note) { notes += note + "\n"; };
    callbacks.stop_requested = [] { return true; };
    trainer.run(callbacks);
    return notes;
  }

  static constexpr const char* kForce = "GPT2_CPU_ISA";
  TemporaryFolder folder_;
  Options o_;
  int asked_ = 0;

 private:
  std::optional<std::string> before_;
};

TEST_F(RunCpu, IsAskedForOnceAndRecorded) {
  run_steps(o_, 1);
  EXPECT_EQ(asked_, 1);
  EXPECT_EQ(recorded(), kernels::cpu_choices(base::DType::kF32).back());
  EXPECT_EQ(read_run(*o_.out).cpu, recorded());
  EXPECT_EQ(notes_of_resuming().find("GPT2_CPU_ISA"), std::string::npos);
  EXPECT_EQ(asked_, 1);
  EXPECT_EQ(recorded(), kernels::cpu_choices(base::DType::kF32).back());
}

TEST_F(RunCpu, OfARunFromBeforeItWasRecordedIsChosenAnew) {
  run_steps(o_, 1);
  RunRecord old = read_record(*o_.out);
  old.facts.cpu.reset();
  write_record(*o_.out, old);
  notes_of_resuming();
  EXPECT_EQ(asked_, 2);
  EXPECT_TRUE(recorded().has_value());
}

TEST_F(RunCpu, ThatThisMachineLacksIsAnErrorUnlessAnotherIsForced) {
  run_steps(o_, 1);
  record({.isa = "sve2", .products = "own"});
  o_.resume = true;
  const std::string best = kernels::cpu_choices(base::DType::kF32).front().isa;
  EXPECT_THAT(error_of([&] { Trainer trainer(o_); }),
              HasSubstr("the run was begun with sve2 (own products), which this processor or build "
                        "lacks; set GPT2_CPU_ISA=" +
                        best));
  ::setenv(kForce, best.c_str(), 1);
  EXPECT_THAT(notes_of_resuming(), HasSubstr("the run was begun with sve2 (own products), "
                                             "GPT2_CPU_ISA makes it go on with " +
                                             best));
  EXPECT_EQ(recorded()->isa, "sve2");  // the run's, not the sitting's
}

TEST_F(RunCpu, BrokenInTheRecordIsAnError) {
  run_steps(o_, 1);
  const base::Path file = *o_.out / "train.json";
  std::string text = base::read_file(file);
  text.replace(text.find("\"isa\""), 5, "\"was\"");
  base::write_file(file, text);
  EXPECT_THAT(error_of([&] { read_record(*o_.out); }), HasSubstr("train.json: not a run's record"));
}

}  // namespace
}  // namespace train
