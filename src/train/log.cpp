// log.jsonl, one line a step exactly once, and the picture drawn from it.

#include "train/log.h"

#include <fmt/chrono.h>
#include <sys/utsname.h>

#include <cmath>
#include <ctime>

#include "base/error.h"
#include "base/parallel.h"
#include "report/report.h"

namespace train {

std::string log_line(const StepReport& report) {
  Json line = {{"step", report.step},        {"loss", report.loss},
               {"lr", report.learning_rate}, {"grad_norm", report.grad_norm},
               {"tokens", report.tokens},    {"tokens_per_second", report.tokens_per_second},
               {"ms", report.milliseconds}};
  if (report.targets) line["targets"] = *report.targets;
  if (report.skipped) line["skipped"] = true;
  if (report.validation_loss) line["val_loss"] = *report.validation_loss;
  for (const auto& [task, figures] : report.evaluations) {
    Json& own = line["eval"][task] = Json::object();
    for (const auto& [name, value] : figures) {
      if (std::isfinite(value)) own[name] = value;
    }
  }
  return text_of(line);
}

namespace {

/// Now, as "2026-11-27T18:00:00Z".
std::string time_text() { return fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))); }

/// The step a line tells of; throws Json::exception when a key is missing or of a wrong type.
StepReport step_from(const Json& line) {
  StepReport report;
  report.step = line.at("step").get<std::int64_t>();
  report.loss = line.at("loss").get<double>();
  report.learning_rate = line.at("lr").get<double>();
  report.grad_norm = line.at("grad_norm").get<double>();
  report.tokens = line.at("tokens").get<std::int64_t>();
  report.tokens_per_second = line.at("tokens_per_second").get<double>();
  report.milliseconds = line.at("ms").get<double>();
  if (line.contains("targets")) report.targets = line["targets"].get<std::int64_t>();
  if (line.contains("skipped")) report.skipped = line["skipped"].get<bool>();
  if (line.contains("val_loss") && line["val_loss"].is_number()) {  // NaN is written as null
    report.validation_loss = line["val_loss"].get<double>();
  }
  if (line.contains("eval")) report.evaluations = line["eval"].get<Evaluations>();
  return report;
}

}  // namespace

LogContent read_log(const base::Path& file) {
  LogContent content;
  if (!std::filesystem::exists(file)) return content;
  const std::string text = base::read_file(file);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut short
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    content.lines.push_back(line);
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      base::fail("{}:{}: expected a JSON object a line, got something else", file.string(),
                 content.lines.size());
    }
    if (!json.contains("loss")) {
      content.finished |= json.value("event", Json()) == "finish";
      continue;
    }
    try {
      content.steps.push_back(step_from(json));
    } catch (const Json::exception& error) {
      base::fail("{}:{}: not a step's line: {}", file.string(), content.lines.size(), error.what());
    }
  }
  return content;
}

Log::Log(base::Path folder)
    : file_(folder / "log.jsonl"), picture_(folder / "loss.svg"), watch_(folder) {}

std::int64_t Log::take_up(std::int64_t first_step) {
  const LogContent content = read_log(file_);
  std::string kept;
  std::int64_t dropped = 0;
  std::size_t next = 0;  // of content.steps
  steps_ = 0;
  watch_.take_up(first_step);
  for (auto* series : {&tokens_, &losses_, &validation_tokens_, &validation_losses_}) {
    series->clear();
  }
  for (const std::string& line : content.lines) {
    const Json json = Json::parse(line);
    const bool is_step = json.contains("loss");
    const bool drop = is_step && content.steps[next].step >= first_step;
    if (is_step) {
      const StepReport& report = content.steps[next++];
      if (!drop) {
        if (report.step != steps_) {
          base::fail(
              "{}: expected step {}, got step {}: the log was changed; restore it or start a "
              "new run",
              file_.string(), steps_, report.step);
        }
        remember(report);
      }
    }
    dropped += drop ? 1 : 0;
    if (drop) continue;
    kept += line + '\n';
    watch_.known(json);
  }
  if (steps_ != first_step) {
    base::fail("{}: expected the steps up to {}, got {} of them; restore it or start a new run",
               file_.string(), first_step, steps_);
  }
  base::write_file(file_, kept);
  return dropped;
}

void Log::append(const std::string& line) {
  waiting_.push_back(line);
  try {
    flush();
  } catch (const base::Error& error) {
    trouble_ = error.what();
  }
  try {
    watch_.line(Json::parse(line));
  } catch (const base::Error& error) {
    trouble_ = error.what();
  }
}

void Log::flush() {
  while (!waiting_.empty()) {
    std::error_code none;
    const auto size = std::filesystem::file_size(file_, none);
    try {
      base::append_line(file_, waiting_.front());
    } catch (const base::Error&) {
      if (!none) std::filesystem::resize_file(file_, size, none);  // no half line on a full disk
      throw;
    }
    waiting_.pop_front();
  }
}

void Log::event(const std::string& name, const Json& details) {
  Json line = Json::object();
  line["event"] = name;
  line["time"] = time_text();
  line.update(details);
  append(text_of(line));
}

void Log::step(const StepReport& report) {
  append(log_line(report));
  remember(report);
}

void Log::remember(const StepReport& report) {
  ++steps_;
  const auto tokens = static_cast<double>(report.tokens);
  if (report.targets != 0) {  // else there is no loss to speak of
    tokens_.push_back(tokens);
    losses_.push_back(report.loss);
  }
  if (report.validation_loss) {
    validation_tokens_.push_back(tokens);
    validation_losses_.push_back(*report.validation_loss);
  }
}

void Log::draw(bool last) {
  report::Plot plot;
  plot.title = "Training loss";
  plot.x_label = "tokens";
  plot.y_label = "loss (nats per token)";
  plot.series.push_back({"train", tokens_, losses_, false});
  if (!validation_losses_.empty()) {
    plot.series.push_back({"validation", validation_tokens_, validation_losses_, true});
  }
  const std::string picture = report::svg(plot);
  base::write_file(picture_, picture);
  watch_.draw(picture, last);
}

void Log::sync() {
  flush();
  base::sync_file(file_);
}

std::optional<double> Log::first_loss() const {
  return losses_.empty() ? std::nullopt : std::optional(losses_.front());
}
std::optional<double> Log::last_loss() const {
  return losses_.empty() ? std::nullopt : std::optional(losses_.back());
}
std::optional<double> Log::last_validation_loss() const {
  return validation_losses_.empty() ? std::nullopt : std::optional(validation_losses_.back());
}

Json host_facts() {
  constexpr std::string_view kKey = "model name";
  std::string processor = "unknown";
  if (std::filesystem::exists("/proc/cpuinfo")) {
    const std::string text = base::read_file("/proc/cpuinfo");
    const std::size_t key = text.find(kKey);
    const std::size_t colon = text.find(": ", key);
    if (key != std::string::npos && colon != std::string::npos) {
      processor = text.substr(colon + 2, text.find('\n', colon) - colon - 2);
    }
  }
  struct utsname system {};
  ::uname(&system);
  return {{"processor", processor},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"threads", base::thread_count()},
          {"free_memory_bytes", base::free_memory_bytes()}};
}

}  // namespace train
