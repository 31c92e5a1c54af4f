"""Flips random bits in random objects and records of a store, and damages it in other ways: `strata verify` must name every file that
was changed, and `strata verify --repair` must give the tables that there were before.

    cargo build --release && python benches/durability/flips.py --flips 1000
"""

import argparse
import collections
import json
import os
import random
import tempfile
from pathlib import Path

import small_pipeline as small


def flip(path, bit):
    """Flips one bit and sets the file's time back, as a bad disk does."""
    state = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def overwrite(path, text):
    path.chmod(0o644)
    path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=25, help="files that are changed before `verify` looks")
    options = small.arguments(parser)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pipeline"
        store = folder / "artifacts"
        small.make(folder)
        assert small.strata(options.program, folder, "run", "-q").returncode == 0
        expected = small.tables(folder)
        counts, missed, unrepaired = collections.Counter(), [], 0

        def objects():
            return [path for path in sorted((store / "objects").rglob("*")) if path.is_file()]

        def look(kind, changed):
            """What `verify` does not name, and whether `verify --repair` brings the tables back."""
            nonlocal unrepaired
            found = small.strata(options.program, folder, "verify")
            for path in changed:
                counts[kind] += 1
                if found.returncode != 1 or str(path.relative_to(store)) not in found.stdout:
                    missed.append((kind, path))
            repaired = small.strata(options.program, folder, "verify", "--repair")
            sound = small.strata(options.program, folder, "verify")
            if repaired.returncode or sound.returncode or small.tables(folder) != expected:
                unrepaired += 1
                print(f"after {kind}: {repaired.stdout}{repaired.stderr}{sound.stdout}")

        flipped = 0
        while flipped < options.flips:
            # Objects and records in turn: of a record that cannot be read, the objects are not known.
            kind, files = [("objects", objects()), ("records", small.records(folder))][flipped // options.at_once % 2]
            changed = draw.sample(files, min(options.at_once, options.flips - flipped, len(files)))
            for path in changed:
                flip(path, draw.randrange(8 * path.stat().st_size))
            flipped += len(changed)
            look(f"bits of {kind}", changed)

        for _ in range(4):
            changed = draw.sample(objects(), 10)
            for path in changed:
                path.unlink()
            look("missing objects", changed)
            links = [path for path in sorted((store / "tables").rglob("*.parquet"))]
            changed = draw.sample(links, 10)
            for path in changed:
                path.unlink()
                path.symlink_to("nowhere")
            look("dangling views", changed)
            records = draw.sample(small.records(folder), 20)
            texts = [json.loads(path.read_text()) for path in records]
            for part in ["document", "outputs"]:
                half = range(10) if part == "document" else range(10, 20)
                for index in half:
                    other = texts[(index + 1) % 20]
                    overwrite(records[index], json.dumps(texts[index] | {part: other[part]}, indent=2))
            look("exchanged documents and outputs", records)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    print(f"verify missed {len(missed)} of {sum(counts.values())}; {unrepaired} repairs did not give the same tables")
    for kind, path in missed:
        print(f"missed: {kind}: {path}")
    raise SystemExit(len(missed) + unrepaired > 0)


if __name__ == "__main__":
    main()
