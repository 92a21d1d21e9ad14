#!/usr/bin/env bash
# Checks that every C++ file is formatted as .clang-format says; --fix formats them.
# Exit code 77 (skipped) where clang-format is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null; then
  echo "check_format: skipped, clang-format is not installed (scripts/setup.sh installs it)"
  exit 77
fi
mapfile -d '' files < <(find src tests bench -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 | sort -z)
if [[ "${1:-}" == --fix ]]; then
  exec clang-format -i "${files[@]}"
fi
clang-format --dry-run -Werror --ferror-limit=3 "${files[@]}"
echo "check_format: ${#files[@]} files"
