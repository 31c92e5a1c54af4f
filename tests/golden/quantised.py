"""Makes quantised.json: what gguf, by which transformers reads GGUF files, dequantises blocks of every supported kind to.

    python tests/golden/quantised.py > tests/golden/quantised.json      (gguf 0.19)

Three blocks of random bytes each, the f16 scales in them random numbers.
"""
import json

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Where in a block its f16 numbers are.
SCALES = {Kind.Q4_0: [0], Kind.Q4_1: [0, 2], Kind.Q5_0: [0], Kind.Q5_1: [0, 2], Kind.Q8_0: [0], Kind.Q2_K: [80, 82],
          Kind.Q3_K: [108], Kind.Q4_K: [0, 2], Kind.Q5_K: [0, 2], Kind.Q6_K: [208]}


def main():
    random = np.random.default_rng(1)
    found = {}
    for kind, places in SCALES.items():
        size = GGML_QUANT_SIZES[kind][1]
        blocks = random.integers(0, 256, (3, size), dtype=np.uint8)
        for place in places:
            blocks[:, place:place + 2] = random.normal(size=(3, 1)).astype(np.float16).view(np.uint8)
        values = dequantize(blocks, kind).flatten()
        found[kind.name] = dict(bytes=blocks.tobytes().hex(), values=[float(f"{x:.7g}") for x in values.astype(np.float64)])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
