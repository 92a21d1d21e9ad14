#!/usr/bin/env python3
"""Plants faults in the CUDA kernels' text, one at a time, and shows that the host's checks see each.

usage: planted_faults.py [--compiler g++] [--only TEXT]

A fault is a line of a kernel changed as a mistake would change it: a barrier left out, a tail
forgotten, fragments exchanged, a copy read too early, a row not written. The cases of this folder
are built with it, under AddressSanitizer and under ThreadSanitizer, and run in three schedules until
one fails. Prints a line a fault: what saw it. Exit code 1 where one went unseen, or where the text
without a fault fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    old: str
    new: str
    case: str
    nth: int = 0  # which of several places


FAULTS = [
    Fault("attention: barrier after a tile's copy left out", "attention_forward.cu",
          "    gpu::sync_threads();  // tile j is there", "    // tile j is there", "shapes"),
    Fault("attention: a tile is read while its copy is under way", "attention_forward.cu",
          "gpu::copy_wait<0>();", "gpu::copy_wait<1>();", "shapes"),
    Fault("attention: two fragments exchanged", "attention.h",
          "gpu::mma_bf16(sums[m][2 * n], left[m], b[0], b[1]);",
          "gpu::mma_bf16(sums[m][2 * n], left[m], b[2], b[3]);", "shapes"),
    Fault("attention: halves of a fragment packed the wrong way round", "attention.h",
          "a[0] = gpu::pack_bf16(low[0], low[1]);", "a[0] = gpu::pack_bf16(low[1], low[0]);",
          "shapes"),
    Fault("attention: the last row is not written", "attention.h",
          "if (first + row >= length) continue;", "if (first + row >= length - 1) continue;",
          "shapes"),
    Fault("attention: rows past the end are written", "attention.h",
          "if (first + row >= length) continue;", "if (first + row > length) continue;", "shapes"),
    Fault("attention: a key too many under the diagonal", "attention_forward.cu",
          "e % 2 > row) scores", "e % 2 > row + 1) scores", "shapes"),
    Fault("attention backward: barrier left out", "attention_backward.cu",
          "    gpu::sync_threads();  // tile j is there", "    // tile j is there", "shapes", 1),
    Fault("attention backward: deltas of the tile before", "attention_backward.cu",
          "stats[j % 2].delta + part", "stats[(j + 1) % 2].delta + part", "shapes"),
    Fault("attention in f32: a tile is written while it is read", "attention_f32.cu",
          "    gpu::sync_threads();  // nobody reads the tile before", "    // nobody", "in f32"),
    Fault("attention in f32: weights are read before the warp has them", "attention_f32.cu",
          "    gpu::sync_warp();\n    add_rows<kHead>(sums, weights, keys);",
          "    add_rows<kHead>(sums, weights, keys);", "in f32"),
    Fault("attention in f32: a key too many under the diagonal", "attention_f32.cu",
          "has_query && key + r <= query, at", "has_query && key + r <= query + 1, at", "in f32"),
    Fault("attention in f32: dropout's factor is not in ds", "attention_f32.cu",
          "    dp = masked(dp, s.mask, row, key);\n", "", "attention: dropout"),
    Fault("cached attention: groups joined before they are there", "decode.cu",
          "  gpu::sync_threads();\n  const int channel", "  const int channel", "cached"),
    Fault("cached attention: a token's own key is not kept", "decode.cu",
          "copy8(row.keys + at, own + channels);", "", "cached"),
    Fault("candidates: lists are merged before both are there", "candidates.cu",
          "    gpu::sync_threads();\n    order_pair(keys[t]", "    order_pair(keys[t]", "candidates"),
    Fault("layernorm backward: barrier between two sums left out", "layernorm.cu",
          "    gpu::sync_threads();\n    for (int c", "    for (int c", "layernorm"),
    Fault("column sums: the last block runs past the rows", "pointwise.cu",
          "gpu::minimum(rows, first + kRows)", "first + kRows", "column sums"),
    Fault("loss: barrier before the warps' maxima left out", "loss.cu",
          "  gpu::sync_threads();\n  Softmax all = partial[0];", "  Softmax all = partial[0];",
          "softmax loss"),
    Fault("loss: the padding takes part", "loss.cu", "if (v + i >= vocab) x[i] = -INFINITY;", "",
          "softmax loss"),
    Fault("adamw: the tail is taken for a whole vector", "optimizer.cu",
          "end - i < 4 ? static_cast<int>(end - i) : 4", "4", "adamw"),
    Fault("adamw: a tensor's first block works for the one before", "optimizer.cu",
          "first_block <= block", "first_block < block", "adamw"),
    Fault("norm: what is left of a tensor is left out", "optimizer.cu",
          "  for (; i < end; ++i) {  // of one", "  for (; i + 4 < end; ++i) {  // of one", "norm"),
    Fault("embedding: a group ends one row too early", "embedding.cu",
          "starts[blockIdx.x + 1] - starts[blockIdx.x];",
          "starts[blockIdx.x + 1] - starts[blockIdx.x] - 1;", "embedding"),
    Fault("transpose: barrier left out", "pointwise.cu",
          "  gpu::sync_threads();\n  for (int c = first;", "  for (int c = first;", "transpose"),
    Fault("sum over a warp stops early", "vector.h", "for (unsigned mask = 16; mask != 0; mask /= 2)",
          "for (unsigned mask = 16; mask != 1; mask /= 2)", "layernorm"),
]

KINDS = {"asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
         "tsan": ["-fsanitize=thread"]}


def sources(folder):
    kernels = sorted(path for path in (folder / "src/kernels/cuda").glob("*.cu")
                     if path.name not in ("device.cu", "products_lt.cu"))
    tests = folder / "tests/kernels/cuda"
    return kernels + sorted(tests.glob("*_check.cu")) + [
        tests / "check_main.cpp", tests / "products_plain.cpp",
        *(folder / "src/kernels/cuda" / name
          for name in ("device_host.cpp", "products.cpp", "queue.cpp", "uploads.cpp"))]


def compile_one(compiler, kind, folder, source, out):
    return subprocess.run(
        [compiler, "-std=c++20", "-O1", "-g1", "-fno-strict-aliasing", *KINDS[kind],
         f"-I{folder}/src", f"-I{folder}/tests/kernels/cuda", "-x", "c++", "-c", source, "-o", out],
        capture_output=True, text=True)


def reads(folder, source):
    """Names of this folder's headers that a source includes, themselves or through others."""
    seen, todo = set(), [source]
    while todo:
        for line in todo.pop().read_text().splitlines():
            name = line.split('"')[1] if line.startswith('#include "') else ""
            path = folder / "src" / name
            if name and name not in seen and path.exists():
                seen.add(name)
                todo.append(path)
    return {Path(name).name for name in seen}


