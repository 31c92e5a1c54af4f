"""Makes fp8.json: a matrix in FP8 with scales for blocks, and what transformers dequantises it to.

    python tests/golden/fp8.py > tests/golden/fp8.json      (transformers 5.24, torch 2.15)

All bytes but those of no number, and a grid of 2 by 3 blocks.
"""
import json

import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize


def main():
    torch.manual_seed(1)
    rows, columns = 8, 36
    numbers = torch.tensor([byte for byte in range(256) if byte & 0x7F != 0x7F], dtype=torch.uint8)
    matrix = numbers[torch.randint(len(numbers), (rows * columns,))]
    matrix[: len(numbers)] = numbers
    matrix = matrix.reshape(rows, columns).view(torch.float8_e4m3fn)
    scales = torch.rand(2, 3) + 0.01
    values = Fp8Dequantize(None)._dequantize_one(matrix, scales, torch.float32)
    print(json.dumps(dict(rows=rows, columns=columns, bytes=bytes(matrix.view(torch.uint8).flatten().tolist()).hex(),
                          scales=scales.flatten().tolist(), values=values.flatten().tolist())))


if __name__ == "__main__":
    main()
