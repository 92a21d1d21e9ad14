// Runs the kernels' cases and prints a line each. Exit code 1 where one fails.
// usage: cuda_check [--only TEXT] [--size small|host|full] [--order forward|reverse|random]
//                   [--seed N] [--json FILE] [--repeat N]

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>

#include "check.h"

namespace check {
namespace {

struct Entry {
  std::string name;
  std::function<void()> run;
};
std::vector<Entry>& entries() {
  static std::vector<Entry> all;
  return all;
}

struct Seen {
  std::string what;
  double error, limit;
};

struct State {
  Size size = kernels::gpu::kOnDevice ? Size::kFull : Size::kHost;
  std::vector<Seen> seen;
  std::mt19937_64 random;
};
State& state() {
  static State s;
  return s;
}

bool passes(const Seen& s) { return s.error <= s.limit; }  // false for NaN

/// The comparison that is nearest to its limit, or over it.
Seen worst_of(const std::vector<Seen>& seen) {
  Seen worst{"nothing was compared", 1, 0};
  double most = -1;
  for (const Seen& s : seen) {
    const double share = s.limit > 0 ? s.error / s.limit : (s.error > 0 ? 1e30 : 0);
    if (std::isnan(share)) return s;
    if (share > most) most = share, worst = s;
  }
  return worst;
}

std::string json_line(const std::string& name, bool passed, const Seen& worst) {
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, "\"error\": %s%.3e%s, \"limit\": %.3e",
                std::isfinite(worst.error) ? "" : "\"", worst.error,
                std::isfinite(worst.error) ? "" : "\"", worst.limit);
  return "{\"case\": \"" + name + "\", \"passed\": " + (passed ? "true" : "false") +
         ", \"worst\": \"" + worst.what + "\", " + numbers + "}";
}

/// Runs one case; returns whether it passed.
bool run_case(const Entry& entry, std::vector<std::string>& json) {
  state().seen.clear();
  state().random.seed(std::hash<std::string>()(entry.name));
  std::string thrown;
  try {
    entry.run();
    kernels::gpu::synchronize({});
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  bool passed = thrown.empty() && !state().seen.empty();
  for (const Seen& s : state().seen) {
    if (passes(s)) continue;
    passed = false;
    std::printf("     %s: %s: relative error %.3e, limit %.3e\n", entry.name.c_str(),
                s.what.c_str(), s.error, s.limit);
  }
  const Seen worst = worst_of(state().seen);
  std::printf("%s %-28s %3zu comparisons, nearest to its limit: %s %.2e of %.2e %s\n",
              passed ? "PASS" : "FAIL", entry.name.c_str(), state().seen.size(), worst.what.c_str(),
              worst.error, worst.limit, thrown.c_str());
  std::fflush(stdout);
  json.push_back(json_line(entry.name, passed, worst));
  return passed;
}

struct Options {
  std::string only, json, order;
  std::uint64_t seed = 1;
};

int usage(const char* argument) {
  std::fprintf(stderr, "cuda_check: unknown argument '%s'\n", argument);
  return 2;
}

void set_order([[maybe_unused]] const Options& options) {
#ifndef __CUDACC__
  using kernels::gpu::host::Order;
  kernels::gpu::host::order = options.order == "reverse"  ? Order::kReverse
                              : options.order == "random" ? Order::kRandom
                                                          : Order::kForward;
  kernels::gpu::host::seed = options.seed;
#endif
}

}  // namespace

Size size() { return state().size; }
void see(const std::string& what, double error, double limit) {
  state().seen.push_back({what, error, limit});
}
Case::Case(const char* name, std::function<void()> run) {
  entries().push_back({name, std::move(run)});
}

double gauss() {
  std::normal_distribution<double> normal;
  return normal(state().random);
}
int below(int below) { return static_cast<int>(state().random() % static_cast<unsigned>(below)); }

float to_f32(Bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
Bf16 round_bf16(double x) {
  const auto value = static_cast<float>(x);
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return {static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
std::vector<double> as_doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}
std::vector<double> as_doubles(const std::vector<Bf16>& values) {
  std::vector<double> doubles;
  doubles.reserve(values.size());
  for (const Bf16 x : values) doubles.push_back(static_cast<double>(to_f32(x)));
  return doubles;
}

double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(norm > 0 ? difference / norm : difference);
}

int run_all(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (i + 1 >= argc) return usage(argv[i]);
    const std::string value = argv[++i];
    if (key == "--only") {
      options.only = value;
    } else if (key == "--json") {
      options.json = value;
    } else if (key == "--order") {
      options.order = value;
    } else if (key == "--seed") {
      options.seed = std::strtoull(value.c_str(), nullptr, 10);
    } else if (key == "--size") {
      state().size = value == "small" ? Size::kSmall : value == "host" ? Size::kHost : Size::kFull;
    } else {
      return usage(key.c_str());
    }
  }
  set_order(options);
  std::vector<std::string> json;
  std::size_t failures = 0;
  for (const Entry& entry : entries()) {
    if (entry.name.find(options.only) == std::string::npos) continue;
    failures += run_case(entry, json) ? 0 : 1;
  }
  std::printf("cuda_check: %zu cases, %zu failed\n", json.size(), failures);
  if (!options.json.empty()) {
    if (std::FILE* file = std::fopen(options.json.c_str(), "w")) {
      std::fputs("[", file);
      for (std::size_t i = 0; i < json.size(); ++i) {
        std::fprintf(file, "%s%s", i == 0 ? "" : ",\n ", json[i].c_str());
      }
      std::fputs("]\n", file);
      std::fclose(file);
    }
  }
  return failures == 0 && !json.empty() ? 0 : 1;
}

}  // namespace check

int main(int argc, char** argv) { return check::run_all(argc, argv); }
