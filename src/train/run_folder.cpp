// The run directory: train.json, the rules for beginning there, and what `gpt2 info` reads.

#include "train/run_folder.h"

#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/locked.h"
#include "train/checkpoint.h"
#include "train/log.h"

namespace train {
namespace {

constexpr const char* kRecord = "train.json";
constexpr std::size_t kNewestSteps = 20;  // that a run's speed is taken from

/// base's names for what is not complete yet, or no longer: "model.tmp.123", "model.old.123".
bool is_temporary(const base::Path& path) {
  const std::string name = path.filename().string();
  return name.find(".tmp.") != std::string::npos || name.find(".old.") != std::string::npos;
}

void remove_temporaries_in(const base::Path& folder) {
  std::error_code error;
  std::vector<base::Path> doomed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (is_temporary(entry.path())) doomed.push_back(entry.path());
  }
  for (const base::Path& path : doomed) std::filesystem::remove_all(path, error);
}

}  // namespace

void write_record(const base::Path& run, const RunRecord& record) {
  Json json = options_json(record.options);
  json["facts"] = {{"config", config_to_json(record.facts.config)},
                   {"data_fingerprint", record.facts.data_fingerprint}};
  if (const auto& cpu = record.facts.cpu) {
    json["facts"]["cpu"] = {{"isa", cpu->isa}, {"products", cpu->products}};
  }
  base::write_file(run / kRecord, text_of(json, 2) + "\n");
}

RunRecord read_record(const base::Path& run) {
  const base::Path file = run / kRecord;
  RunRecord record;
  record.options = read_options(file);
  const Json json = Json::parse(base::read_file(file));
  try {
    record.facts.config = config_from_json(json.at("facts").at("config"), file);
    record.facts.data_fingerprint = json.at("facts").at("data_fingerprint").get<std::string>();
    if (json.at("facts").contains("cpu")) {
      const Json& cpu = json.at("facts").at("cpu");
      record.facts.cpu = {.isa = cpu.at("isa").get<std::string>(),
                          .products = cpu.at("products").get<std::string>()};
    }
  } catch (const Json::exception& error) {
    base::fail("{}: not a run's record: {}", file.string(), error.what());
  }
  return record;
}

void require_free_folder(const base::Path& run) {
  if (!std::filesystem::exists(run)) return;
  if (!std::filesystem::is_directory(run)) {
    base::fail("{}: expected a folder for the run, it is a file; choose another --out",
               run.string());
  }
  if (is_run(run)) {
    base::fail("{} already holds a run; continue it with --resume or choose another --out",
               run.string());
  }
  std::error_code error;
  const std::filesystem::directory_iterator entries(run, error);
  if (error) base::fail("cannot read {}: {}", run.string(), error.message());
  for (const auto& entry : entries) {
    if (is_temporary(entry.path())) continue;
    base::fail("{} holds other files ({}); choose a new or empty folder for --out", run.string(),
               entry.path().filename().string());
  }
}

void remove_temporaries(const base::Path& run) {
  remove_temporaries_in(run);
  remove_temporaries_in(run / "checkpoints");
}

bool is_run(const base::Path& folder) { return std::filesystem::exists(folder / kRecord); }

RunInfo read_run(const base::Path& folder) {
  const RunRecord record = read_record(folder);
  const LogContent log = read_log(folder / "log.jsonl");
  RunInfo info;
  info.config = record.facts.config;
  info.cpu = record.facts.cpu;
  info.steps_planned = record.options.steps.value_or(0);
  if (!log.steps.empty()) info.last_step = log.steps.back();
  for (const StepReport& step : log.steps) {
    if (step.validation_loss) info.last_validation_loss = step.validation_loss;
  }
  info.running = base::is_locked(folder);
  info.finished = log.finished;
  const std::size_t newest = std::min<std::size_t>(log.steps.size(), kNewestSteps);
  if (newest > 0) {
    double milliseconds = 0;
    for (const StepReport& step : std::span(log.steps).last(newest)) {
      milliseconds += step.milliseconds;
    }
    const auto steps = static_cast<double>(newest);
    const std::int64_t tokens_a_step = record.options.batch_tokens.value_or(0);
    const auto left = static_cast<double>(info.steps_planned - info.last_step->step - 1);
    info.tokens_per_second =
        static_cast<double>(tokens_a_step) * steps / std::max(milliseconds / 1e3, 1e-9);
    info.seconds_left = milliseconds / 1e3 / steps * left;
  }
  for (const Checkpoint& checkpoint : list_checkpoints(folder)) {
    info.checkpoints.push_back(checkpoint.folder.filename().string());
  }
  return info;
}

}  // namespace train
