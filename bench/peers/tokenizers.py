#!/usr/bin/env python3
"""Times GPT-2's tokenizer in other libraries and in gpt2, in turns, one thread, text in memory.

usage: tokenizers.py FILE... [--gpt2 BINARY] [--rounds N]

Libraries: gigatoken, tiktoken and wordchipper, as far as they are installed. Every measurement is a
process of its own: the first pass is cold, the median of the others warm. MB/s are of the thread's
processor time (of the process's where that is more: a library may start threads). A library's
speed counts only where its ids are those of `gpt2 encode`, which a checksum of all
ids shows.
The vocabulary comes from assets/vocab.bpe; nothing is downloaded.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy

VOCAB = Path(__file__).resolve().parents[2] / "assets" / "vocab.bpe"
PATTERN = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")
LIBRARIES = ["gigatoken", "tiktoken", "wordchipper"]


def ranks() -> dict:
    """Every token's bytes and id."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    found = {bytes([b]): i for i, b in enumerate(printable + others)}
    for line in VOCAB.read_text(encoding="utf-8").splitlines()[1:]:
        found[bytes(byte_of[c] for c in line.replace(" ", ""))] = len(found)
    return found


def encoder_of(library: str):
    """A function from bytes to a sequence of ids."""
    if library == "tiktoken":
        import tiktoken
        encoding = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks(),
                                     special_tokens={"<|endoftext|>": 50256})
        return lambda text: encoding.encode_to_numpy(text, disallowed_special=()), str
    with tempfile.TemporaryDirectory() as folder:
        # Where wordchipper keeps what it would download.
        file = Path(folder) / "io.crates.wordchipper/openai/r50k_base/r50k_base.tiktoken"
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n"
                                for token, rank in ranks().items()))
        if library == "gigatoken":
            import gigatoken
            return gigatoken.Tokenizer.from_tiktoken(str(file), "gpt2").encode, bytes
        os.environ["XDG_CACHE_HOME"] = folder
        import wordchipper
        return wordchipper.Tokenizer.from_pretrained("openai:r50k_base").encode, str


def seconds() -> float:
    return max(time.thread_time(), time.process_time())


def measure(library: str, path: str) -> dict:
    encode, kind = encoder_of(library)
    data = Path(path).read_bytes()
    text = data.decode("utf-8") if kind is str else data
    speeds = []
    spent = 0.0
    ids = None
    while len(speeds) < 2 or (spent < 3 and len(speeds) < 12):
        begin = seconds()
        ids = encode(text)
        took = seconds() - begin
        spent += took
        speeds.append(len(data) / 1e6 / took)
    return {"cold": speeds[0], "warm": statistics.median(speeds[1:]), "ids": checksum(ids)}


def checksum(ids) -> int:
    return zlib.crc32(numpy.asarray(ids).astype("<u2").tobytes())


def run(command: list) -> str:
    environment = dict(os.environ, RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1")
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def measure_gpt2(binary: str, path: str) -> dict:
    result = json.loads(run([binary, "bench", "tokenizer", "--json", "--cpu-time", "--threads", "1",
                             "--passes", "5", path]))
    return {"cold": result["encode_cold_mb_per_second"], "warm": result["encode_warm_mb_per_second"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--gpt2", default="build/release/gpt2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.files[0])))
        return 0
    for path in arguments.files:
        rows: dict = {}
        expected = checksum(numpy.fromstring(run([arguments.gpt2, "encode", path]), dtype=int, sep=" "))
        for _ in range(arguments.rounds):
            for who in ["gpt2", *LIBRARIES]:
                try:
                    row = (measure_gpt2(arguments.gpt2, path) if who == "gpt2" else json.loads(
                        run([sys.executable, __file__, path, "--measure", who]).splitlines()[-1]))
                except subprocess.CalledProcessError as error:
                    print(f"{who}: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                rows.setdefault(who, []).append(row)
        for who, found in rows.items():
            same = all(row.get("ids", expected) == expected for row in found)
            print(f"{Path(path).name:16} {who:12} "
                  f"cold {statistics.median(r['cold'] for r in found):7.1f} "
                  f"warm {statistics.median(r['warm'] for r in found):7.1f} MB/s"
                  f"{'' if same else '  other ids'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
