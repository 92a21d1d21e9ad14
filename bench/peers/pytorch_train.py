#!/usr/bin/env python3
"""A compact GPT-2 in PyTorch that trains on random tokens: the peer of `gpt2 bench train`.

It is written as one would write it for speed: bf16 autocast, scaled_dot_product_attention,
fused AdamW, gradient clipping, optionally torch.compile. Needs only PyTorch (newest from PyPI).
Prints one JSON object: tokens_per_second of the median step, of the best one, and what ran.

  python bench/peers/pytorch_train.py --micro-batch 4 --context 1024 --precision bf16 --compile
"""

import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

SHAPES = {"124m": (12, 12, 768), "37m": (10, 6, 384), "demo": (6, 4, 256)}
VOCABULARY = 50304


class Block(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.ln_2 = nn.LayerNorm(channels)
        self.fc = nn.Linear(channels, 4 * channels)
        self.out = nn.Linear(4 * channels, channels)

    def forward(self, x):
        batch, length, channels = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.ln_1(x)).split(channels, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, channels))
        return x + self.out(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, layers, heads, channels, context):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, channels)
        self.wpe = nn.Embedding(context, channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(channels)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.reshape(-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=SHAPES, default="124m")
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 where autocast leaves f32
    model = Gpt2(*SHAPES[arguments.preset], arguments.context).to(arguments.device)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=6e-4, betas=(0.9, 0.95), fused=True,
    )
    loss_of = torch.compile(model) if arguments.compile else model
    ids = torch.randint(0, 50257, (arguments.micro_batch, arguments.context + 1),
                        device=arguments.device)
    bf16 = arguments.precision == "bf16"

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(arguments.device, dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of(ids[:, :-1], ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    step()
    step()  # the first two also compile and warm up
    seconds = []
    for _ in range(arguments.steps):
        begun = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - begun)
    tokens = arguments.micro_batch * arguments.context
    print(json.dumps({
        "tokens_per_second": round(tokens / statistics.median(seconds), 1),
        "best": round(tokens / min(seconds), 1),
        "loss": round(loss, 4),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "torch": torch.__version__,
        "compiled": arguments.compile,
        **{k: v for k, v in vars(arguments).items() if k != "compile"},
    }))


if __name__ == "__main__":
    main()
