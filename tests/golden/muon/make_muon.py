#!/usr/bin/env python3
"""Writes muon.json beside itself: several steps of Muon on small matrices, computed by PyTorch.

Every matrix comes twice: `f64`, Keller Jordan's formula as his post states it
(https://kellerjordan.github.io/posts/muon), in double precision; and `torch`, torch.optim.Muon
(PyTorch 2.9 or newer), whose iteration is in bf16. A parameter of `parts` matrices side by side is
as many parameters for both. Matrices are (inputs, outputs) as in this program, which is the
transpose of torch's; values are rounded to what their decimals say before anything is computed.

usage: python3 make_muon.py        (made with PyTorch 2.15.0)
"""

import json
import pathlib

import torch

STEPS, LR, MOMENTUM, DECAY = 4, 0.05, 0.95, 0.1
CASES = [("square", 8, 8, 1), ("wide", 5, 13, 1), ("tall", 13, 5, 1), ("qkv", 6, 18, 3)]


def newton_schulz(g, steps=5, eps=1e-7):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / g.norm().clamp(min=eps)
    if g.size(0) > g.size(1):
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.size(0) > g.size(1) else x


def author(w, gradients, scale):
    """p, momentum after all steps, in the weights' orientation."""
    w, buffer = w.double().clone(), torch.zeros_like(w, dtype=torch.float64)
    for gradient in gradients:
        g = gradient.double()
        buffer.lerp_(g, 1 - MOMENTUM)
        update = newton_schulz(g.lerp(buffer, MOMENTUM))
        w.mul_(1 - LR * DECAY).add_(update, alpha=-LR * scale)
    return w, buffer


def pytorch(w, gradients, rule):
    parameter = torch.nn.Parameter(w.T.float().clone().contiguous())  # (outputs, inputs)
    optimizer = torch.optim.Muon([parameter], lr=LR, momentum=MOMENTUM, weight_decay=DECAY,
                                 nesterov=True, adjust_lr_fn=rule)
    for gradient in gradients:
        parameter.grad = gradient.T.float().clone().contiguous()
        optimizer.step()
    return parameter.detach().T


def rounded(values, digits):
    return [round(value, digits) for value in values.flatten().tolist()]


def main():
    generator = torch.Generator().manual_seed(5)
    cases = []
    for name, inputs, outputs, parts in CASES:
        draw = lambda: (torch.randn(inputs, outputs, generator=generator) * 100).round() / 100
        weight, gradients = draw(), [draw() for _ in range(STEPS)]
        one = outputs // parts
        for rule in ("original", "match_rms_adamw"):
            scale = (max(1, one / inputs) ** 0.5 if rule == "original"
                     else 0.2 * max(one, inputs) ** 0.5)
            cut = lambda matrix: matrix.split(one, dim=1)
            exact = [author(w, [cut(g)[i] for g in gradients], scale)
                     for i, w in enumerate(cut(weight))]
            by_torch = [pytorch(w, [cut(g)[i] for g in gradients], rule)
                        for i, w in enumerate(cut(weight))]
            cases.append({
                "name": f"{name}, {rule}", "rows": inputs, "columns": outputs, "parts": parts,
                "scale": scale, "weight": rounded(weight, 2),
                "gradients": [rounded(g, 2) for g in gradients],
                "f64": rounded(torch.cat([w for w, _ in exact], 1), 9),
                "momentum_f64": rounded(torch.cat([m for _, m in exact], 1), 9),
                "torch": rounded(torch.cat(by_torch, 1), 5)})
    result = {"torch_version": torch.__version__, "lr": LR, "momentum": MOMENTUM,
              "weight_decay": DECAY, "cases": cases}
    text = json.dumps(result).replace('{"name"', '\n{"name"').replace('], "', '],\n "')
    (pathlib.Path(__file__).parent / "muon.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
