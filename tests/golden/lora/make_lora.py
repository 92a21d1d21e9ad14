#!/usr/bin/env python3
"""Golden data for LoRA: a GPT-2 in plain PyTorch (float64) with W + alpha/R A B in every matrix of
its blocks, trained for a few AdamW steps on the adapters alone.

    python3 tests/golden/lora/make_lora.py

Reads ../model_golden/tiny, whose weights are random, and writes beside this file:
  start.safetensors  A (K, R) and B (R, M) of every matrix before training, f32
  end.safetensors    the same after it, and every merged weight, f64
  expected.json      rank, alpha, hyperparameters, ids, losses and gradient norms
B starts random too, not at zero as in training, so that A has a gradient from the first step on.
Needs torch and safetensors.
"""

import json
import math
import pathlib

import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
TINY = HERE.parent / "model_golden" / "tiny"
RANK, ALPHA, STEPS = 3, 7.5, 5
HYPER = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
MATRICES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]


def layer_norm(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def forward(config, w, lora, ids):
    """Logits (B, T, V)."""
    heads, channels = config["n_head"], config["n_embd"]

    def linear(name, x):
        a, b = lora[f"{name}.lora_A"], lora[f"{name}.lora_B"]
        return x @ w[f"{name}.weight"] + ALPHA / RANK * ((x @ a) @ b) + w[f"{name}.bias"]

    batch, length = ids.shape
    x = w["wte.weight"][ids] + w["wpe.weight"][:length]
    mask = torch.tril(torch.ones(length, length, dtype=torch.bool))
    for layer in range(config["n_layer"]):
        h = f"h.{layer}"
        y = layer_norm(x, w[f"{h}.ln_1.weight"], w[f"{h}.ln_1.bias"])
        q, k, v = (
            t.view(batch, length, heads, channels // heads).transpose(1, 2)
            for t in linear(f"{h}.attn.c_attn", y).split(channels, dim=2)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(channels // heads)
        scores = scores.masked_fill(~mask, -math.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, channels)
        x = x + linear(f"{h}.attn.c_proj", y)
        y = layer_norm(x, w[f"{h}.ln_2.weight"], w[f"{h}.ln_2.bias"])
        y = torch.nn.functional.gelu(linear(f"{h}.mlp.c_fc", y), approximate="tanh")
        x = x + linear(f"{h}.mlp.c_proj", y)
    return layer_norm(x, w["ln_f.weight"], w["ln_f.bias"]) @ w["wte.weight"].T


def main():
    torch.manual_seed(11)
    config = json.loads((TINY / "config.json").read_text())
    w = {
        name.removeprefix("transformer."): value.double()
        for name, value in load_file(TINY / "model.safetensors").items()
    }
    names = [f"h.{i}.{m}" for i in range(config["n_layer"]) for m in MATRICES]
    start = {}
    for name in names:
        rows, columns = w[f"{name}.weight"].shape
        start[f"{name}.lora_A"] = (torch.rand(rows, RANK) * 2 - 1) / math.sqrt(rows)
        start[f"{name}.lora_B"] = 0.05 * torch.randn(RANK, columns)
    save_file(start, HERE / "start.safetensors")

    lora = {name: value.double().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.AdamW(
        lora.values(),
        lr=HYPER["lr"],
        betas=(HYPER["beta1"], HYPER["beta2"]),
        eps=HYPER["eps"],
        weight_decay=HYPER["weight_decay"],
    )
    shape = (STEPS, 2, min(16, config["n_positions"]))
    inputs = torch.randint(config["vocab_size"], shape)
    targets = torch.randint(config["vocab_size"], shape)
    losses, norms = [], []
    for step in range(STEPS):
        logits = forward(config, w, lora, inputs[step])
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, config["vocab_size"]), targets[step].reshape(-1)
        )
        optimizer.zero_grad()
        loss.backward()
        norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in lora.values())))
        losses.append(loss.item())
        optimizer.step()

    end = {name: value.detach() for name, value in lora.items()}
    for name in names:
        a, b = end[f"{name}.lora_A"], end[f"{name}.lora_B"]
        end[f"{name}.weight"] = w[f"{name}.weight"] + ALPHA / RANK * (a @ b)
    save_file(end, HERE / "end.safetensors")
    expected = {
        "rank": RANK,
        "alpha": ALPHA,
        "hyper": HYPER,
        "inputs": inputs.tolist(),
        "targets": targets.tolist(),
        "loss": losses,
        "grad_norm": norms,
    }
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
