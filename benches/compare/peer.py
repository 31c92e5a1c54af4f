"""What a user would run instead of Strata, with transformers on the CPU; one JSON line with what it did.

    python peer.py {hidden_states,gradients} MODEL_DIR FILE.jsonl {f32,bf16} [--limit N] [--max-tokens 512] [--batch 8]

hidden_states: the last token's state and the mean over all tokens, at every layer, in batches of examples of like length.
gradients: for each example the gradient of its mean loss for the last block's o_proj, and the cosines of all pairs; only
that weight asks for a gradient, so that the reverse pass ends there.
"""
import argparse
import json
import resource
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def hidden_states(model, tokenizer, texts, given):
    kept, tokens = [], 0
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with torch.no_grad():
        for start in range(0, len(order), given.batch):
            batch = tokenizer([texts[i] for i in order[start:start + given.batch]], return_tensors="pt", padding=True,
                              truncation=True, max_length=given.max_tokens, add_special_tokens=False)
            mask = batch["attention_mask"]
            last, rows = mask.sum(1) - 1, torch.arange(len(mask))
            for state in model.model(**batch, output_hidden_states=True).hidden_states:
                mean = (state * mask[..., None]).sum(1).float() / mask.sum(1, keepdim=True)
                kept.append((state[rows, last].float(), mean))
            tokens += int(mask.sum())
    return tokens


def gradients(model, tokenizer, texts, given):
    weight = model.model.layers[-1].self_attn.o_proj.weight
    for parameter in model.parameters():
        parameter.requires_grad_(parameter is weight)
    found, tokens = [], 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=given.max_tokens,
                        add_special_tokens=False)["input_ids"]
        weight.grad = None
        model(input_ids=ids, labels=ids).loss.backward()
        found.append(weight.grad.flatten().float().clone())
        tokens += ids.numel()
    stacked = torch.nn.functional.normalize(torch.stack(found), dim=1)
    stacked @ stacked.T
    return tokens


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=["hidden_states", "gradients"])
    arguments.add_argument("model"), arguments.add_argument("data")
    arguments.add_argument("dtype", choices=["f32", "bf16"])
    arguments.add_argument("--limit", type=int)
    arguments.add_argument("--max-tokens", type=int, default=512)
    arguments.add_argument("--batch", type=int, default=8)
    given = arguments.parse_args()
    started = time.time()
    tokenizer = AutoTokenizer.from_pretrained(given.model, padding_side="right")
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[given.dtype]
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=dtype).eval()
    rows = [json.loads(line)["messages"] for line in open(given.data) if line.strip()][:given.limit]
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in rows]
    loaded = time.time()
    tokens = {"hidden_states": hidden_states, "gradients": gradients}[given.what](model, tokenizer, texts, given)
    print(json.dumps({
        "tokens": tokens, "seconds": time.time() - started, "seconds_without_loading": time.time() - loaded,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
