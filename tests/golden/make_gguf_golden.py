#!/usr/bin/env python3
"""Makes tests/golden/formats/golden.gguf with the Python package `gguf` (made with gguf 0.19.0, numpy 2.4.6): one value of each type of
metadata, the tokenizer of tests/golden/tokenizer/tokenizer.json as llama.cpp's converter writes it, and for each encoding that we
read a tensor "x.<type>" and the floats that `gguf.quants.dequantize` gives for it, "x.<type>.expected". Blocks are random bytes with
scales that are finite: subnormal, negative and large ones too.

    pip install gguf numpy && python3 tests/golden/make_gguf_golden.py
"""
import json
import pathlib

import numpy as np
from gguf import GGUFWriter, GGMLQuantizationType as Q, TokenType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

HERE = pathlib.Path(__file__).parent
SCALES = np.array([0.0, 1.0, -0.75, 2.0**-24, -(2.0**-15), 0.0123, 333.0, -60000.0], dtype=np.float16)
# of each type, where in a block its halves stand
HALVES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q6_K: [208]}


def blocks_of(draw: np.random.Generator, kind: Q, rows: int) -> np.ndarray:
    """[rows, bytes of two blocks of 256, or of four of 32]"""
    block, size = GGML_QUANT_SIZES[kind]
    count = 2 if block == 256 else 4
    data = draw.integers(0, 256, (rows * count, size), dtype=np.uint8)
    for at in HALVES[kind]:
        data[:, at : at + 2] = draw.choice(SCALES, rows * count).reshape(-1, 1).view(np.uint8)
    return data.reshape(rows, count * size)


def add_tensors(writer: GGUFWriter) -> None:
    draw = np.random.default_rng(1)
    for kind in HALVES:
        data = blocks_of(draw, kind, 3)
        writer.add_tensor(f"x.{kind.name}", data, raw_dtype=kind)
        writer.add_tensor(f"x.{kind.name}.expected", dequantize(data, kind).astype(np.float32))
    floats = draw.standard_normal((2, 3, 5)).astype(np.float32)
    writer.add_tensor("x.F32", floats)
    writer.add_tensor("x.F32.expected", floats)
    halves = floats.astype(np.float16)
    writer.add_tensor("x.F16", halves)
    writer.add_tensor("x.F16.expected", dequantize(halves, Q.F16).astype(np.float32))
    brains = (floats.view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor("x.BF16", brains.view(np.uint8), raw_dtype=Q.BF16)
    writer.add_tensor("x.BF16.expected", dequantize(brains.view(np.uint8), Q.BF16).astype(np.float32))


def add_values(writer: GGUFWriter) -> None:
    writer.add_uint8("value.u8", 200)
    writer.add_int8("value.i8", -100)
    writer.add_uint16("value.u16", 60000)
    writer.add_int16("value.i16", -30000)
    writer.add_uint32("value.u32", 4000000000)
    writer.add_int32("value.i32", -2000000000)
    writer.add_uint64("value.u64", 2**64 - 1)
    writer.add_int64("value.i64", -(2**63))
    writer.add_float32("value.f32", 0.1)
    writer.add_float64("value.f64", 0.1)
    writer.add_bool("value.bool", True)
    writer.add_string("value.text", "größe")
    writer.add_array("value.numbers", [1, -2, 3])
    writer.add_array("value.floats", [0.5, -1.5])
    writer.add_array("value.texts", ["a", "", "b"])
    writer.add_array("value.nested", [[1, 2], [3]])


def add_tokenizer(writer: GGUFWriter) -> None:
    model = json.loads((HERE / "tokenizer" / "tokenizer.json").read_text())
    vocabulary = model["model"]["vocab"]
    special = {token["content"] for token in model["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    assert [vocabulary[token] for token in tokens] == list(range(len(tokens)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["model"]["merges"]])
    writer.add_eos_token_id(vocabulary["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0].content }}")


def main() -> None:
    (HERE / "formats").mkdir(exist_ok=True)
    writer = GGUFWriter(HERE / "formats" / "golden.gguf", "llama")
    add_values(writer)
    add_tokenizer(writer)
    add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
