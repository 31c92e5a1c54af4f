"""Writes tests/golden/tokenizers/: tokenizers whose files transformers does not take as they are, and its ids.

    python tests/golden/tokenizer_classes.py      (transformers 5.24)

Each has the vocabulary of a SentencePiece model or of bytes, and a normaliser and splitting that its class replaces or, for
llama_bytes and mistral, leaves alone. reference.json has the ids of the conversations of models.py.
"""
import json
import os
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoTokenizer

sys.path.insert(0, os.fspath(Path(__file__).parent))
from models import CONVERSATIONS, messages_of  # noqa: E402

ROOT = Path(__file__).parent / "tokenizers"
LLAMA = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
         "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}")
GEMMA = ("{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}"
         "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}")
NEOX = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
TEXTS = [content for conversation in CONVERSATIONS for _, content in conversation] + ["user", "assistant", "model", "INST"]


def words(special, first, splitting, normalizer=None):
    """A tokenizer of merges over `first` and the texts' characters."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = splitting
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=120 + len(first), show_progress=False, initial_alphabet=first)
    tokenizer.train_from_iterator((TEXTS + [" " + text for text in TEXTS]) * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    names = special + [f"<0x{byte:02X}>" for byte in range(256)] * (not first)
    vocab = {name: i for i, name in enumerate(names)}
    for token in model["vocab"]:
        # Characters that are not among the words are left to their bytes.
        if first or token.isascii() or "▁" in token:
            vocab.setdefault(token, len(vocab))
    merges = [merge for merge in model["merges"] if all(part in vocab for part in [*merge, "".join(merge)])]
    return vocab, merges


def write(name, model_type, config, tokenizer, special):
    out = ROOT / name
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (out / "config.json").write_text(json.dumps({"model_type": model_type}) + "\n")
    read = AutoTokenizer.from_pretrained(out)
    examples = []
    for conversation in CONVERSATIONS:
        if model_type == "gemma2":
            conversation = [("user" if role == "system" else role, content) for role, content in conversation]
        text = read.apply_chat_template(messages_of(conversation), tokenize=False)
        ids = read(text, add_special_tokens=False)["input_ids"]
        examples.append(dict(messages=messages_of(conversation), ids=ids))
    (out / "reference.json").write_text("[\n" + ",\n".join(json.dumps(example) for example in examples) + "\n]\n")
    print(name, type(read).__name__, [len(example["ids"]) for example in examples])


def pieces(special, **own):
    vocab, merges = words(special, [], pre_tokenizers.Metaspace())
    return Tokenizer(BPE(vocab=vocab, merges=[tuple(merge) for merge in merges], unk_token="<unk>", **own))


def main():
    special = ["<unk>", "<s>", "</s>"]
    # As older files have it: before every piece between special tokens.
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    for name, model_type, own in [("llama", "llama", {}), ("llama_legacy", "llama", {"legacy": True}),
                                  ("mistral", "mistral", {})]:
        tokenizer = pieces(special, byte_fallback=True, fuse_unk=True)
        tokenizer.normalizer = legacy
        config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                  "chat_template": LLAMA, **own}
        write(name, model_type, config, tokenizer, special)

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = pieces(special)
    config = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": GEMMA}
    write("gemma", "gemma2", config, tokenizer, special)

    special = ["<|endoftext|>", "<|padding|>"]
    vocab, merges = words(special, pre_tokenizers.ByteLevel.alphabet(), pre_tokenizers.ByteLevel(add_prefix_space=False))
    for name, model_type, name_of_class, splitting in [
            ("gpt_neox", "gpt_neox", "GPTNeoXTokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
            ("llama_bytes", "llama", "LlamaTokenizerFast", pre_tokenizers.ByteLevel(add_prefix_space=False))]:
        tokenizer = Tokenizer(BPE(vocab=vocab, merges=[tuple(merge) for merge in merges]))
        tokenizer.pre_tokenizer = splitting
        tokenizer.decoder = decoders.ByteLevel()
        config = {"tokenizer_class": name_of_class, "eos_token": "<|endoftext|>", "chat_template": NEOX}
        write(name, model_type, config, tokenizer, special)


if __name__ == "__main__":
    main()
