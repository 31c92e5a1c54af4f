"""What a push, a pull and a run with nothing to do take against a remote with many keys and a slow way to it.

    python benches/remote_no_op.py STRATA [--examples 830] [--delay 0.05]

Makes a pipeline of tiny models with about twelve tasks an example in a temporary folder, runs it, and pushes it to an S3 server on loopback (moto,
`pip install 'moto[server]'`) behind a proxy that waits before each answer. The first push sends everything and takes minutes with moto.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIPELINE = """
[models]
base = { path = "base" }
instruct = { path = "instruct" }
[datasets.one]
path = "one.jsonl"
[datasets.two]
path = "two.jsonl"
[stages.examples]
part = { least = 1, greatest = 2 }
[stages.token_losses]
[stages.hidden_states]
positions = ["last"]
"""


def make(folder, examples):
    for name in ("base", "instruct"):
        shutil.copytree(ROOT / "tests/golden/models/qwen2", folder / name)
    weights = folder / "instruct/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80\x3e")
    for name in ("one", "two"):
        turns = lambda i: [("user", f"{name} question {i}?"), ("assistant", f"{name} answer {i * 7 % 11} of {i}")]
        rows = ({"messages": [{"role": role, "content": text} for role, text in turns(i)]} for i in range(examples))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pipeline.toml").write_text(PIPELINE)


class Server:
    def __init__(self):
        command = [sys.executable, str(ROOT / "tests/end_to_end/faulty_s3.py"), "{}", "3600"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.port = self.number()

    def number(self):
        for line in self.process.stdout:
            if line.strip().isdigit():
                return int(line)
        raise SystemExit("the server ended; is moto installed?")

    def behave(self, **behaviour):
        """Returns how many requests came since this was last called."""
        self.process.stdin.write(json.dumps(behaviour) + "\n")
        self.process.stdin.flush()
        return self.number()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("strata", type=pathlib.Path)
    parser.add_argument("--examples", type=int, default=830)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds before each answer")
    options = parser.parse_args()
    server = Server()
    environment = dict(
        os.environ,
        AWS_ENDPOINT=f"http://127.0.0.1:{server.port}",
        AWS_ALLOW_HTTP="true",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_REGION="us-east-1",
    )
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make(folder, options.examples)

        def strata(*arguments):
            started = time.perf_counter()
            done = subprocess.run(
                [options.strata.resolve(), *arguments], cwd=folder, env=environment, capture_output=True, text=True
            )
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            return time.perf_counter() - started, done.stdout.strip().splitlines()

        strata("run", "-q")
        seconds, said = strata("push", "--to", "s3://bucket/big")
        print(f"first push, without delay: {seconds:.1f} s; {said[-1]}")
        for arguments in (["push", "--to", "s3://bucket/big"], ["pull", "--from", "s3://bucket/big"]):
            server.behave(delay=options.delay)
            times = [strata(*arguments)[0] for _ in range(3)]
            requests = server.behave()
            print(f"{arguments[0]} with nothing to do: {statistics.median(times):.2f} s, {requests / 3:.0f} requests")
    server.process.kill()


if __name__ == "__main__":
    main()
