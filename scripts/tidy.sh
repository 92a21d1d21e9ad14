#!/usr/bin/env bash
# Runs clang-tidy with the repository's .clang-tidy over every source of src/.
# usage: scripts/tidy.sh
# Exit code 77 (skipped) where clang-tidy is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/tidy
if ! command -v clang-tidy >/dev/null; then
  echo "tidy: skipped, clang-tidy is not installed (scripts/setup.sh --all installs it)"
  exit 77
fi
# Every file by itself, where the presets compile several as one. Nothing is built.
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGPT2_TESTS=OFF -DGPT2_BENCH=OFF >/dev/null
# g++'s <omp.h>, last in the search order so that clang keeps its own intrinsics.
omp=$(dirname "$(g++ -print-file-name=include/omp.h)")
# The kernels' tables and the processor's features use GCC's builtins, which clang 14 does not know.
mapfile -t sources < <(python3 - "$build" "$PWD/src/" <<'EOF'
import json, re, sys
commands = json.load(open(sys.argv[1] + "/compile_commands.json"))
print("\n".join(sorted({c["file"] for c in commands if c["file"].startswith(sys.argv[2])
                        and not re.search(r"/kernels/cpu/(table_|isa_x86)", c["file"])})))
EOF
)
printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet -p "$build" \
  --extra-arg="-idirafter$omp" --extra-arg=-Wno-unknown-warning-option
echo "tidy: ${#sources[@]} files"
