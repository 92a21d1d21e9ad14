#pragma once
/// What the commands that compute share: choosing what to compute with, and saying so.

#include "base/tensor.h"
#include "cli/cli.h"
#include "kernels/kernels.h"

namespace cli {

/// What to make a cpu backend of this compute type with: measured once a machine, kept in the
/// user's cache folder, GPT2_CPU_ISA before all. Notes a measurement, which takes about a second.
kernels::CpuChoice choose_cpu(const CommonOptions& common, base::DType compute_type);

/// "amx, own products".
std::string text_of(const kernels::CpuChoice& choice);

}  // namespace cli
