#!/usr/bin/env python3
"""Makes the files beside it: a small GPT-2 with random weights, small task files, and in
expected.json what EleutherAI's lm-evaluation-harness (lm-eval) says of that model on those files.

usage: make.py GPT2        GPT2: the program, which learns the vocabulary
needs: lm-eval 0.4.13, torch, transformers, accelerate, datasets; no network

Of lm-eval are: the tasks' configurations (hellaswag.yaml, lambada_openai.yaml, wikitext.yaml) with
their prompts, their preprocessing and their metrics, the model (HFLM) with its encoding of pairs,
its truncation and its log-likelihoods, the windows of rolling log-likelihoods, and simple_evaluate,
which runs them. Ours are: the texts, the weights, reading the tasks' data from local files, and for
wikitext that the text is taken as it is (its detokenizer is WikiText's own), and the call of
lm-eval's windows with a stride, which its configuration does not offer.
"""

import json
import math
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval
import lm_eval.tasks
import torch
import transformers
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.hellaswag.utils import process_docs
from lm_eval.tasks.wikitext.preprocess_wikitext import process_results
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

HERE = Path(__file__).parent
MODEL = HERE / "model"
TASKS = Path(lm_eval.tasks.__file__).parent
CONTEXT = 96
VOCABULARY = 512
STRIDE = 40
SHORT = 40  # a context that cuts most examples

WHO = ["a man", "the woman", "an old sailor", "The Cook", "a girl in a red coat", "Zoë", "the gardener"]
DOES = ["opens the window", "is peeling potatoes", "climbs a ladder", "pours hot tea", "writes a letter",
        "throws the ball high", "walks along the river", "mends a torn sail", "paints the fence white"]
THEN = ["and smiles at the camera", "before the rain begins", "while a dog watches",
        "until the light is gone", "with both hands", "as if nothing had happened", "once more",
        "in the café near the bridge", "and counts to 37", "because it's late"]
LABELS = ["Cooking", "Sailing [in winter]", "Washing dishes", "Repairing a roof", "Élan vital"]


def sentence(rng):
    return f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(THEN)}"


def hellaswag_examples(rng, count):
    examples = []
    for i in range(count):
        first = sentence(rng) + "."
        second = rng.choice(["then ", "", "She ", "THE Crowd ", "élan and  ", "\u00c9TUDE in G ", "they [all] "])
        if i % 5 == 1:
            first = f"[header] How to {rng.choice(DOES)} [title] {first.capitalize()} [step] {sentence(rng)}. "
        endings = [sentence(rng) + rng.choice([".", "!", " [substeps] again.", "  twice", " [not\nclosed]"])
                   for _ in range(4)]
        examples.append({
            "ind": i, "activity_label": rng.choice(LABELS), "ctx_a": first, "ctx_b": second.strip(" "),
            "ctx": f"{first} {second}".strip(), "endings": endings, "split": "val",
            "label": 0,
            "source_id": f"own~{i}",
        })
    return examples


def lambada_texts(rng, count):
    texts = [" ".join(sentence(rng) for _ in range(rng.randrange(1, 6))) for _ in range(count)]
    texts[3] += "\n"
    texts[4] += " "
    texts[5] = "alone"
    texts[6] = texts[6].replace(" ", "\n", 2)
    return texts


def write_jsonl(name, objects):
    (HERE / name).write_text("".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects), "utf-8")


def make_model():
    torch.manual_seed(7)
    size = len(json.loads((MODEL / "vocab.json").read_text("utf-8")))  # the texts may have less to learn
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=size - 1, eos_token_id=size - 1)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.16 if name.endswith("wte.weight") else 0.2  # decided, but no certainty
            one = 1 if ".ln_" in name and name.endswith("weight") else 0
            parameter.copy_(one + spread * torch.randn_like(parameter))
    model.half().save_pretrained(MODEL)
    for extra in MODEL.glob("generation_config.json"):
        extra.unlink()


def own_word(lm, context):
    """What the model says after the context, where that is one word again when it is encoded."""
    ids, word = lm.tok_encode(context), []
    for _ in range(3):
        with torch.no_grad():
            word.append(int(lm.model(torch.tensor([ids + word])).logits[0, -1].argmax()))
        said = lm.tokenizer.decode(word)
        if re.fullmatch(r" \S+", said) and lm.tok_encode(context + said) == ids + word:
            return said
    return None


def make_lambada_hits(texts):
    """Lets the model have some of the words right: they become what it says itself, if need be after
    a shorter context."""
    lm = make_lm(CONTEXT)
    hits = 0
    for i in range(7, len(texts), 3):
        words = texts[i].split(" ")[:-1]
        for begin in range(len(words) - 1):
            context = " ".join(words[begin:])
            if said := own_word(lm, context):
                texts[i] = context + said
                hits += 1
                break
    print(f"{hits} of {len(texts)} words are the model's own", file=sys.stderr)


