#pragma once
/// Integers of JSON, read as what they are.

#include <cstdint>
#include <limits>
#include <utility>

#include "base/error.h"

namespace base {

/// The integer that `value`, of a JSON library like nlohmann's, holds; the library's own conversion
/// takes 1.5, true and 2^32 + 1 for 1. Throws Error for another type and for a number outside T.
template <class T, class Json>
T json_integer(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.template get<std::uint64_t>();
    if (std::in_range<T>(number)) return static_cast<T>(number);
  } else if (value.is_number_integer()) {
    const auto number = value.template get<std::int64_t>();
    if (std::in_range<T>(number)) return static_cast<T>(number);
  }
  fail("expected an integer from {} to {}, got {}", std::numeric_limits<T>::min(),
       std::numeric_limits<T>::max(), value.dump());
}

}  // namespace base
