#!/usr/bin/env bash
# Builds the CUDA kernels with nvcc alone (no CMake, no packages) and runs their cases, the memory
# and race checkers, and the benchmarks on this machine's device. Then the program: build/cuda/gpt2
# and build/cuda/cuda_device_tests, which are built where they are missing and CMake and the packages
# are there: the golden models and whole runs, learning, times beside PyTorch.
# usage: scripts/gpu_check.sh [FOLDER]     results in FOLDER (default build/gpu_check):
#   summary.txt  a line a part, then the tables    result.json  the same for programs
#        scripts/gpu_check.sh --pack    for a device's machine without the packages: builds both
#   programs here and puts the libraries they need in build/cuda/lib, but for CUDA's own; take
#   build/cuda/{gpt2,cuda_device_tests,lib} there with the sources
# Each part has its own time limit, so that one that hangs leaves the others theirs. Exit code 1 if
# any part failed. GPT2_CUDA_BATCH: sequences of the benchmarks (32).
set -uo pipefail
cd "$(dirname "$0")/.."

gpt2=build/cuda/gpt2
device_tests=build/cuda/cuda_device_tests
# build_program [AUTO|OFF]: whether with oneDNN. The tests are left out where there is no GoogleTest.
build_program() {
  cmake --preset cuda "-DGPT2_ONEDNN=${1:-AUTO}" && cmake --build --preset cuda --target gpt2 || return 1
  if cmake --build --preset cuda --target help | grep -q '^cuda_device_tests:'; then
    cmake --build --preset cuda --target cuda_device_tests
  fi
}
export -f build_program
if [[ "${1:-}" == --pack ]]; then
  set -e
  build_program OFF  # 40 MB, which the processor's few steps there do without
  if [[ ! -x $device_tests ]]; then
    echo "gpu_check: --pack needs GoogleTest for $device_tests; run scripts/setup.sh" >&2
    exit 1
  fi
  rm -rf build/cuda/lib
  mkdir build/cuda/lib
  # The C library belongs to its machine, CUDA to its driver.
  ldd "$gpt2" "$device_tests" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|libcublas[^/]*)\.so' |
    xargs -I{} cp -L {} build/cuda/lib/
  strip "$gpt2" "$device_tests" build/cuda/lib/*
  du -shc "$gpt2" "$device_tests" build/cuda/lib
  exit
fi

if [[ "${1:-}" == -* ]]; then
  echo "usage: scripts/gpu_check.sh [FOLDER | --pack]" >&2
  exit 2
fi
out=$(mkdir -p "${1:-build/gpu_check}" && cd "${1:-build/gpu_check}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cores=$(nproc)
batch=${GPT2_CUDA_BATCH:-32}
rm -f "$out"/{parts,build,check,bench,sanitizer,golden,program,summary}.txt "$out/result.json"
: >"$out/parts.txt"
failed=0

# part NAME SECONDS LOG COMMAND...
part() {
  local name=$1 limit=$2 log=$out/$3 start=$EPOCHREALTIME code=0
  shift 3
  timeout --kill-after=5 "$limit" "$@" >>"$log" 2>&1 || code=$?
  [[ $code -eq 0 ]] || failed=1
  printf '%-12s %-8s code %3d %7.1f s\n' "$name" "$([[ $code -eq 0 ]] && echo ok || echo FAILED)" \
    "$code" "$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')" |
    tee -a "$out/parts.txt"
  return $code
}

# cuBLASLt: beside nvcc, or in Python's packages.
find_cublas() {
  local root
  for root in "$(dirname "$(dirname "$(command -v nvcc)")")" /usr/local/cuda \
    $(python3 -c 'import nvidia, glob; [print(d) for p in nvidia.__path__ for d in glob.glob(p + "/cu13") + glob.glob(p + "/cublas")]' 2>/dev/null); do
    [[ -f $root/include/cublasLt.h ]] || continue
    cublas_include=$root/include
    for cublas_library in "$root"/lib64/libcublasLt.so "$root"/lib/libcublasLt.so \
      "$root"/lib64/libcublasLt.so.13 "$root"/lib/libcublasLt.so.13; do
      [[ -e $cublas_library ]] && return 0
    done
  done
  echo "gpu_check: cublasLt.h or libcublasLt not found" | tee -a "$out/build.txt"
  return 1
}

build() {
  local flags=(-std=c++20 -O3 -lineinfo --expt-relaxed-constexpr -Isrc -Itests/kernels/cuda "-I$cublas_include"
    -gencode "arch=compute_90a,code=sm_90a" -Xptxas -v)
  local sources=(src/kernels/cuda/*.cu src/kernels/cuda/{products,queue,uploads}.cpp)
  printf '%s\0' "${sources[@]}" tests/kernels/cuda/*.cu tests/kernels/cuda/check_main.cpp \
    bench/cuda/*.cu |
    xargs -0 -P "$cores" -I{} sh -c \
      'o=$1/$(basename "$2").o; f=$2; shift 2; nvcc "$@" -x cu -c "$f" -o "$o"' sh "$work" {} \
      "${flags[@]}" || return 1
  local link=("$cublas_library" -Xlinker "-rpath=$(dirname "$cublas_library")")
  local kernels=()
  for file in "${sources[@]}"; do kernels+=("$work/$(basename "$file").o"); done
  nvcc -o "$work/cuda_check" "${kernels[@]}" "$work"/*_check.cu.o "$work/check_main.cpp.o" \
    "${link[@]}" &&
    nvcc -o "$work/cuda_bench" "${kernels[@]}" "$work/cuda_bench.cu.o" "${link[@]}"
}
export -f build
sanitizer() {
  compute-sanitizer --error-exitcode 3 "$@"
}
export -f sanitizer

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv,noheader \
  >"$out/device.txt" 2>&1
if find_cublas; then
  export cublas_include cublas_library work cores
  part build 120 build.txt bash -c build && built=1 || built=0
else
  built=0 failed=1
fi
if [[ $built -eq 1 ]]; then
  # The wrappers alone first: nothing else means anything where they are wrong.
  part wrappers 20 check.txt "$work/cuda_check" --only wrapper
  part check 60 check.txt "$work/cuda_check" --json "$work/check.json"
  part bench 60 bench.txt "$work/cuda_bench" --batch "$batch" --json "$work/bench.json"
  if command -v compute-sanitizer >/dev/null; then
    part memcheck 60 sanitizer.txt bash -c \
      'for only in wrapper attention embedding layernorm gelu sums loss norm adamw decode transpose candidates; do
         sanitizer --tool memcheck "$work/cuda_check" --size small --only $only || exit 1; done'
    part racecheck 60 sanitizer.txt bash -c \
      'for only in wrapper attention layernorm loss norm candidates; do
         sanitizer --tool racecheck "$work/cuda_check" --size small --only $only || exit 1; done'
  else
    echo "sanitizers   missing" | tee -a "$out/parts.txt"
  fi
fi

# ---- the program ----

export LD_LIBRARY_PATH=$PWD/build/cuda/lib:$(dirname "${cublas_library:-/}"):${LD_LIBRARY_PATH:-}
# In a file: bash does not pass a function with a here-document on.
cat >"$work/compare.py" <<'PYTHON'
import json, sys
device, processor = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
losses = lambda log: [entry["loss"] for entry in log if "loss" in entry]
far = [(a, b) for a, b in zip(losses(device)[:2], losses(processor)) if abs(a - b) > 0.01 * b]
print("first losses:", losses(device)[:2], "on the processor:", losses(processor)[:2])
sys.exit(1 if far or losses(device)[-1] > losses(device)[0] - 1 else 0)
PYTHON
# Text that this machine has: the project's own sources.
learn() {
  rm -rf "$work/data" "$work/run"
  mkdir -p "$work/text"
  for file in src/*/*.cpp src/*/*.h docs/*.md; do cp "$file" "$work/text/$(basename "$file").txt"; done
  "$gpt2" prepare "$work/text" --out "$work/data" --val-fraction 0.1 --quiet &&
    "$gpt2" train --data "$work/data" --out "$work/run" --device cuda --layers 4 --heads 4 \
      --channels 256 --context 256 --micro-batch 16 --batch-tokens 16384 --steps 60 --lr 2e-3 \
      --sample-every 0 --quiet &&
    tail -n 2 "$work/run/log.jsonl" &&
    "$gpt2" train --data "$work/data" --out "$work/cpu" --device cpu --layers 4 --heads 4 \
      --channels 256 --context 256 --micro-batch 16 --batch-tokens 16384 --steps 10 --lr 2e-3 \
      --sample-every 0 --quiet &&
    python3 "$work/compare.py" "$work/run/log.jsonl" "$work/cpu/log.jsonl" &&
    "$gpt2" generate --model "$work/run" --precision bf16 --device cuda --prompt "The " --max-tokens 60 --seed 1
}
export -f learn
time_program() {
  for preset in 124m 37m; do
    "$gpt2" bench train --device cuda --preset $preset --micro-batch "$batch" --context 1024 --steps 5 \
      --json >>"$work/program.json" || return 1
    "$gpt2" bench train --device cuda --preset $preset --micro-batch "$batch" --context 1024 --steps 3
    python3 -c 'import torch' 2>/dev/null || continue
    for compile in "" --compile; do
      python3 bench/peers/pytorch_train.py --device cuda --preset $preset --micro-batch "$batch" \
        --context 1024 --steps 5 $compile | tee -a "$work/program.json"
    done
  done
  "$gpt2" bench generate --device cuda --preset 124m --json >>"$work/program.json" &&
    "$gpt2" bench generate --device cuda --preset 124m
}
export -f time_program
export gpt2 batch out work
if [[ ! -x $gpt2 ]]; then part program 300 program.txt bash -c build_program; fi
if [[ -x $device_tests ]]; then
  part golden 90 golden.txt "$device_tests" --gtest_brief=1
else
  echo "golden       missing" | tee -a "$out/parts.txt"
fi
if [[ -x $gpt2 ]]; then
  part learn 60 program.txt bash -c learn
  part times 150 program.txt bash -c time_program
else
  echo "program      missing" | tee -a "$out/parts.txt"
  failed=1
fi
{
  cat "$out/device.txt" "$out/parts.txt"
  echo
  cat "$out/check.txt" "$out/golden.txt" "$out/bench.txt" "$out/program.txt" 2>/dev/null
} >"$out/summary.txt"
WORK=$work OUT_FOLDER=$out python3 - <<'PYTHON'
import json, os
from pathlib import Path
work, out = Path(os.environ["WORK"]), Path(os.environ["OUT_FOLDER"])
def lines(path, read):
    return read(path.read_text()) if path.is_file() else None
result = {
    "device": (out / "device.txt").read_text().strip(),
    "parts": (out / "parts.txt").read_text().splitlines(),
    "check": lines(work / "check.json", json.loads),
    "bench": lines(work / "bench.json", lambda t: [json.loads(x) for x in t.splitlines()]),
    "program": lines(work / "program.json", lambda t: [json.loads(x) for x in t.splitlines()]),
}
(out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
PYTHON
rm -f "$out/device.txt" "$out/parts.txt"
exit $failed
