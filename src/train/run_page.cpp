// Lines of the log become curves, marks and facts.

#include "train/run_page.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/locked.h"
#include "train/log.h"

namespace train {
namespace {

constexpr std::size_t kMostSamples = 24;         // on a page
constexpr std::size_t kMostSampleBytes = 6'000;  // of each
constexpr std::size_t kMostMarks = 200;
constexpr std::string_view kMarked[] = {
    "resume", "stop", "spike", "rollback", "not_finite", "checkpoint_failed", "broken"};

/// What a value of the log looks like in a table.
std::string word_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : text_of(value);
}

/// Adds or replaces a fact.
void set_fact(std::vector<report::Fact>& facts, const std::string& name, const std::string& value) {
  const auto old = std::ranges::find(facts, name, &report::Fact::first);
  if (old == facts.end()) {
    facts.emplace_back(name, value);
  } else {
    old->second = value;
  }
}

void set_facts(std::vector<report::Fact>& facts, const Json& object) {
  if (!object.is_object()) return;
  for (const auto& [name, value] : object.items()) set_fact(facts, name, word_of(value));
}

void append_numbers(std::vector<report::EventFile::Scalar>& numbers, const std::string& name,
                    const Json& value) {
  if (value.is_number()) {
    numbers.emplace_back(name, value.get<double>());
  } else if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) append_numbers(numbers, name + "/" + key, inner);
  }
}

/// The digits that read back as the same double.
std::string digits_of(double value) { return fmt::format("{}", value); }

double number_at(const Json& line, const char* key) {
  const auto value = line.find(key);
  return value != line.end() && value->is_number() ? value->get<double>() : 0;
}

/// The file's beginning, up to `most` bytes.
std::string beginning_of(const base::Path& file, std::size_t most) {
  std::string text = base::read_file(file);
  if (text.size() > most) text = text.substr(0, most) + " ...";
  return text;
}

/// Evenly chosen samples of a run directory, the first and the last among them.
std::vector<report::PageSample> read_samples(const base::Path& folder) {
  std::vector<std::pair<std::int64_t, base::Path>> files;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder, missing)) {
    constexpr std::string_view kBegin = "step_";
    const std::string stem = entry.path().stem().string();
    if (!stem.starts_with(kBegin) || entry.path().extension() != ".txt") continue;
    const std::string digits = stem.substr(kBegin.size());
    const bool number = !digits.empty() && digits.size() < 18 &&
                        digits.find_first_not_of("0123456789") == std::string::npos;
    if (number) files.emplace_back(std::stoll(digits), entry.path());
  }
  std::ranges::sort(files);
  std::vector<report::PageSample> samples;
  const std::size_t shown = std::min(files.size(), kMostSamples);
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [step, file] = files[shown < 2 ? 0 : i * (files.size() - 1) / (shown - 1)];
    samples.push_back({step, beginning_of(file, kMostSampleBytes)});
  }
  return samples;
}

}  // namespace

std::vector<report::EventFile::Scalar> numbers_of_line(const Json& line) {
  std::vector<report::EventFile::Scalar> numbers;
  for (const auto& [key, value] : line.items()) append_numbers(numbers, key, value);
  return numbers;
}

void Peak::take(const Json& event) {
  flops_per_second = number_at(event, "peak_flops");
  flops_per_token = number_at(event, "flops_per_token");
}

std::optional<double> Peak::percent(const Json& step_line) const {
  if (flops_per_second <= 0 || flops_per_token <= 0) return std::nullopt;
  return 100 * number_at(step_line, "tokens_per_second") * flops_per_token / flops_per_second;
}

void RunPage::add(const Json& line) {
  if (line.contains("loss")) {
    add_step(line);
  } else if (line.contains("event")) {
    add_event(line);
  }
}

void RunPage::add_point(const std::string& chart, const std::string& name, bool markers,
                        double step, double value) {
  auto curve = std::ranges::find_if(
      curves_, [&](const report::PageCurve& c) { return c.chart == chart && c.name == name; });
  if (curve == curves_.end()) {
    curves_.push_back({chart, name, markers, report::Curve()});
    curve = curves_.end() - 1;
  }
  curve->curve.add(step, value);
}

void RunPage::add_step(const Json& line) {
  // Where the data has masks and none of a step's targets count, there is no loss to speak of.
  const bool empty = line.contains("targets") && number_at(line, "targets") == 0;
  const double step = number_at(line, "step");
  milliseconds_ += number_at(line, "ms");
  tokens_.add(step, number_at(line, "tokens"));
  minutes_.add(step, milliseconds_ / 60e3);
  steps_done_ = static_cast<std::int64_t>(step) + 1;
  for (const auto& [name, value] : numbers_of_line(line)) {
    if (name == "loss") {
      if (!empty) add_point("loss", "train", false, step, value);
    } else if (name == "val_loss") {
      add_point("loss", "validation", true, step, value);
    } else if (name == "lr") {
      add_point("lr", "learning rate", false, step, value);
    } else if (name == "grad_norm") {
      if (!empty) add_point("grad_norm", "gradient norm", false, step, value);
    } else if (name == "tokens_per_second") {
      add_point(name, "tokens per second", false, step, value);
    } else if (name.starts_with("eval/")) {
      // Accuracies of a task share a chart; a perplexity and bits per byte would flatten each
      // other.
      const std::size_t slash = name.rfind('/');
      const std::string key = name.substr(slash + 1);
      add_point(key.starts_with("acc") ? name.substr(0, slash) : name, key, true, step, value);
    }
  }
  if (const auto percent = peak_.percent(line)) {
    add_point("percent_of_peak", "share of the peak", false, step, *percent);
  }
}

