"""Memory and time of reading large datasets (docs/performance.md).

    python benches/datasets.py target/release/strata [ROWS]

writes a million rows (or ROWS) as JSON lines, a JSON array and CSV, and three times as many as Parquet, which is 3 GB, into a temporary
folder, and has `strata run` read them: the first 400 rows, 400 drawn, 400 drawn by strata, and 400 of those that a filter in SQL keeps. The
memory is the most that the process held, mapped files included. Needs duckdb.
"""

import json
import os
import random
import string
import sys
import tempfile
import time

import duckdb

PROGRAM = os.path.abspath(sys.argv[1])
ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
TOPICS, SHARES = ["code", "maths", "history", "cooking", "law"], [50, 25, 15, 9, 1]
LANGUAGES = ["python", "go", "rust", "c", None]

READINGS = {
    "the first 400": "limit = 400",
    "400 drawn": "sample = { n = 400, seed = 1 }",
    "400 by topic": 'sample = { n = 400, seed = 1, by = "topic" }',
    "400 by SQL": "filter = \"language IN ('python','go') AND length(output) > 20\"\nsample = { n = 400, seed = 1 }",
}


def rows():
    pick = random.Random(1)
    words = ["".join(pick.choices(string.ascii_lowercase, k=pick.randint(2, 9))) for _ in range(5000)]
    for i in range(ROWS):
        yield {
            "instruction": f"{i} " + " ".join(pick.choices(words, k=pick.randint(8, 20))),
            "output": " ".join(pick.choices(words, k=pick.randint(20, 120))),
            "topic": pick.choices(TOPICS, SHARES)[0],
            "language": LANGUAGES[i % 5],
            "score": pick.randrange(100),
        }


def write(folder):
    with open(f"{folder}/rows.jsonl", "w") as lines, open(f"{folder}/rows.json", "w") as array:
        for i, row in enumerate(rows()):
            text = json.dumps(row)
            lines.write(text + "\n")
            array.write(("[" if i == 0 else ",\n") + text)
        array.write("]\n")
    con = duckdb.connect(f"{folder}/rows.duckdb")
    con.execute(f"set memory_limit = '2GB'; set temp_directory = '{folder}/spill'")
    con.execute(f"create table rows as from read_json('{folder}/rows.jsonl', format = 'newline_delimited')")
    con.execute(f"copy rows to '{folder}/rows.csv' (header)")
    larger = "select k || ' ' || instruction as instruction, output || ' ' || reverse(output) || k as output, topic, language, score"
    con.execute(f"copy ({larger} from range(3) as ks(k), rows) to '{folder}/rows.parquet' (format parquet, compression snappy)")
    con.close()
    os.remove(f"{folder}/rows.duckdb")


def run(folder, file, reading):
    """Seconds of the clock and of the processor, and MB."""
    work = tempfile.mkdtemp(dir=folder)
    dataset = f'path = "../{file}"\nprompt = "instruction"\nresponse = "output"\n{reading}'
    with open(f"{work}/pipeline.toml", "w") as pipeline:
        pipeline.write(f"[datasets.d]\n{dataset}\n[stages.examples]\n")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.chdir(work)
        os.execv(PROGRAM, [PROGRAM, "run", "--quiet"])
    _, status, used = os.wait4(child, 0)
    assert status == 0, (file, reading)
    return time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main():
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        print(f"{'file':<14} {'MB':>6}  {'reading':<14} {'clock':>8} {'processor':>10} {'memory':>9}")
        for file in ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"]:
            size = os.path.getsize(f"{folder}/{file}") / 1e6
            for name, reading in READINGS.items():
                clock, processor, memory = run(folder, file, reading)
                print(f"{file:<14} {size:>6.0f}  {name:<14} {clock:>6.1f} s {processor:>8.1f} s {memory:>6.0f} MB", flush=True)


main()
