#pragma once
/// What the values of options may be, for CLI11's check().

#include <CLI/CLI.hpp>
#include <cstdint>

namespace cli {

inline const CLI::Range kFromZero(std::int64_t{0}, INT64_MAX, "NONNEGATIVE");
inline const CLI::Range kFromOne(std::int64_t{1}, INT64_MAX, "POSITIVE");

}  // namespace cli
