"""llama.cpp beside decode_bench: a model of the given shape with random weights, one line of JSON with tokens a second.

Needs the packages llama-cpp-python (built from source, so with this CPU's instructions) and gguf. The model is a Llama with a tied head;
its file is written once into --folder and kept. Prefill reads --prefill tokens from an empty cache; decoding reads --decode tokens one
by one behind a prompt of eight; each is measured once after a warm-up. --at-once: the same by so many sequences in one batch, all their
tokens counted. A model without heads is a Mamba, as llama.cpp has it: weights that it cannot hold in a format stay fp32.
"""
import argparse
import ctypes
import json
import os
import time

import gguf
import numpy as np

KINDS = {"f32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16,
         "int8": gguf.GGMLQuantizationType.Q8_0, "int4": gguf.GGMLQuantizationType.Q4_0}


def random_matrix(rows, columns, kind, seed):
    """Bytes of [rows, columns]: a random piece repeated, each block with a small scale. Speed does not depend on the values."""
    random = np.random.default_rng(seed)
    block, block_bytes = gguf.GGML_QUANT_SIZES[KINDS[kind]]
    row_bytes = columns // block * block_bytes
    if kind == "f32":
        piece = random.normal(0, 0.02, columns * 64).astype(np.float32).view(np.uint8)
    elif kind == "bf16":
        piece = (random.normal(0, 0.02, columns * 64).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    else:
        blocks = random.integers(0, 256, (columns // block * 64, block_bytes), dtype=np.uint8)
        blocks[:, :2] = np.array([2e-4 if kind == "int8" else 3e-3], dtype=np.float16).view(np.uint8)
        piece = blocks.reshape(-1)
    repeats = -(-rows // 64)
    return np.tile(piece, repeats)[: rows * row_bytes].reshape(rows, row_bytes)


def write_mamba(path, o):
    writer = gguf.GGUFWriter(path, "mamba")
    inner, rank, state = 2 * o.d, (o.d + 15) // 16, 16
    for add, value in ((writer.add_context_length, 4096), (writer.add_embedding_length, o.d), (writer.add_feed_forward_length, 0),
                       (writer.add_head_count, 0), (writer.add_block_count, o.layers), (writer.add_ssm_conv_kernel, 4),
                       (writer.add_ssm_inner_size, inner), (writer.add_ssm_state_size, state), (writer.add_ssm_time_step_rank, rank),
                       (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_vocab_size, o.vocab), (writer.add_tokenizer_model, "no_vocab")):
        add(value)

    def matrix(name, rows, columns, seed):
        kind = o.format if columns % gguf.GGML_QUANT_SIZES[KINDS[o.format]][0] == 0 else "f32"
        data = random_matrix(rows, columns, kind, seed)
        writer.add_tensor(name, data.view(np.float32) if kind == "f32" else data, raw_dtype=KINDS[kind])

    matrix("token_embd.weight", o.vocab, o.d, 0)
    writer.add_tensor("output_norm.weight", np.ones(o.d, dtype=np.float32))
    for i in range(o.layers):
        block = f"blk.{i}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(o.d, dtype=np.float32))
        for name, rows, columns in (("ssm_in", 2 * inner, o.d), ("ssm_x", rank + 2 * state, inner), ("ssm_dt", inner, rank),
                                    ("ssm_out", o.d, inner)):
            matrix(block + name + ".weight", rows, columns, i + 1)
        writer.add_tensor(block + "ssm_conv1d.weight", np.full((inner, 4), 0.25, dtype=np.float32))
        for name, value in (("ssm_conv1d.bias", 0), ("ssm_dt.bias", -4), ("ssm_d", 1)):
            writer.add_tensor(block + name, np.full(inner, value, dtype=np.float32))
        writer.add_tensor(block + "ssm_a", np.tile(-np.arange(1, state + 1, dtype=np.float32), (inner, 1)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_model(path, o):
    if o.heads == 0:
        return write_mamba(path, o)
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in ((writer.add_context_length, 4096), (writer.add_embedding_length, o.d), (writer.add_block_count, o.layers),
                       (writer.add_feed_forward_length, o.ffn), (writer.add_head_count, o.heads), (writer.add_head_count_kv, o.kv_heads),
                       (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_rope_dimension_count, o.d // o.heads),
                       (writer.add_rope_freq_base, 10000.0), (writer.add_vocab_size, o.vocab), (writer.add_tokenizer_model, "no_vocab")):
        add(value)
    kv = o.d // o.heads * o.kv_heads

    def matrix(name, rows, columns, seed):
        data = random_matrix(rows, columns, o.format, seed)
        writer.add_tensor(name, data.view(np.float32) if o.format == "f32" else data, raw_dtype=KINDS[o.format])

    def gain(name):
        writer.add_tensor(name, np.ones(o.d, dtype=np.float32))

    matrix("token_embd.weight", o.vocab, o.d, 0)
    gain("output_norm.weight")
    for i in range(o.layers):
        gain(f"blk.{i}.attn_norm.weight")
        gain(f"blk.{i}.ffn_norm.weight")
        for name, rows, columns in (("attn_q", o.d, o.d), ("attn_k", kv, o.d), ("attn_v", kv, o.d), ("attn_output", o.d, o.d),
                                    ("ffn_gate", o.ffn, o.d), ("ffn_up", o.ffn, o.d), ("ffn_down", o.d, o.ffn)):
            matrix(f"blk.{i}.{name}.weight", rows, columns, i + 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("d", "layers", "ffn", "heads", "kv-heads", "vocab", "threads", "prefill", "decode"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--format", choices=tuple(KINDS), required=True)
    parser.add_argument("--at-once", type=int, nargs="*", default=[], help="sequences that decode together")
    parser.add_argument("--by-cpu", action="store_true", help="seconds of CPU time, all threads together")
    parser.add_argument("--folder", default="/tmp/decode_bench_models")
    return parser.parse_args()


def main():
    o = options()
    os.makedirs(o.folder, exist_ok=True)
    path = os.path.join(o.folder, f"d{o.d}_l{o.layers}_v{o.vocab}_{o.format}.gguf")
    if not os.path.exists(path):
        write_model(path + ".new", o)
        os.rename(path + ".new", path)

    clock = time.process_time if o.by_cpu else time.perf_counter
    import llama_cpp as lib
    quiet = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    settings = lib.llama_context_default_params()
    most = max(o.at_once, default=1)
    settings.n_ctx = max(o.prefill + 8, (o.decode + 17) * most)
    settings.n_seq_max = most
    settings.kv_unified = True
    settings.n_batch = settings.n_ubatch = 512
    settings.n_threads = settings.n_threads_batch = o.threads
    context = lib.llama_init_from_model(model, settings)
    ids = (lib.llama_token * o.prefill)(*[(i * 7919 + 13) % o.vocab for i in range(o.prefill)])

    def read(first, count):
        part = (lib.llama_token * count)(*[ids[(first + i) % o.prefill] for i in range(count)])
        if lib.llama_decode(context, lib.llama_batch_get_one(part, count)) != 0:
            raise SystemExit("llama_decode failed")
        lib.llama_synchronize(context)

    def forget():
        lib.llama_memory_clear(lib.llama_get_memory(context), True)

    def prefill():
        forget()
        begin = clock()
        for first in range(0, o.prefill, 512):
            read(first, min(512, o.prefill - first))
        return o.prefill / (clock() - begin)

    def decode(count):
        forget()
        read(0, 8)
        begin = clock()
        for i in range(count):
            read(8 + i, 1)
        return count / (clock() - begin)

    def together(sequences):
        forget()
        batch = lib.llama_batch_init(8 * sequences, 0, 1)  # the prompt of all is the longest

        def step(first, count):
            batch.n_tokens = 0
            for s in range(sequences):
                for i in range(count):
                    k = batch.n_tokens
                    batch.token[k], batch.pos[k], batch.n_seq_id[k] = ids[(first + i + s) % o.prefill], first + i, 1
                    batch.seq_id[k][0], batch.logits[k] = s, i + 1 == count
                    batch.n_tokens += 1
            if lib.llama_decode(context, batch) != 0:
                raise SystemExit("llama_decode failed")
            lib.llama_synchronize(context)

        step(0, 8)
        step(8, 1)
        begin = clock()
        for i in range(o.decode):
            step(9 + i, 1)
        speed = o.decode * sequences / (clock() - begin)
        lib.llama_batch_free(batch)
        return speed

    prefill()
    decode(2)
    found = {"prefill_tok_s": prefill(), "decode_tok_s": decode(o.decode), "version": lib.__version__}
    found["together_tok_s"] = {str(n): together(n) for n in o.at_once}
    print(json.dumps(found))


main()
