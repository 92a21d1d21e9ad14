#!/usr/bin/env python3
"""Reads what gpt2 train writes for TensorBoard with the tensorboard package: scalars, samples,
histograms; a run that was killed and resumed has one curve without repeated steps.

usage: tensorboard_test.py GPT2
Exit code 77 (skipped) where the package is missing. GPT2_TEST_PYTHON names another interpreter that
has it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

other = os.environ.get("GPT2_TEST_PYTHON")
if other and "GPT2_TEST_AGAIN" not in os.environ:
    os.execve(other, [other, *sys.argv], {**os.environ, "GPT2_TEST_AGAIN": "1"})
try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("tensorboard_test: skipped, Python's package tensorboard is not installed")
    sys.exit(77)

STEPS = 600


def arguments(gpt2: str, folder: Path) -> list:
    return [gpt2, "train", "--data", folder / "data", "--out", folder / "run", "--layers", "1", "--heads", "2",
            "--channels", "16", "--context", "8", "--micro-batch", "2", "--batch-tokens", "32", "--steps", STEPS,
            "--lr", "3e-3", "--val-every", "100", "--sample-every", "300", "--checkpoint-every", "50",
            "--histogram-every", "200", "--precision", "fp32", "--quiet"]


def main() -> int:
    gpt2 = os.path.abspath(sys.argv[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="gpt2-tb-") as name:
        folder = Path(name)
        run = folder / "run"
        (folder / "text.txt").write_text("".join(f"Day {i}: to island {i * 7 % 97}.\n" for i in range(2500)))
        for words in (["train-tokenizer", folder / "text.txt", "--vocab-size", 300, "--out", folder / "tokenizer"],
                      ["prepare", folder / "text.txt", "--out", folder / "data", "--tokenizer", folder / "tokenizer",
                       "--val-fraction", "0.2"]):
            subprocess.run([gpt2, *map(str, words), "--quiet"], check=True)
        words = list(map(str, arguments(gpt2, folder)))
        process = subprocess.Popen(words, env=environment)
        log = run / "log.jsonl"
        for _ in range(6000):
            if log.exists() and log.read_text().count("\n") > 270:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        assert killed, "the run ended before it was killed"
        time.sleep(1.1)
        subprocess.run([*words, "--resume"], check=True, env=environment)
        files = sorted((run / "tb").iterdir())
        assert len(files) == 2, files

        read = EventAccumulator(str(run / "tb"), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
        read.Reload()
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        assert len(steps) == STEPS
        tags = read.Tags()
        for tag, key in (("loss", "loss"), ("lr", "lr"), ("grad_norm", "grad_norm"), ("val_loss", "val_loss"),
                         ("tokens", "tokens")):
            assert tag in tags["scalars"], (tag, tags["scalars"])
            expected = [(line["step"], line[key]) for line in steps if line.get(key) is not None]
            got = [(e.step, e.value) for e in read.Scalars(tag)]
            assert [s for s, _ in got] == [s for s, _ in expected], (tag, got[:5], len(got), len(expected))
            for (_, a), (_, b) in zip(got, expected):
                assert abs(a - b) <= 1e-6 * abs(b), (tag, a, b)
        assert {"tokens_per_second", "percent_of_peak"} <= set(tags["scalars"]), tags["scalars"]

        texts = [(e.step, e.tensor_proto.string_val[0].decode()) for e in read.Tensors("sample")]
        assert [s for s, _ in texts] == [299, 599], texts
        written = (run / "samples" / "step_00000300.txt").read_bytes().decode(errors="replace")
        assert [l[4:] for l in texts[0][1].split("\n")] == written.split("\n"), (texts[0], written)

        for tag in ("weights/wte.weight", "gradients/wte.weight", "weights/h.0.mlp.c_fc.bias"):
            events = read.Histograms(tag)
            assert [e.step for e in events] == [199, 399, 599], (tag, [e.step for e in events])
            for event in events:
                h = event.histogram_value
                assert sum(h.bucket) == h.num and len(h.bucket) == len(h.bucket_limit) == 32
                assert h.bucket_limit[-1] == h.max and h.min < h.max
        assert read.Histograms("weights/wte.weight")[0].histogram_value.num == 300 * 16
    print("tensorboard_test: one curve of a killed and resumed run, scalars, samples and histograms read back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