void RunPage::add_event(const Json& line) {
  const std::string kind = word_of(line["event"]);
  last_event_ = kind;
  if (kind == "start" || kind == "resume") {
    peak_.take(line);
    if (line.contains("options") && line["options"].is_object()) {
      steps_planned_ = static_cast<std::int64_t>(number_at(line["options"], "steps"));
    }
    for (const char* key : {"parameters", "config", "options"}) {
      if (!line.contains(key)) continue;
      if (line[key].is_object()) {
        set_facts(configuration_, line[key]);
      } else {
        set_fact(configuration_, key, word_of(line[key]));
      }
    }
    if (line.contains("backend")) set_fact(environment_, "backend", word_of(line["backend"]));
    if (line.contains("host")) set_facts(environment_, line["host"]);
    if (line.contains("time")) set_fact(environment_, kind + "ed", word_of(line["time"]));
    if (peak_.flops_per_second > 0) {
      set_fact(environment_, "peak",
               fmt::format("{:.0f} GFLOP/s, measured when training began",
                           peak_.flops_per_second / 1e9));
      set_fact(environment_, "flops_per_token", fmt::format("{:.4g}", peak_.flops_per_token));
    }
  }
  const bool marked = std::ranges::find(kMarked, kind) != std::end(kMarked);
  if (!marked || marks_.size() >= kMostMarks) return;
  std::string details;
  for (const auto& [key, value] : line.items()) {
    if (key == "event" || key == "step" || key == "time" || value.is_structured()) continue;
    details += fmt::format("{}{}: {}", details.empty() ? "" : ", ", key, word_of(value));
  }
  marks_.push_back({static_cast<std::int64_t>(number_at(line, "step")), kind, details});
}

std::string RunPage::state(bool running) const {
  const std::string word = last_event_ == "finish"       ? "finished"
                           : last_event_ == "not_finite" ? "failed"
                           : last_event_ == "broken"     ? "failed"
                           : running                     ? "running"
                                                         : "stopped";
  if (steps_planned_ == 0) return fmt::format("{}, {} steps", word, steps_done_);
  return fmt::format("{}, {} of {} steps", word, steps_done_, steps_planned_);
}

report::PageRun RunPage::page(bool running) const {
  report::PageRun page;
  page.name = run_.filename().string();
  page.state = state(running);
  page.curves = curves_;
  page.axes = {{"tokens", tokens_}, {"minutes", minutes_}};
  page.marks = marks_;
  page.samples = read_samples(run_ / "samples");
  page.configuration = configuration_;
  page.environment = environment_;
  return page;
}

// ---- door -------------------------------------------------------------------------------------

namespace {

LogContent log_of(const base::Path& run) {
  if (!is_run(run)) {
    base::fail("{}: expected a run directory of 'gpt2 train' (it has a train.json)", run.string());
  }
  return read_log(run / "log.jsonl");
}

}  // namespace

report::PageRun read_page(const base::Path& run) {
  // "run/" and "." have no name of their own.
  RunPage page(std::filesystem::weakly_canonical(run));
  for (const std::string& line : log_of(run).lines) page.add(Json::parse(line));
  return page.page(base::is_locked(run));
}

report::Table read_table(const base::Path& run) {
  report::Table table;
  std::map<std::string, std::size_t> places;
  const auto place = [&](const std::string& name) {
    const auto [found, added] = places.try_emplace(name, table.columns.size());
    if (added) table.columns.push_back(name);
    return found->second;
  };
  Peak peak;
  for (const std::string& text : log_of(run).lines) {
    const Json line = Json::parse(text);
    if (line.contains("event")) {
      const std::string kind = word_of(line["event"]);
      if (kind == "start" || kind == "resume") peak.take(line);
    }
    if (!line.contains("loss")) continue;
    auto& row = table.rows.emplace_back();
    const auto put = [&](const std::string& name, const std::string& value) {
      const std::size_t column = place(name);
      row.resize(std::max(row.size(), column + 1));
      row[column] = value;
    };
    for (const auto& [name, value] : numbers_of_line(line)) put(name, digits_of(value));
    if (const auto percent = peak.percent(line)) put("percent_of_peak", digits_of(*percent));
  }
  for (auto& row : table.rows) row.resize(table.columns.size());
  return table;
}

}  // namespace train
