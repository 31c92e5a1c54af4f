"""Makes interventions.json: activation patching and feature ablation with Hugging Face transformers.

    python tests/golden/interventions.py > tests/golden/interventions.json

The tests of stages/patching.rs and stages/attribution.rs compare their tables with it. The source model is
models/qwen2; the target is the same one, its weights but for the embeddings moved by the formula of
stages/model/test_model.rs. The conversations are those of models/qwen2/reference.json.
Needs: pip install torch transformers tokenizers numpy
"""
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = Path(__file__).parent / "models" / "qwen2"
PATCHES = [
    dict(positions="all", over="all", target=dict(at="response")),
    dict(positions="response", over="response", target=dict(at="token:-2", token="a")),
    dict(positions="last", over="response", target=dict(at="before:a", token="e")),
]
ABLATIONS = [
    dict(pieces="words", max_pieces=6),
    dict(pieces="lines", max_pieces=32, target="No, e."),
]


def numbers(name, count):
    """FNV-1a of the name, then SplitMix64, as numbers in [-0.5, 0.5)."""
    h = 0xcbf29ce484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001b3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(2**24) - np.float32(0.5)


def model(name):
    made = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, weight in made.named_parameters():
            if name == "target" and "embed_tokens" not in key:
                moved = np.float32(0.25) * numbers(key, weight.numel())
                weight += torch.from_numpy(moved).reshape(weight.shape)
    return made


def encode(tokenizer, messages):
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    head = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    first, last = len(head), len(head) + len(messages[-1]["content"])
    inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < last and b > first]
    return encoded["input_ids"], inside[0], inside[-1] + 1


def sites(model):
    """The modules whose outputs are the residual stream at layers 0..=L."""
    return [model.model.embed_tokens, *model.model.layers]


def states(model, ids):
    seen, hooks = [], []
    for site in sites(model):
        hooks.append(site.register_forward_hook(lambda m, i, out: seen.append(out[0] if isinstance(out, tuple) else out)))
    model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return [state.squeeze(0).double() for state in seen]


def log_probs(model, ids, patch=None):
    def put_in(module, inputs, out):
        first = out[0] if isinstance(out, tuple) else out
        changed = first.clone()
        changed[0, patch[1]] = patch[2].to(first.dtype)
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    hook = sites(model)[patch[0]].register_forward_hook(put_in) if patch else None
    logits = model(torch.tensor([ids])).logits[0]
    if hook:
        hook.remove()
    return torch.log_softmax(logits.double(), dim=-1)


def place(at, ids, start, tokenizer):
    """Index of the token at response, token:INDEX or before:WORD; None where there is none."""
    kind, _, value = at.partition(":")
    if kind == "response":
        return start
    if kind == "token":
        return int(value) % len(ids)
    found = re.search(rf"(?<!\w){value}(?!\w)", tokenizer.decode(ids))
    if found is None:
        return None
    return next(t for t in range(len(ids)) if len(tokenizer.decode(ids[: t + 1])) > found.start())


def metrics(logp, ids, start, end, over, at, token_id):
    tokens = range(1, len(ids)) if over == "all" else range(start, end)
    loss = -np.mean([logp[t - 1, ids[t]].item() for t in tokens])
    if at is None:
        return [loss, None, None]
    row = logp[at - 1]
    wanted = ids[at] if token_id is None else token_id
    return [loss, row[wanted].item(), -(row.exp() * row).sum().item()]


def patching(source, target, tokenizer, encoded, /, over, positions, **settings):
    aim = settings["target"]
    token_id = tokenizer(aim["token"], add_special_tokens=False)["input_ids"] if "token" in aim else None
    token_id = token_id and token_id[0]
    rows = []
    for ids, start, end in encoded:
        at = place(aim["at"], ids, start, tokenizer)
        last = slice(0, 0) if at is None else slice(at - 1, at)
        span = {"all": slice(0, len(ids)), "response": slice(start, end), "last": last}[positions]
        of = lambda logp: metrics(logp, ids, start, end, over, at, token_id)
        from_source, own = states(source, ids), states(target, ids)
        layers = []
        for layer, (state, before) in enumerate(zip(from_source, own)):
            change = ((state[span] - before[span]).norm() / before[span].norm().clamp(min=1e-30)).item()
            layers.append(dict(values=of(log_probs(target, ids, (layer, span, state[span]))), change=change))
        rows.append(dict(source=of(log_probs(source, ids)), target=of(log_probs(target, ids)), layers=layers))
    return rows


def cut(prompt, kind, most):
    if kind == "words":
        units = [match.span() for match in re.finditer(r"\S+", prompt)]
    else:
        units = [(m.start(), m.start() + len(m.group().rstrip())) for m in re.finditer(r"[^\n]+", prompt) if m.group().strip()]
    count = min(len(units), most)
    bounds = [group * len(units) // count for group in range(count + 1)]
    for first, last in zip(bounds, bounds[1:]):
        start, end = units[first][0], units[last - 1][1]
        if last < len(units):
            kept = prompt[:start] + prompt[units[last][0]:]
        else:
            kept = prompt[: units[first - 1][1]] if first else ""
        yield prompt[start:end], kept


def attribution(model, tokenizer, conversations, pieces, max_pieces, target=None):
    def logprob(messages):
        ids, start, end = encode(tokenizer, messages)
        logp = log_probs(model, ids)
        return sum(logp[t - 1, ids[t]].item() for t in range(start, end))

    found = []
    for messages in conversations:
        messages = [dict(message) for message in messages]
        if target:
            messages[-1]["content"] = target
        asked = max(i for i, message in enumerate(messages) if message["role"] == "user")
        whole = logprob(messages)
        rows = []
        for text, kept in cut(messages[asked]["content"], pieces, max_pieces):
            without = [dict(message) for message in messages]
            without[asked]["content"] = kept
            rows.append(dict(text=text, delta=logprob(without) - whole))
        found.append(dict(logprob=whole, pieces=rows))
    return found


@torch.no_grad()
def main():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    source, target = model("source"), model("target")
    conversations = [example["messages"] for example in json.loads((MODEL / "reference.json").read_text())]
    encoded = [encode(tokenizer, messages) for messages in conversations]
    golden = dict(
        patching=[dict(settings=s, examples=patching(source, target, tokenizer, encoded, **s)) for s in PATCHES],
        attribution=[dict(settings=s, examples=attribution(target, tokenizer, conversations, **s)) for s in ABLATIONS],
    )
    json.dump(golden, sys.stdout, default=float)
    print()


if __name__ == "__main__":
    main()