def build(compiler, kind, folder, objects, out, changed=None):
    """Links a check of `folder`; only sources that read `changed` are compiled where it is given."""
    jobs = []
    for source in sources(folder):
        own = out / f"{kind}_{source.name}.o"
        if changed in (None, source.name) or changed in reads(folder, source):
            jobs.append((source, own))
        else:
            jobs.append((None, objects / own.name))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda job: compile_one(compiler, kind, folder, *job),
                               [job for job in jobs if job[0] is not None]):
            if result.returncode != 0:
                sys.exit(result.stderr)
    program = out / f"check_{kind}"
    linked = subprocess.run([compiler, *KINDS[kind], *[own for _, own in jobs], "-o", program],
                            capture_output=True, text=True)
    if linked.returncode != 0:
        sys.exit(linked.stderr)
    return program


def what_sees(program, kind, case):
    """The first schedule in which the check fails, or None."""
    size = "small" if kind == "tsan" else "host"
    for order in ("forward", "reverse", "random"):
        result = subprocess.run([program, "--only", case, "--order", order, "--size", size],
                                capture_output=True, text=True, timeout=600)
        if result.returncode != 0:
            tool = {"asan": "AddressSanitizer", "tsan": "ThreadSanitizer"}[kind]
            return f"{order}: {tool if tool in result.stderr else 'wrong numbers'}"
    return None


def plant(folder, fault):
    """Writes the fault into its file; returns the text that was there."""
    path = folder / "src/kernels/cuda" / fault.file
    text = path.read_text()
    places = text.split(fault.old)
    if len(places) <= fault.nth + 1:
        sys.exit(f"{fault.name}: {fault.file} no longer holds '{fault.old}'")
    before = fault.old.join(places[:fault.nth + 1])
    path.write_text(before + fault.new + fault.old.join(places[fault.nth + 1:]))
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--only", default="", help="faults whose names hold this text")
    arguments = parser.parse_args()
    unseen = 0
    with tempfile.TemporaryDirectory() as work:
        folder, objects, own = Path(work) / "tree", Path(work) / "whole", Path(work) / "fault"
        objects.mkdir()
        for part in ("src/kernels/cuda", "src/base", "tests/kernels/cuda"):
            shutil.copytree(ROOT / part, folder / part)
        for fault in FAULTS:  # that each has its place is seen before anything is compiled
            (folder / "src/kernels/cuda" / fault.file).write_text(plant(folder, fault))
        for kind in KINDS:
            program = build(arguments.compiler, kind, folder, objects, objects)
            seen = what_sees(program, kind, "")
            if seen is not None:
                sys.exit(f"the text without a fault fails ({kind}, {seen})")
        for fault in FAULTS:
            if arguments.only not in fault.name:
                continue
            text = plant(folder, fault)
            seen = None
            for kind in KINDS:
                shutil.rmtree(own, ignore_errors=True)
                own.mkdir()
                program = build(arguments.compiler, kind, folder, objects, own, fault.file)
                seen = what_sees(program, kind, fault.case)
                if seen is not None:
                    break
            (folder / "src/kernels/cuda" / fault.file).write_text(text)
            print(f"{'seen  ' if seen else 'UNSEEN'} {fault.name}{': ' + seen if seen else ''}",
                  flush=True)
            unseen += seen is None
    print(f"planted_faults: {unseen} of {len(FAULTS)} went unseen")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
