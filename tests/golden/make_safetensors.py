"""Writes safetensors.safetensors with the reference package, and checks that package against a file of ours.

    python tests/golden/make_safetensors.py            writes the golden file (safetensors 0.8.0, numpy)
    python tests/golden/make_safetensors.py OURS       loads a file that tests/framework/checkpoint wrote, compares every number
"""
import sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def tensors():
    return {
        "model.embed_tokens.weight": (np.arange(12, dtype=np.float32) / 8 - 1).reshape(3, 4),
        "half": np.array([0.5, -2.0, 65504.0], dtype=np.float16),
        "ids": np.array([-1, 2**40], dtype=np.int64),
        "keys": np.array([2**64 - 1, 7], dtype=np.uint64),
        "flags": np.array([True, False, True]),
        "bytes": np.arange(5, dtype=np.uint8),
        "scalar": np.array(3.25, dtype=np.float64),
        "none": np.zeros((0, 4), dtype=np.float32),
    }


if len(sys.argv) == 1:
    save_file(tensors(), "tests/golden/safetensors.safetensors", metadata={"format": "np", "step": "7"})
else:
    with safe_open(sys.argv[1], "np") as ours:
        assert ours.metadata() == {"format": "np", "step": "7"}, ours.metadata()
        assert set(ours.keys()) == set(tensors()), ours.keys()
        for name, expected in tensors().items():
            found = ours.get_tensor(name)
            assert found.dtype == expected.dtype and found.shape == expected.shape, (name, found.dtype, found.shape)
            assert np.array_equal(found, expected), name
    print("equal")
