#!/usr/bin/env python3
"""Trains the same model with several optimizers, learning rates and seeds, and compares them.

usage: optimizers.py --data DATA --out FOLDER [options] [-- MORE OPTIONS OF gpt2 train]

Each combination is a run of `gpt2 train` in FOLDER/<its name>; what stands behind `--` goes to all
of them (shape, steps, batch). A run that is finished is not run again, one that was stopped goes on.
Prints a table in Markdown and writes FOLDER/results.json, with the curves of validation losses.

The target is the lowest final validation loss of AdamW with cosine decay, the mean over its seeds;
each run tells after how many tokens and seconds of training its validation loss was there, between
two validations by a straight line.

example:
  bench/optimizers.py --data data --out runs --adamw-lr 1e-3 2e-3 --muon-lr 0.01 0.02 --lr 2e-3 \\
    --seeds 1 2 3 -- --preset 37m --steps 2000 --val-every 50
"""

import argparse
import itertools
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    optimizer: str
    schedule: str
    lr: float
    muon_lr: float | None
    ema: float
    seed: int

    def name(self):
        words = [self.optimizer, self.schedule, f"lr{self.lr:g}"]
        if self.muon_lr is not None:
            words.append(f"muon{self.muon_lr:g}")
        if self.ema > 0:
            words.append(f"ema{self.ema:g}")
        return "_".join(words + [f"seed{self.seed}"])

    def options(self):
        words = ["--optimizer", self.optimizer, "--lr-schedule", self.schedule]
        words += ["--lr", repr(self.lr), "--seed", str(self.seed)]
        if self.muon_lr is not None:
            words += ["--muon-lr", repr(self.muon_lr)]
        if self.ema > 0:
            words += ["--ema", repr(self.ema)]
        return words

    def setting(self):
        """What runs that differ in their seeds alone have in common."""
        return (self.optimizer, self.schedule, self.lr, self.muon_lr, self.ema)


def read_log(folder):
    """The steps of a run, and whether it came to its end."""
    steps, finished = [], False
    log = folder / "log.jsonl"
    for line in log.read_text().splitlines() if log.exists() else []:
        entry = json.loads(line)
        if "loss" in entry:
            steps.append(entry)
        finished = finished or entry.get("event") == "finish"
    return steps, finished


def train(run, arguments, rest):
    """Runs it to its end, where it is not there yet. Returns what went wrong, or None."""
    folder = arguments.out / run.name()
    steps, finished = read_log(folder)
    if finished:
        return None
    command = [arguments.gpt2, "train", "--data", arguments.data, "--out", folder, "--quiet"]
    command += ["--resume"] if (folder / "train.json").exists() else []
    command += ["--sample-every", "0", *run.options(), *rest]
    if not any(word.split("=")[0] == "--checkpoint-every" for word in rest):
        command += ["--checkpoint-every", "0"]
    result = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)
    if result.returncode == 0:
        if not arguments.keep_models:
            shutil.rmtree(folder / "model", ignore_errors=True)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"


def curve_of(steps):
    """[step, tokens, seconds of training, validation loss] for each validation."""
    curve, seconds = [], 0.0
    for step in steps:
        seconds += step["ms"] / 1000
        if "val_loss" in step:
            curve.append([step["step"] + 1, step["tokens"], seconds, step["val_loss"]])
    return curve


def reached(curve, target):
    """(tokens, seconds) at which a curve first is at the target, or None."""
    before = None
    for _, tokens, seconds, loss in curve:
        if loss <= target:
            if before is None:
                return tokens, seconds
            share = (before[2] - target) / (before[2] - loss)
            return (before[0] + share * (tokens - before[0]),
                    before[1] + share * (seconds - before[1]))
        before = (tokens, seconds, loss)
    return None


def target_of(results):
    """The mean final loss of the best AdamW with cosine, or None without one."""
    finals = {}
    for run, result in results.items():
        if run.optimizer == "adamw" and run.schedule == "cosine" and run.ema == 0:
            finals.setdefault(run.setting(), []).append(result["final"])
    means = [sum(losses) / len(losses) for losses in finals.values()]
    return min(means) if means else None


def table(results, target):
    lines = ["| optimizer | schedule | lr | muon lr | ema | seed | final val loss | tokens to "
             "target | seconds to target | ms a step |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for run, result in sorted(results.items(), key=lambda entry: entry[1]["final"]):
        there = result["reached"]
        lines.append("| " + " | ".join([
            run.optimizer, run.schedule, f"{run.lr:g}",
            "" if run.muon_lr is None else f"{run.muon_lr:g}", f"{run.ema:g}" if run.ema else "",
            str(run.seed), f"{result['final']:.4f}", f"{there[0]:,.0f}" if there else "–",
            f"{there[1]:.1f}" if there else "–", f"{result['ms']:.1f}"]) + " |")
    if target is not None:
        lines += ["", f"target: {target:.4f}"]
    return "\n".join(lines)


def combinations(arguments):
    adamw = [("adamw", lr, None) for lr in arguments.adamw_lr]
    muon = [("muon", lr, muon_lr)
            for lr, muon_lr in itertools.product(arguments.lr or arguments.adamw_lr[:1],
                                                 arguments.muon_lr)]
    return [Run(optimizer, schedule, lr, muon_lr, ema, seed)
            for (optimizer, lr, muon_lr), schedule, ema, seed in itertools.product(
                adamw + muon, arguments.schedules, arguments.ema, arguments.seeds)]


def parse(words):
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--gpt2", type=Path, default=Path("build/release/gpt2"))
    parser.add_argument("--adamw-lr", type=float, nargs="*", default=[], metavar="LR",
                        help="learning rates of AdamW; none: it is not run")
    parser.add_argument("--muon-lr", type=float, nargs="*", default=[], metavar="LR",
                        help="learning rates of Muon's matrices; none: it is not run")
    parser.add_argument("--lr", type=float, nargs="*", default=[],
                        help="learning rates of AdamW beside Muon (default: the first --adamw-lr)")
    parser.add_argument("--schedules", nargs="+", default=["cosine"])
    parser.add_argument("--ema", type=float, nargs="+", default=[0.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--keep-models", action="store_true", help="keep models and checkpoints")
    arguments = parser.parse_args(words[:split])
    if arguments.muon_lr and not (arguments.lr or arguments.adamw_lr):
        parser.error("--muon-lr needs --lr or --adamw-lr")
    return arguments, words[split + 1:]


def main():
    arguments, rest = parse(sys.argv[1:])
    arguments.gpt2 = arguments.gpt2.resolve()
    if not arguments.gpt2.exists():
        sys.exit(f"{arguments.gpt2} does not exist; build it, or name it with --gpt2")
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = combinations(arguments)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        errors = list(pool.map(lambda run: train(run, arguments, rest), runs))
    results = {}
    for run in runs:
        steps, finished = read_log(arguments.out / run.name())
        curve = curve_of(steps)
        if finished and curve:
            results[run] = {"final": curve[-1][3], "curve": curve,
                            "ms": sum(step["ms"] for step in steps) / len(steps)}
    target = target_of(results)
    for result in results.values():
        result["reached"] = None if target is None else reached(result["curve"], target)
    failed = {run.name(): error for run, error in zip(runs, errors) if error}
    for run in runs:
        if run not in results:
            failed.setdefault(run.name(), "no validation in its log; see --val-every")
    print(table(results, target))
    (arguments.out / "results.json").write_text(json.dumps(
        {"data": str(arguments.data), "options": rest, "target": target, "failed": failed,
         "runs": [{"name": run.name(), **asdict(run), **result}
                  for run, result in results.items()]}, indent=1) + "\n")
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
