"""A pipeline over two tiny models that takes about a second, and what the scripts beside it ask of the program."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

PIPELINE = """
[models]
base = { path = "models/base" }
instruct = { path = "models/instruct" }
[datasets.one]
path = "one.jsonl"
[datasets.two]
path = "two.jsonl"
[stages.examples]
part = { least = 2, greatest = 8 }
[stages.token_losses]
[stages.hidden_states]
positions = ["last", "response_mean"]
[stages.directions]
components = 2
[stages.projection_summary]
[stages.separation]
"""


def arguments(parser):
    """What every script takes."""
    target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
    parser.add_argument("--program", default=str(Path(target) / "release" / "strata"), help="the built program")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def chats(topic, count):
    lines = []
    for i in range(count):
        messages = [
            {"role": "user", "content": f"{topic} question {i}"},
            {"role": "assistant", "content": f"The answer to {topic} {i} is {i * 7 % 11}."},
        ]
        lines.append(json.dumps({"messages": messages}) + "\n")
    return "".join(lines)


def make(folder, examples=24):
    """Writes the pipeline, its models and its data."""
    folder.mkdir(parents=True)
    (folder / "pipeline.toml").write_text(PIPELINE)
    golden = REPOSITORY / "tests/golden/models/qwen2"
    for model in ["base", "instruct"]:
        shutil.copytree(golden, folder / "models" / model)
    weights = folder / "models/instruct/model.safetensors"
    changed = bytearray(weights.read_bytes())
    for at in range(len(changed) - 4096, len(changed), 4):
        changed[at + 2] ^= 0x20
    weights.write_bytes(changed)
    (folder / "one.jsonl").write_text(chats("one", examples))
    (folder / "two.jsonl").write_text(chats("two", examples - 4))



def strata(program, folder, *words, env=None):
    """Runs the program to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "STRATA_STORE"}
    environment.update(env or {})
    return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, env=environment)


def tables(folder, store="artifacts"):
    """The hash of every file that the tables show, by its path."""
    root = folder / store / "tables"
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def records(folder, store="artifacts"):
    return sorted((folder / store / "records").glob("*.json"))


def remove(folder):
    """A store's files are read-only, its folders are not."""
    shutil.rmtree(folder, ignore_errors=True)
