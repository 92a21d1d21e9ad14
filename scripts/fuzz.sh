#!/usr/bin/env bash
# Builds every fuzz target (clang, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each on
# its corpus, then on what it makes of it. Exit code 0 only if none found anything.
#
# usage: scripts/fuzz.sh [--build|--built] [SECONDS [TARGET...]]     10 seconds a target, all targets
#   --build: builds and runs nothing; --built: runs what was built
# What a target finds lies in build/fuzz/found/; inputs that reached new code in build/fuzz/corpus/.
# Exit code 77 (skipped) where clang or its fuzzer is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-}
if [[ $mode == --* ]]; then shift; fi
case $mode in --build | --built) ;; --*)
  sed -n 's/^# usage: /usage: /p' "$0" >&2
  exit 2
  ;;
esac
seconds=${1:-10}
if [[ $# -gt 0 ]]; then shift; fi
if ! command -v clang++ >/dev/null ||
  [[ ! -f $(clang++ -print-file-name=libclang_rt.fuzzer-x86_64.a) &&
    ! -f $(clang++ -print-runtime-dir)/libclang_rt.fuzzer-x86_64.a ]]; then
  echo "fuzz: skipped, clang or libclang-rt is not installed (scripts/setup.sh installs them)"
  exit 77
fi

build=build/fuzz
if [[ $mode != --built ]]; then
  cmake -S . -B $build -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DGPT2_FUZZ=ON >/dev/null
  ninja -C $build --quiet
fi
if [[ $mode == --build ]]; then exit 0; fi
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for file in tests/fuzz/*_fuzz.cpp; do
    name=$(basename "$file" _fuzz.cpp)
    targets+=("$name")
  done
fi

failed=0
mkdir -p $build/found
for name in "${targets[@]}"; do
  mkdir -p "$build/corpus/$name"
  log=$build/$name.log
  # Claimed sizes take address space without being touched: hence the limits.
  if ! "$build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 \
    -malloc_limit_mb=4096 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$build/found/$name-" \
    "$build/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    failed=1
    echo "fuzz: $name FAILED, see $log"
    grep -m 3 -E 'ERROR|SUMMARY|runtime error' "$log" || true
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -oE 'cov: [0-9]+' "$log" | tail -1)
  echo "fuzz: $name: ${executions:-0} executions in $seconds s, ${coverage:-cov: 0}"
done
exit $failed
