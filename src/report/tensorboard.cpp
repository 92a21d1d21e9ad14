// TensorBoard's event files, and the histograms in them.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "report/escape.h"
#include "report/events.h"
#include "report/report.h"

namespace report {
namespace {

// Sums are made block by block, so that they do not depend on the number of threads.
constexpr std::int64_t kBlock = std::int64_t{1} << 16;

template <class Body>
void for_each_block(std::span<const float> values, Body&& body) {
  const auto size = static_cast<std::int64_t>(values.size());
  base::parallel_for((size + kBlock - 1) / kBlock, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock;
    body(static_cast<std::size_t>(block),
         values.subspan(static_cast<std::size_t>(begin),
                        static_cast<std::size_t>(std::min(kBlock, size - begin))));
  });
}

struct Moments {
  double min = std::numeric_limits<double>::infinity();
  double max = -std::numeric_limits<double>::infinity();
  double sum = 0, squares = 0;
  std::int64_t count = 0;
};

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "host";
  std::string text = name.data();
  std::replace(text.begin(), text.end(), '/', '-');
  return text;
}

/// Readers take a folder's files in the order of their names: this one comes last, also where two
/// begin in one second or the clock was set back.
std::string next_name(const base::Path& folder, long long second) {
  constexpr const char* kPrefix = "events.out.tfevents.";
  int number = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    long long other = 0;
    int other_number = 0;
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const std::string rest = name.substr(std::strlen(kPrefix));
    if (std::sscanf(rest.c_str(), "%lld.%d.", &other, &other_number) != 2) continue;
    if (other < second || (other == second && other_number < number)) continue;
    second = other;
    number = other_number + 1;
  }
  return fmt::format("{}{:010}.{:03}.{}.{}", kPrefix, second, number, host_name(), ::getpid());
}

}  // namespace

Histogram histogram_of(std::span<const float> values) {
  const std::size_t blocks = (values.size() + kBlock - 1) / static_cast<std::size_t>(kBlock);
  std::vector<Moments> moments(blocks);
  for_each_block(values, [&](std::size_t block, std::span<const float> part) {
    Moments m;
    for (const float value : part) {
      if (!std::isfinite(value)) continue;
      const double v = value;
      m.min = std::min(m.min, v);
      m.max = std::max(m.max, v);
      m.sum += v;
      m.squares += v * v;
      ++m.count;
    }
    moments[block] = m;
  });
  Moments all;
  for (const Moments& m : moments) {
    all = {std::min(all.min, m.min), std::max(all.max, m.max), all.sum + m.sum,
           all.squares + m.squares, all.count + m.count};
  }
  Histogram h;
  if (all.count == 0) return h;
  h.min = all.min;
  h.max = all.max;
  h.sum = all.sum;
  h.sum_of_squares = all.squares;
  h.count = all.count;
  std::vector<std::array<std::int64_t, Histogram::kRanges>> counts(blocks);
  const double scale = h.max > h.min ? Histogram::kRanges / (h.max - h.min) : 0;
  for_each_block(values, [&](std::size_t block, std::span<const float> part) {
    for (const float value : part) {
      if (!std::isfinite(value)) continue;
      const int range = static_cast<int>((value - h.min) * scale);
      ++counts[block][static_cast<std::size_t>(std::min(range, Histogram::kRanges - 1))];
    }
  });
  for (const auto& block : counts) {
    for (std::size_t i = 0; i < block.size(); ++i) h.counts[i] += block[i];
  }
  return h;
}

EventFile::EventFile(const base::Path& folder, double seconds, std::int64_t step) {
  base::create_folders(folder);
  path_ = folder / next_name(folder, static_cast<long long>(seconds));
  file_.open(path_, std::ios::binary);
  append(version_event(seconds));
  append(start_event(seconds, step));
  flush();
}

void EventFile::append(const std::string& event) { file_ << tf_record(event); }

void EventFile::scalars(double seconds, std::int64_t step, std::span<const Scalar> scalars) {
  append(scalars_event(seconds, step, scalars));
}

void EventFile::text(double seconds, std::int64_t step, const std::string& tag,
                     std::string_view text) {
  // TensorBoard reads Markdown: indented lines are shown as they are.
  std::string lines = "    ";
  for (const char c : as_utf8(text)) {
    lines += c;
    if (c == '\n') lines += "    ";
  }
  append(text_event(seconds, step, tag, lines));
}

void EventFile::histogram(double seconds, std::int64_t step, const std::string& tag,
                          const Histogram& histogram) {
  append(histogram_event(seconds, step, tag, histogram));
}

void EventFile::flush() {
  file_.flush();
  if (!file_) base::fail("cannot write {}: {}", path_.string(), std::strerror(errno));
}

}  // namespace report
