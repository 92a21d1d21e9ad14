#!/usr/bin/env bash
# The program with CUDA compiled and linked, and says in one line why it cannot use a device that is
# not there.
# usage: cuda_check.sh PROGRAM     Exit code 77 (skipped) where PROGRAM is empty: nvcc was not found.
set -euo pipefail
program=${1:-}
if [[ -z $program ]]; then
  echo "cuda_check: skipped, no CUDA toolkit (nvcc, cuBLASLt) was found when the build was configured"
  exit 77
fi
"$program" --version
code=0
errors=$("$program" bench train --preset tiny --device cuda:99 --steps 1 2>&1 >/dev/null) || code=$?
echo "$errors"
[[ $code -eq 1 && $(wc -l <<<"$errors") -eq 1 && $errors == *"cuda:99"* ]]
[[ $errors != *"built without CUDA"* ]]
