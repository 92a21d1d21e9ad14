#!/usr/bin/env python3
"""Makes golden.json and gradients.safetensors: what PyTorch computes from ../model_golden/tiny with
dropout, label smoothing and z-loss, in float64.

Run as  python3 make.py  with torch, transformers and safetensors installed (made with torch 2.15,
transformers 5.24).

Two kinds of dropout:
* "masked": PyTorch's own GPT-2 (transformers, eager attention) in training mode, where
  torch.nn.functional.dropout is replaced by multiplication with the masks of this program, written
  once more below. Loss and gradients must agree to rounding.
* "drawn": the same with PyTorch's own dropout, many times: mean and standard deviation of the loss
  and of a gradient, which the program's masks must have as well.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2LMHeadModel

HERE = Path(__file__).parent
MODEL = HERE.parent / "model_golden" / "tiny"
MASK_64 = (1 << 64) - 1
MASK_32 = (1 << 32) - 1
GOLDEN = 0x9E3779B97F4A7C15
MASK_STREAM = 0x64726F706F7574
DRAWS = 10000
DRAWN_GRADIENT = "h.0.mlp.c_fc.bias"


def mix64(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return x ^ (x >> 31)


def random_bits(seed, stream, index):
    key = mix64(mix64((seed + GOLDEN) & MASK_64) ^ ((stream * GOLDEN + 1) & MASK_64))
    return mix64((key + (index + 1) * GOLDEN) & MASK_64)


def random_bits32(key, index):
    x = (key + index) & MASK_32
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK_32
    x = (x + (key >> 32)) & MASK_32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK_32
    return x ^ (x >> 16)


class Masks:
    """Stands in for torch.nn.functional.dropout: the n-th call of a forward pass is place n."""

    def __init__(self, seed, step, first_row):
        self.key = random_bits(seed, MASK_STREAM, step)
        self.first_row = first_row
        self.place = 0

    def __call__(self, values, p=0.5, training=True, inplace=False):
        assert training and not inplace
        key = random_bits(self.key, 1, self.place)
        self.place += 1
        threshold = round(p * 2**32)
        mask = torch.empty_like(values)
        if values.dim() == 3:  # (B, T, C): rows b T + t
            length = values.shape[1]
            rows = [(b * length + t, mask[b, t]) for b in range(len(values)) for t in range(length)]
            first = self.first_row
        else:  # (B, H, T, T): probabilities; rows (b T + t) H + h
            batch, heads, length, _ = values.shape
            rows = [((b * length + t) * heads + h, mask[b, h, t])
                    for b in range(batch) for h in range(heads) for t in range(length)]
            first = self.first_row * heads
        for row, out in rows:
            row_key = random_bits(key, 0, first + row)
            for i in range(len(out)):
                out[i] = 1 / (1 - p) if random_bits32(row_key, i) >= threshold else 0
        return values * mask


def load(dropout):
    model = GPT2LMHeadModel.from_pretrained(
        MODEL, attn_implementation="eager", dtype=torch.float64,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
    return model.train()


def losses(model, inputs, targets, smoothing, z_loss):
    """The mean cross entropy, and the mean of what is trained on."""
    logits = model(inputs).logits.flatten(0, 1)
    flat = targets.flatten()
    plain = torch.nn.CrossEntropyLoss(ignore_index=-1)(logits, flat)
    objective = torch.nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=smoothing)(logits, flat)
    log_z = torch.logsumexp(logits[flat >= 0], dim=-1)
    return plain, objective + z_loss * (log_z**2).mean()


def gradients(model, objective):
    model.zero_grad()
    objective.backward()
    return {name.removeprefix("transformer."): p.grad.clone()
            for name, p in model.named_parameters()}


def float32(value):
    """The options are floats in the program."""
    return torch.tensor(value, dtype=torch.float32).item()


def main():
    ref = json.loads((MODEL / "ref.json").read_text())
    inputs = torch.tensor(ref["inputs"])
    targets = torch.tensor(ref["targets"])
    targets[0, 3:6] = -1
    targets[-1, -1] = -1
    result = {"torch": torch.__version__, "inputs": inputs.tolist(), "targets": targets.tolist(),
              "cases": []}
    tensors = {}
    own_dropout = torch.nn.functional.dropout
    for name, dropout, smoothing, z_loss in [("dropout", 0.25, 0, 0), ("smoothing", 0, 0.1, 0),
                                             ("z_loss", 0, 0, 0.01), ("all", 0.1, 0.2, 0.001)]:
        case = {"name": name, "dropout": dropout, "label_smoothing": smoothing, "z_loss": z_loss,
                "seed": 1337, "step": 12, "first_row": 4096}
        model = load(float32(dropout))
        if dropout:
            masks = Masks(case["seed"], case["step"], case["first_row"])
            torch.nn.functional.dropout = masks
        plain, objective = losses(model, inputs, targets, float32(smoothing), float32(z_loss))
        torch.nn.functional.dropout = own_dropout
        assert not dropout or masks.place == 1 + 3 * model.config.n_layer
        case |= {"loss": plain.item(), "objective": objective.item()}
        grads = gradients(model, objective)
        case["gradient_norms"] = {n: g.norm().item() for n, g in grads.items()}
        kept = ["wpe.weight", "h.1.attn.c_attn.weight", "h.0.attn.c_proj.weight",
                "h.0.mlp.c_fc.bias", "ln_f.weight"]
        if name == "all":
            kept.append("wte.weight")
        tensors |= {f"{name}/{n}": grads[n].float() for n in kept}
        result["cases"].append(case)

    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = load(float32(0.1))
    seen = {"loss": [], "gradient": []}
    for _ in range(DRAWS):
        plain, objective = losses(model, inputs, targets, 0, 0)
        seen["loss"].append(plain.detach())
        seen["gradient"].append(gradients(model, objective)[DRAWN_GRADIENT])
    result["drawn"] = {"dropout": 0.1, "draws": DRAWS, "gradient_of": DRAWN_GRADIENT}
    for what, values in seen.items():
        values = torch.stack(values)
        result["drawn"][what] = {"mean": values.mean(0).tolist(), "deviation": values.std(0).tolist()}

    (HERE / "golden.json").write_text(json.dumps(result) + "\n")
    save_file(tensors, HERE / "gradients.safetensors")


main()
