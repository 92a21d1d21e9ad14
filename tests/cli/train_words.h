#pragma once
/// The words of a small 'gpt2 train', for the tests of this room.

#include <string>
#include <vector>

#include "base/file.h"

/// A run of `steps` steps of milliseconds on `data`, without samples, validated every `val_every`.
inline std::vector<std::string> train_words(const base::Path& data, const base::Path& out,
                                            int steps, int val_every) {
  return {"--data",         data.string(),
          "--out",          out.string(),
          "--layers",       "1",
          "--heads",        "2",
          "--channels",     "16",
          "--context",      "8",
          "--micro-batch",  "2",
          "--batch-tokens", "32",
          "--lr",           "1e-2",
          "--precision",    "fp32",
          "--val-every",    std::to_string(val_every),
          "--sample-every", "0",
          "--steps",        std::to_string(steps)};
}