def relabel(examples, data):
    """Makes right what the model chooses, of every second example by the normalised figure: a score
    that changes the order of any two endings is then seen."""
    samples = lm_eval.simple_evaluate(
        model=make_lm(CONTEXT), tasks=[hellaswag_task(data)], bootstrap_iters=0)["samples"]["hellaswag"]
    for sample in samples:
        scores = [float(score) for score, _ in sample["filtered_resps"]]
        i = sample["doc_id"]
        if i % 2:
            scores = [score / len(text) for score, text in zip(scores, sample["doc"]["choices"])]
        label = scores.index(max(scores))
        examples[i]["label"] = label if i % 3 else str(label)


def make_lm(max_length):
    return HFLM(pretrained=str(MODEL), device="cpu", dtype="float32", batch_size=4, max_length=max_length)


class Loader(yaml.SafeLoader):
    pass


Loader.add_multi_constructor("!function", lambda loader, suffix, node: suffix)


def task(folder, file, split, data, changes):
    config = yaml.load((TASKS / folder / file).read_text(), Loader)
    config.update({"dataset_path": "json", "dataset_name": None,
                   "dataset_kwargs": {"data_files": {split: str(data)}}})
    for key in ["training_split", "validation_split", "test_split"]:
        config.pop(key, None)
    config[f"{split}_split"] = split
    config.update(changes)
    return ConfigurableTask(config=config)


def hellaswag_task(data):
    return task("hellaswag", "hellaswag.yaml", "validation", data, {"process_docs": process_docs})


def evaluate(lm, task_):
    name = task_.config.task
    results = lm_eval.simple_evaluate(
        model=lm, tasks=[task_], log_samples=False, bootstrap_iters=1000)["results"][name]
    return {key.removesuffix(",none"): value for key, value in results.items()
            if isinstance(value, float) and key.endswith(",none")}


def strided(lm, text, stride):
    """Sum of log-likelihoods with lm-eval's own windows."""
    windows = [(None, *make_disjoint_window(window)) for window in get_rolling_token_windows(
        lm.tok_encode(text), lm.prefix_token_id, lm.max_length, lm.max_length - stride + 1)]
    return sum(result for result, _ in lm._loglikelihood_tokens(windows, disable_tqdm=True))


def main():
    gpt2 = sys.argv[1]
    transformers.logging.set_verbosity_error()
    rng = random.Random(11)
    hellaswag = hellaswag_examples(rng, 60)
    texts = lambada_texts(rng, 40)
    documents = [". ".join(sentence(rng) for _ in range(n)) + "\n" for n in (30, 1, 4, 9, 2)]
    text = "\n\n".join(documents[0:1] + documents[3:4])
    (HERE / "text.txt").write_text(text, "utf-8")
    write_jsonl("documents.jsonl", [{"text": document} for document in documents])
    MODEL.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.txt"
        source.write_text("\n".join(texts + documents + [o["ctx"] for o in hellaswag]), "utf-8")
        subprocess.run([gpt2, "train-tokenizer", source, "--vocab-size", str(VOCABULARY),
                        "--out", f"{folder}/out"], check=True)
        for name in ["vocab.json", "merges.txt"]:
            (MODEL / name).write_bytes((Path(folder) / "out" / name).read_bytes())
    make_model()
    make_lambada_hits(texts)
    write_jsonl("lambada.jsonl", [{"text": t} for t in texts])

    expected = {"made_with": f"lm-eval {lm_eval.__version__}, transformers {transformers.__version__}, "
                             f"torch {torch.__version__}"}
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "hellaswag.jsonl"

        def write_local():  # datasets wants one type a column; the label's two spellings mean the same
            local.write_text("".join(json.dumps(o | {"label": str(o["label"])}) + "\n" for o in hellaswag))

        write_local()
        relabel(hellaswag, local)
        write_jsonl("hellaswag.jsonl", hellaswag)
        local = Path(folder) / "labelled.jsonl"  # another name: datasets remembers files
        write_local()
        pages = Path(folder) / "pages.jsonl"
        pages.write_text("".join(json.dumps({"page": d}) + "\n" for d in documents))
        page = Path(folder) / "page.jsonl"
        page.write_text(json.dumps({"page": text}) + "\n")
        wikitext = {"doc_to_target": "{{page}}", "process_results": process_results}
        for name, length in [("whole", CONTEXT), ("short", SHORT)]:
            lm = make_lm(length)
            expected[name] = {
                "context": length,
                "hellaswag": evaluate(lm, hellaswag_task(local)),
                "lambada": evaluate(lm, task("lambada", "lambada_openai.yaml", "test",
                                             HERE / "lambada.jsonl", {})),
                "documents": evaluate(lm, task("wikitext", "wikitext.yaml", "test", pages, wikitext)),
                "text": evaluate(lm, task("wikitext", "wikitext.yaml", "test", page, wikitext)),
            }
        lm = make_lm(CONTEXT)
        tokens = len(lm.tok_encode(text))
        rolling = strided(lm, text, CONTEXT)
        whole = expected["whole"]["text"]
        assert abs(-rolling / len(text.encode()) / math.log(2) - whole["bits_per_byte"]) < 1e-6
        loss = -strided(lm, text, STRIDE)
        expected["strided"] = {
            "stride": STRIDE, "tokens": tokens, "loss": loss / tokens, "perplexity": math.exp(loss / tokens),
            "bits_per_byte": loss / len(text.encode()) / math.log(2)}
        expected["whole"]["text"]["loss"] = -rolling / tokens
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
