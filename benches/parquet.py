"""Tables written and read by Strata and by pyarrow: the same rows, the same codec and encodings, in turn.

    pip install pyarrow
    cargo build --release --workspace --example parquet && python benches/parquet.py target/release/examples/parquet [--times 5]

vectors: 84,240 hidden states of 896 numbers, 302 MB. pairs: 4,000,000 rows of six small columns, as `similarity` writes them. Both sides write to
a file in the page cache, unflushed, and read it from there, pyarrow with one thread and with as many as it likes. What Strata hashes, which
pyarrow does not do, is a row of its own. Medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet


def strata(program, *arguments):
    return json.loads(subprocess.run([program, *arguments], check=True, capture_output=True).stdout)


def timed(what):
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    print(f"pyarrow {pyarrow.__version__}, {os.cpu_count()} cores")
    print(f"{'table':<8} {'MB':>5} {'':<8} {'Strata':>8} {'pyarrow':>8} {'1 thread':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as temporary:
        for kind in ("vectors", "pairs"):
            own, other = str(Path(temporary) / f"{kind}.parquet"), str(Path(temporary) / f"{kind}-pyarrow.parquet")
            found = [strata(program, "write", kind, own)]
            table = parquet.read_table(own)
            plain = [name for name in table.column_names if name != "vector"]
            write = lambda: parquet.write_table(
                table, other, compression="snappy", use_dictionary=plain, write_statistics=True, row_group_size=1 << 20,
                write_page_index=True, store_schema=True,
            )
            writes, reads, alone, ours = [], [], [], []
            for _ in range(arguments.times):
                found.append(strata(program, "write", kind, own))
                writes.append(timed(write))
                ours.append(strata(program, "read", kind, own)["read"])
                reads.append(timed(lambda: parquet.read_table(own)))
                alone.append(timed(lambda: parquet.read_table(own, use_threads=False)))
            median = statistics.median
            mega = found[0]["bytes"] / 1e6
            mine = median(one["write"] for one in found[1:])
            row = lambda what, ours, theirs, single: print(
                f"{kind:<8} {mega:>5.0f} {what:<8} {ours:>8.3f} {theirs:>8.3f} {single:>8} {ours / theirs:>6.2f}", flush=True
            )
            row("write", mine, median(writes), "")
            row("read", median(ours), median(reads), f"{median(alone):.3f}")
            hashes = [median(one[name] for one in found[1:]) for name in ("hash of columns", "hash of bytes")]
            print(f"{kind:<8} {mega:>5.0f} {'hashes':<8} {sum(hashes):>8.3f}: of the columns {hashes[0]:.3f}, of the file {hashes[1]:.3f}")
            print(f"{'':<8} pyarrow's file has {os.path.getsize(other) / 1e6:.0f} MB")
            os.remove(own), os.remove(other)


if __name__ == "__main__":
    main()
