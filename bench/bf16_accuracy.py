#!/usr/bin/env python3
"""Does training in bf16 follow fp32? Trains the demo's model twice and compares the losses.

Both runs see the same batches in the same order from the same initial parameters. Printed are the
mean training losses of every window of steps, their difference, and the validation losses; the
figure to quote is the largest difference of a window's mean.

  scripts/demo.sh                      # once, for the text
  python3 bench/bf16_accuracy.py --data build/demo/data --out build/accuracy --steps 1000
"""

import argparse
import json
import pathlib
import subprocess
import sys

GPT2 = pathlib.Path(__file__).resolve().parent.parent / "build/release/gpt2"
# scripts/demo.sh's model and recipe.
RECIPE = ("--layers 4 --heads 4 --channels 256 --context 128 --micro-batch 16 --batch-tokens 2048 "
          "--lr 2e-3 --warmup-steps 40 --sample-every 0 --checkpoint-every 0").split()


def train(precision, arguments):
    run = arguments.out / precision
    if not (run / "log.jsonl").exists():
        command = [GPT2, "train", "--data", arguments.data, "--out", run, "--steps",
                   str(arguments.steps), "--precision", precision, "--val-every",
                   str(arguments.window), "--quiet", *RECIPE]
        subprocess.run(command, check=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    if len(steps) != arguments.steps:
        sys.exit(f"{run}: expected {arguments.steps} steps, got {len(steps)}; remove the folder")
    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("build/demo/data"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/accuracy"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--window", type=int, default=100, help="steps to average over")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    fp32, bf16 = (train(precision, arguments) for precision in ("fp32", "bf16"))

    print("steps        fp32     bf16     difference   validation fp32, bf16")
    largest = 0.0
    for begin in range(0, arguments.steps, arguments.window):
        part = slice(begin, begin + arguments.window)
        means = [sum(s["loss"] for s in run[part]) / len(run[part]) for run in (fp32, bf16)]
        largest = max(largest, abs(means[1] - means[0]))
        validation = [run[part][-1].get("val_loss") for run in (fp32, bf16)]
        shown = "" if None in validation else "{:.4f} {:.4f}".format(*validation)
        print(f"{begin:5}-{begin + len(fp32[part]) - 1:<5} {means[0]:.4f}   {means[1]:.4f}   "
              f"{means[1] - means[0]:+.4f}      {shown}")
    print(f"largest difference of a window's mean: {largest:.4f}")


if __name__ == "__main__":
    main()
