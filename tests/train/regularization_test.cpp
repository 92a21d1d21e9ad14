// Runs with dropout, label smoothing and z-loss: they resume bit for bit, do not depend on how a
// step is cut, and log the plain loss.

#include <nlohmann/json.hpp>

#include "expect_error.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

class RegularizedRun : public testing::TestWithParam<base::DType> {
 protected:
  RegularizedRun() { make_data(folder_ / "data"); }
  Options options(const std::string& out) const {
    Options o = small_run(folder_ / "data", folder_ / out);
    o.precision = GetParam();
    o.dropout = 0.3;
    o.label_smoothing = 0.1;
    o.z_loss = 1e-3;
    return o;
  }
  std::vector<StepReport> steps(const std::string& out) const {
    return read_log(folder_ / out / "log.jsonl").steps;
  }
  TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Precision, RegularizedRun,
                         testing::Values(base::DType::kF32, base::DType::kBf16),
                         [](const auto& param) { return std::string(base::name_of(param.param)); });

TEST_P(RegularizedRun, ResumesBitForBit) {
  run_steps(options("whole"));
  for (const std::int64_t stop : {3, 7}) {
    const std::string out = fmt::format("stop_{}", stop);
    Options o = options(out);
    run_steps(o, stop);
    o.resume = true;
    o.recompute = stop == 3 ? model::Recompute::kBlock : model::Recompute::kGelu;
    run_steps(o);
    EXPECT_EQ(numbers_of(folder_ / out), numbers_of(folder_ / "whole"));
    EXPECT_EQ(base::read_file(folder_ / out / "model" / "model.safetensors"),
              base::read_file(folder_ / "whole" / "model" / "model.safetensors"));
  }
}

TEST_P(RegularizedRun, ResumesAfterAKillAtACheckpointInBetween) {
  struct Killed {};
  run_steps(options("whole"));
  Options o = options("killed");
  o.checkpoint_every = 4;
  Callbacks callbacks;
  callbacks.on_step = [&](const StepReport& report) {
    if (report.step == 9) throw Killed{};
  };
  EXPECT_THROW(Trainer(o).run(callbacks), Killed);
  o.resume = true;
  EXPECT_EQ(Trainer(o).first_step(), 8);
  run_steps(o);
  EXPECT_EQ(numbers_of(folder_ / "killed"), numbers_of(folder_ / "whole"));
}

/// The masks belong to the rows of the step, so another cut gives the same losses up to rounding;
/// with other masks the first would differ by a tenth.
TEST_P(RegularizedRun, DropsTheSameHoweverAStepIsCut) {
  Options whole = options("whole"), cut = options("cut");
  whole.micro_batch = 4;
  cut.micro_batch = 1;
  whole.seed = cut.seed = 7;
  run_steps(whole, 5);
  run_steps(cut, 5);
  const auto a = steps("whole"), b = steps("cut");
  ASSERT_EQ(a.size(), b.size());
  const bool f32 = GetParam() == base::DType::kF32;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].loss, b[i].loss, f32 ? 1e-5 : 1e-2);
    EXPECT_NEAR(a[i].grad_norm, b[i].grad_norm, (f32 ? 1e-4 : 2e-2) * a[i].grad_norm);
  }
}

TEST_P(RegularizedRun, EachOptionChangesWhatIsLearntAndNotWhatIsMeasured) {
  Options o = options("plain");
  o.dropout.reset();
  o.label_smoothing.reset();
  o.z_loss.reset();
  run_steps(o);
  const auto plain = steps("plain");
  const std::pair<std::optional<double> Options::*, double> changes[] = {
      {&Options::dropout, 0.3}, {&Options::label_smoothing, 0.1}, {&Options::z_loss, 1e-2}};
  for (const auto& [member, value] : changes) {
    const bool drops = member == &Options::dropout;
    const std::string out = fmt::format("changed_{}", value);
    Options changed = o;
    changed.*member = value;
    changed.out = folder_ / out;
    run_steps(changed);
    const auto other = steps(out);
    ASSERT_EQ(other.size(), plain.size());
    // The first loss, before any update: the cross entropy, of what dropout left.
    EXPECT_EQ(other[0].loss == plain[0].loss, !drops);
    EXPECT_NE(other[0].grad_norm, plain[0].grad_norm);
    EXPECT_NE(other[14].loss, plain[14].loss);
    EXPECT_NE(*other[14].validation_loss, *plain[14].validation_loss);
    EXPECT_NEAR(*other[14].validation_loss, *plain[14].validation_loss, 0.3);
  }
}

TEST_P(RegularizedRun, ZeroIsNothing) {
  Options none = options("none"), zero = options("zero");
  none.dropout.reset();
  none.label_smoothing.reset();
  none.z_loss.reset();
  zero.dropout = zero.label_smoothing = zero.z_loss = 0;
  run_steps(none);
  run_steps(zero);
  EXPECT_EQ(numbers_of(folder_ / "none"), numbers_of(folder_ / "zero"));
  EXPECT_EQ(read_options(folder_ / "none" / "train.json").dropout, 0.0);
}

TEST(RegularizedResume, NamesWhatContradictsTheRun) {
  TemporaryFolder folder;
  make_data(folder / "data");
  Options o = small_run(folder / "data", folder / "run");
  o.dropout = 0.125;
  run_steps(o, 2);
  const auto refusal = [&](auto member, double value) {
    Options again;
    again.out = folder / "run";
    again.resume = true;
    again.*member = value;
    return error_of([&] { Trainer trainer(again); });
  };
  EXPECT_THAT(refusal(&Options::dropout, 0.5), HasSubstr("--dropout 0.5 (the run has 0.125)"));
  EXPECT_THAT(refusal(&Options::label_smoothing, 0.5),
              HasSubstr("--label-smoothing 0.5 (the run has 0.0)"));
  EXPECT_THAT(refusal(&Options::z_loss, 0.5), HasSubstr("--z-loss 0.5 (the run has 0.0)"));
}

TEST(RegularizedResume, TakesUpARunFromBeforeTheseOptions) {
  TemporaryFolder folder;
  make_data(folder / "data");
  Options o = small_run(folder / "data", folder / "run");
  run_steps(o, 2);
  const base::Path file = folder / "run" / "train.json";
  auto json = nlohmann::ordered_json::parse(base::read_file(file));
  for (const char* name : {"dropout", "label-smoothing", "z-loss"}) json.erase(name);
  base::write_file(file, json.dump());
  o.resume = true;
  o.dropout = 0;
  EXPECT_EQ(Trainer(o).first_step(), 2);
}

}  // namespace
}  // namespace train
