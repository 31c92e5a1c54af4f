"""Writes the tiny models in tests/golden/models/ and what transformers computes with them.

    python models.py          (pip install torch transformers tokenizers; made with transformers 5.23, torch 2.15)

qwen2: f32, tied embeddings, biases on q, k and v; a tokenizer.json whose splitting transformers 5 replaces.
llama: bf16 in two shards, llama3 rotary scaling, biases everywhere, an untied head, head_dim not D / heads; the chat
template in chat_template.jinja, stripping contents.
qwen3: norms of every query and key head, head_dim not D / heads, no biases; its tokenizer_config.json names Qwen2's class.
Each directory gets reference.json: per conversation the ids, the response's span, the state of the last token and the
mean over the response at every layer (the last one before and after the final norm), and per token log-probability,
entropy and rank, all in float32.
"""
import json
import unicodedata
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent / "models"
SMALL = dict(vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256)
QWEN = (
    "{% for message in messages %}\n"
    "    {%- if loop.first and message['role'] != 'system' %}\n"
    "        {{- '<|im_start|>system\\nYou are terse.<|im_end|>\\n' }}\n"
    "    {%- endif %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{% if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
LLAMA = (
    "{{- bos_token }}\n"
    "{%- set ns = namespace(turn=0) %}\n"
    "{%- for message in messages %}\n"
    "    {%- set ns.turn = ns.turn + 1 %}\n"
    "    {{- '<|im_start|>' + message['role'] | upper + ' ' + ns.turn | string + '\\n\\n' }}\n"
    "    {%- if message['role'] == 'assistant' %}\n"
    "        {%- generation %}{{- message['content'].strip() }}{{- eos_token }}{%- endgeneration %}\n"
    "    {%- else %}\n"
    "        {{- message['content'] | trim + eos_token }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>ASSISTANT ' + (ns.turn + 1) | string + '\\n\\n' }}{%- endif %}\n"
)
CONVERSATIONS = [
    [("user", "Say hello."), ("assistant", "hello")],
    [("system", "Be kind."), ("user", "naïve café 東京 🙂? It's 2024, they'll say e\u0301."),
     ("assistant", "  It's 東京!\n\n\tdon't 1234 \n")],
    [("user", "a"), ("assistant", "b"), ("user", "a a"), ("assistant", "a a a")],
    [("user", "What is <|im_start|>?"), ("assistant", "x<|im_end|>\ny")],
    [("user", "def f(x):\n    return x + 1\n"), ("assistant", "def g(x):\n    return f(x)\n" * 6)],
]


def write_tokenizer(out, config):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=SMALL["vocab_size"], show_progress=False,
                                  special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    texts = [content for conversation in CONVERSATIONS for _, content in conversation]
    tokenizer.train_from_iterator((texts + ["user", "assistant", "system", " the", " return"]) * 4, trainer)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def messages_of(conversation):
    return [{"role": role, "content": content} for role, content in conversation]


def encode(tokenizer, messages, stripped):
    """Ids and the span of the last message's content, which stands before the last end-of-turn marker."""
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    head = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    content = messages[-1]["content"].strip() if stripped else messages[-1]["content"]
    assert text[len(head):].startswith(content)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    first, last = len(head), len(head) + len(content)
    inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < last and b > first]
    before = tokenizer.apply_chat_template(messages[:-1], tokenize=False)
    turn = next(i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b > len(before))
    return encoded["input_ids"], inside[0], inside[-1] + 1, turn


def rounded(tensor):
    return [float(f"{x:.7g}") for x in tensor.flatten().tolist()]


def write_reference(out, stripped):
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
    residual = {}
    model.model.norm.register_forward_pre_hook(lambda _, inputs: residual.update(last=inputs[0]))
    examples = []
    for conversation in CONVERSATIONS:
        ids, start, end, turn = encode(tokenizer, messages_of(conversation), stripped)
        with torch.no_grad():
            result = model(torch.tensor([ids]), output_hidden_states=True)
        states = [*result.hidden_states[:-1], residual["last"], result.hidden_states[-1]]
        log_probs = torch.log_softmax(result.logits[0, :-1], dim=-1)
        chosen = log_probs.gather(1, torch.tensor(ids[1:])[:, None])
        examples.append(dict(
            messages=messages_of(conversation), ids=ids, response=[start, end], turn_start=turn,
            last=[rounded(state[0, -1]) for state in states],
            response_mean=[rounded(state[0, start:end].mean(0)) for state in states],
            logprob=rounded(chosen), entropy=rounded(-(log_probs.exp() * log_probs).sum(-1)),
            rank=(1 + (log_probs > chosen).sum(-1)).tolist(),
        ))
    (out / "reference.json").write_text(
        "[\n" + ",\n".join(json.dumps(example, ensure_ascii=True) for example in examples) + "\n]\n")


def write_model(out, config, dtype, **save):
    out.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # far from the defaults, so that every part shows
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif "bias" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(8.0)
    model.to(dtype).save_pretrained(out, **save)
    (out / "generation_config.json").unlink(missing_ok=True)
    for file in out.glob("*.safetensors"):
        file.chmod(0o644)


def qwen2(out):
    config = AutoConfig.for_model("qwen2", tie_word_embeddings=True, rope_theta=1e6, bos_token_id=0, eos_token_id=2, **SMALL)
    write_model(out, config, torch.float32)
    write_tokenizer(out, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
                          "pad_token": "<|endoftext|>", "chat_template": QWEN})
    write_reference(out, stripped=False)


def llama(out):
    rope = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64)
    config = AutoConfig.for_model("llama", tie_word_embeddings=False, attention_bias=True, mlp_bias=True, head_dim=12,
                                  rope_parameters=rope, bos_token_id=0, eos_token_id=2, **SMALL)
    write_model(out, config, torch.bfloat16, max_shard_size="60KB")
    write_tokenizer(out, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>",
                          "eos_token": {"content": "<|im_end|>", "__type": "AddedToken"}})
    (out / "chat_template.jinja").write_text(LLAMA)
    write_reference(out, stripped=True)


def qwen3(out):
    config = AutoConfig.for_model("qwen3", tie_word_embeddings=True, head_dim=12, rope_theta=1e6, bos_token_id=0,
                                  eos_token_id=2, **SMALL)
    write_model(out, config, torch.float32)
    write_tokenizer(out, {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                          "chat_template": QWEN})
    write_reference(out, stripped=False)


def main():
    torch.manual_seed(1)
    for write in (qwen2, llama):
        write(ROOT / write.__name__)
    for seed, write in enumerate([qwen3], 2):
        torch.manual_seed(seed)
        write(ROOT / write.__name__)


if __name__ == "__main__":
    assert unicodedata.normalize("NFC", "e\u0301") == "é"
    main()
