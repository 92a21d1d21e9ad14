// TensorBoard's files: the bytes that its own package writes, histograms, names in order.

#include "report/events.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "temporary_folder.h"

namespace report {
namespace {

// Source: tests/golden/tensorboard/make.py, with the tensorboard package.
TEST(Events, AreTheBytesThatTensorBoardWrites) {
  Histogram histogram;
  histogram.min = -1;
  histogram.max = 2;
  histogram.sum = 12.5;
  histogram.sum_of_squares = 40.25;
  for (int i = 0; i < Histogram::kRanges; ++i) {
    histogram.counts[static_cast<std::size_t>(i)] = i * i % 7;
    histogram.count += i * i % 7;
  }
  const std::vector<EventFile::Scalar> scalars = {{"loss", 3.25}, {"lr", 6e-4}};
  std::string bytes;
  for (const std::string& event :
       {version_event(1764266400.25), start_event(1764266400.25, 300),
        scalars_event(1764266401.5, 300, scalars),
        text_event(1764266402.0, 0, "sample", "    W\u00f6rter\n"),
        histogram_event(1764266403.0, 5'000'000'000, "weights/wte.weight", histogram)}) {
    bytes += tf_record(event);
  }
  EXPECT_EQ(bytes, base::read_file(GPT2_SOURCE_DIR "/tests/golden/tensorboard/events.bin"));
}

TEST(Events, AFileBeginsWithItsVersionAndWhereItStarts) {
  const TemporaryFolder folder;
  EventFile file(folder / "tb", 1000.5, 7);
  const std::string begin = tf_record(version_event(1000.5)) + tf_record(start_event(1000.5, 7));
  EXPECT_EQ(base::read_file(file.path()), begin);
  const EventFile::Scalar loss{"loss", 2.5};
  file.scalars(1001, 7, std::span(&loss, 1));
  file.text(1002, 7, "sample", "a\nb\xff");
  file.flush();
  EXPECT_EQ(base::read_file(file.path()),
            begin + tf_record(scalars_event(1001, 7, std::span(&loss, 1))) +
                tf_record(text_event(1002, 7, "sample", "    a\n    b\xEF\xBF\xBD")));
}

TEST(Events, ALaterFileSortsBehindWhateverTheClockSays) {
  const TemporaryFolder folder;
  std::string before;
  for (const double seconds : {5000.0, 5000.4, 5000.9, 4000.0, 99999999999.0, 6000.0}) {
    const EventFile file(folder.path(), seconds, 0);
    EXPECT_LT(before, file.path().filename().string());
    EXPECT_NE(file.path().string().find("tfevents"), std::string::npos);
    before = file.path().filename().string();
  }
}

TEST(Histograms, CountInRangesOfEqualWidth) {
  std::vector<float> values(3200);
  std::iota(values.begin(), values.end(), 0.0F);
  const Histogram h = histogram_of(values);
  EXPECT_EQ(h.count, 3200);
  EXPECT_EQ(h.min, 0);
  EXPECT_EQ(h.max, 3199);
  EXPECT_EQ(h.sum, 3199.0 * 3200 / 2);
  EXPECT_EQ(h.sum_of_squares, 3199.0 * 3200 * 6399 / 6);
  for (const std::int64_t count : h.counts) EXPECT_EQ(count, 100);
}

TEST(Histograms, LeaveOutWhatIsNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1, std::nanf(""), kInfinity, -kInfinity, 3};
  const Histogram h = histogram_of(values);
  EXPECT_EQ(h.count, 2);
  EXPECT_EQ(h.min, 1);
  EXPECT_EQ(h.max, 3);
  EXPECT_EQ(h.counts.front(), 1);
  EXPECT_EQ(h.counts.back(), 1);
  EXPECT_EQ(histogram_of({}).count, 0);
}

TEST(Histograms, OfEqualValuesHaveOneRange) {
  const std::vector<float> values(10, 0.5F);
  const Histogram h = histogram_of(values);
  EXPECT_EQ(h.counts.front(), 10);
  EXPECT_EQ(std::accumulate(h.counts.begin(), h.counts.end(), std::int64_t{0}), 10);
}

TEST(Histograms, DoNotDependOnThreads) {
  std::vector<float> values(300'000);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<float>(i)) * 1e-3F;
  }
  const int threads = base::thread_count();
  base::set_thread_count(1);
  const Histogram one = histogram_of(values);
  base::set_thread_count(3);
  const Histogram three = histogram_of(values);
  base::set_thread_count(threads);
  EXPECT_EQ(one.sum, three.sum);
  EXPECT_EQ(one.sum_of_squares, three.sum_of_squares);
  EXPECT_EQ(one.counts, three.counts);
}

}  // namespace
}  // namespace report
