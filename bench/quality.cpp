// What a number format costs in quality: a table of perplexity and logit errors for a model and a
// held-out text.
//
//   bench/quality MODEL TEXT [TOKENS]
//
// Perplexity as `gpt2 score` computes it (stride: half the context), over the first TOKENS tokens
// (default: all). The logit errors are against fp32, over up to 16 windows of the context spread
// over these tokens: the largest of all, and the root of the mean square beside the logits' own
// deviation.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "evaluate/evaluate.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "text/text.h"

namespace {

using Ids = std::vector<std::int32_t>;
using kernels::WeightFormat;

constexpr std::size_t kWindows = 16;

Ids read_ids(const base::Path& model, const base::Path& file, std::size_t most) {
  const auto ids = text::encode(text::Tokenizer::load(model), base::read_file(file));
  return {ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), most))};
}

/// Beginnings of the windows whose logits are compared.
std::vector<std::size_t> window_starts(std::size_t tokens, std::size_t length) {
  std::vector<std::size_t> starts;
  const std::size_t last = tokens - length;
  const std::size_t count = std::min(kWindows, last / length + 1);
  for (std::size_t i = 0; i < count; ++i) starts.push_back(i * (last / count));
  return starts;
}

struct LogitError {
  double largest = 0;
  double squares = 0;
  double own_squares = 0;
  double sum = 0;
  double count = 0;

  void add(const std::vector<float>& expected, const std::vector<float>& got) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double value = expected[i];
      const double error = std::abs(static_cast<double>(got[i]) - value);
      largest = std::max(largest, error);
      squares += error * error;
      own_squares += value * value;
      sum += value;
    }
    count += static_cast<double>(expected.size());
  }
  double rms() const { return std::sqrt(squares / count); }
  double deviation() const {
    return std::sqrt(own_squares / count - (sum / count) * (sum / count));
  }
};

model::Gpt2 load(const base::Path& folder, WeightFormat format) {
  return model::load_for_inference(folder,
                                   kernels::make_inference_backend(kernels::Device::kCpu, format));
}

LogitError compare(model::Gpt2& exact, model::Gpt2& model, const Ids& ids) {
  const auto length = std::min(static_cast<std::size_t>(exact.config().context), ids.size());
  const auto vocab = static_cast<std::size_t>(exact.config().vocab_size);
  std::vector<float> expected(length * vocab), got(length * vocab);
  LogitError error;
  for (const std::size_t start : window_starts(ids.size(), length)) {
    const auto window = std::span(ids).subspan(start, length);
    exact.logits(window, expected);
    model.logits(window, got);
    error.add(expected, got);
  }
  return error;
}

void run(const base::Path& folder, const base::Path& file, std::size_t most) {
  const Ids ids = read_ids(folder, file, most);
  model::Gpt2 exact = load(folder, WeightFormat::kF32);
  const std::int64_t stride = std::max<std::int64_t>(exact.config().context / 2, 1);
  fmt::print("{} tokens of {}, {} with {}\n\n", ids.size(), file.string(), folder.string(),
             exact.backend().description());
  fmt::print(
      "| format | perplexity | against fp32 | largest logit error | rms (logits' deviation) |\n");
  fmt::print("|---|---|---|---|---|\n");
  double base_loss = 0;
  for (const WeightFormat format :
       {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    model::Gpt2 model = load(folder, format);
    const evaluate::Perplexity result = evaluate::perplexity(model, ids, stride, {});
    if (format == WeightFormat::kF32) base_loss = result.loss;
    const LogitError error = compare(exact, model, ids);
    fmt::print("| {} | {:.4f} | {:+.3f} % | {:.4f} | {:.4f} ({:.3f}) |\n", name_of(format),
               result.perplexity, 100 * (std::exp(result.loss - base_loss) - 1), error.largest,
               error.rms(), error.deviation());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fmt::print(stderr, "usage: quality MODEL TEXT [TOKENS]\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argc == 4 ? std::strtoull(argv[3], nullptr, 10) : SIZE_MAX);
    return 0;
  } catch (const base::Error& error) {
    fmt::print(stderr, "quality: error: {}\n", error.what());
    return 1;
  }
}
