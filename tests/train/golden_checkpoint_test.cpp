// Checkpoints of earlier versions: each is resumed, and comes to the losses that the version which
// wrote it came to (tests/golden/checkpoint_v1: fp32, the generic instruction set, one thread).

#include "train/helpers.h"

namespace train {
namespace {

TEST(GoldenCheckpoint, OfVersion1IsResumed) {
  TemporaryFolder folder;
  const base::Path golden = base::Path(GPT2_SOURCE_DIR "/tests/golden/checkpoint_v1");
  std::filesystem::copy(golden, folder / "copy", std::filesystem::copy_options::recursive);
  Options o;
  o.out = folder / "copy" / "run";
  o.data = folder / "copy" / "data";
  o.resume = true;
  o.device = kernels::Device::kReference;
  {
    Trainer trainer(o);
    EXPECT_EQ(trainer.first_step(), 8);
    EXPECT_EQ(trainer.run({}).end, End::kFinished);
  }
  const LogContent expected = read_log(golden / "expected.jsonl");
  const LogContent got = read_log(*o.out / "log.jsonl");
  ASSERT_EQ(got.steps.size(), expected.steps.size());
  ASSERT_EQ(got.steps.size(), 16U);
  for (std::size_t i = 0; i < got.steps.size(); ++i) {
    EXPECT_NEAR(got.steps[i].loss, expected.steps[i].loss, 2e-5) << "step " << i;
    EXPECT_NEAR(got.steps[i].grad_norm, expected.steps[i].grad_norm, 2e-5) << "step " << i;
  }
}

}  // namespace
}  // namespace train
