#!/usr/bin/env bash
# Sets up, builds release and debug (AddressSanitizer, UndefinedBehaviorSanitizer) and runs the
# tests; ends with ctest's own summary. Exit code 0 only if every test of both builds passed.
#
# usage: scripts/test.sh [--all]
#   without --all: fast and medium tests on release, fast ones on debug (minutes)
#   --all:         slow ones as well, and debug runs medium ones too (long)
set -euo pipefail
cd "$(dirname "$0")/.."

setup_flags=()
release_labels='fast|medium'
debug_labels='fast'
debug_target=fast_tests
if [[ "${1:-}" == --all ]]; then
  setup_flags=(--all)
  release_labels='fast|medium|slow'
  debug_labels='fast|medium'
  debug_target=all
elif [[ $# -gt 0 ]]; then
  echo "usage: scripts/test.sh [--all]" >&2
  exit 2
fi

jobs=$(nproc)
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# build PRESET [TARGET [FLAG...]]: one line a step only on a terminal.
build() {
  local preset=$1 target=${2:-all}
  shift 2
  cmake --preset "$preset" "$@" >"build/$preset.configure.log" 2>&1 || {
    cat "build/$preset.configure.log"
    return 1
  }
  if [[ -t 1 ]]; then
    cmake --build --preset "$preset" --target "$target" -- -j "$jobs"
  else
    cmake --build --preset "$preset" --target "$target" -- -j "$jobs" --quiet
  fi
}

# $1: preset, $2: labels. The sanitizers' runtime makes each test slower, not different.
run_tests() {
  ctest --test-dir "build/$1" -L "^($2)$" --output-on-failure --no-tests=error -j "$jobs" \
    --timeout 900
}

scripts/setup.sh "${setup_flags[@]}"
mkdir -p build
say "building debug"
build debug "$debug_target"
say "building release"
build release all -DGPT2_CUDA_CHECK=ON  # with nvcc: the CUDA backend compiles and links

# Debug first and summed up in one line, so that the last summary, release's, is the only one: it
# covers the most tests. A failure in debug still fails the whole.
say "testing debug: $debug_labels"
debug_failed=0
run_tests debug "$debug_labels" >build/debug.test.log 2>&1 || debug_failed=1
if [[ $debug_failed -ne 0 ]]; then
  cat build/debug.test.log
else
  echo "debug: $(grep 'tests passed' build/debug.test.log)"
fi

say "testing release: $release_labels"
release_failed=0
run_tests release "$release_labels" || release_failed=1
if [[ $debug_failed -ne 0 ]]; then
  echo "test.sh: tests of the debug build failed, see above or build/debug.test.log" >&2
fi
exit $((debug_failed | release_failed))
