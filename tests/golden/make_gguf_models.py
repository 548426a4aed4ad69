"""Writes gguf/<case>.front and gguf/<case>.json: tiny GGUF models of llama.cpp, and what llama.cpp makes of them: ids of texts, logits, greedy tokens.

Run: python3 tests/golden/make_gguf_models.py [case ...]   (needs gguf, numpy, llama-cpp-python; made with gguf 0.19.0, llama-cpp-python 0.3.36)
A .front is the file up to its tensors' numbers: metadata and tensor infos. The numbers are fp32 and are not stored: value_of makes them from
a tensor's name and an index, here and in the test. A seed is kept only if at every greedy step the likeliest token is ahead of the second
by more than 1e-3. llama.cpp computes in fp32 here, with keys and values in fp32.
"""
import json, os, sys, tempfile
import numpy as np
from gguf import GGUFReader, GGUFWriter, TokenType
from llama_cpp import Llama

HERE = os.path.dirname(os.path.abspath(__file__))
MASK = (1 << 64) - 1
D, LAYERS, HIDDEN = 32, 2, 48
BLANK = "\u2581"

TEXTS = ["", " ", "  ", "   a", "The editor", " The editor", "the  the   the", "Hello, world!", "a\nb\n\n  c\t\td", "\r\n\r\n", "naïve café", "größe ÄÖÜ",
         "日本語のテキスト", "🙂🙃 👩‍👩‍👧", "e\u0301 vs é", "0123456789 3.14159 1e-10", "it's we'LL they'Re I'D", "x=1;y<=2&&z!=3", "<s>", "</s> <unk>",
         "<|endoftext|>", "a<tool>b", "<tool><tool>", " <tool> ", "<tool", "<0x41>", "▁▁the▁", "the▁the", "\u00a0nbsp\u2003em", "\u200bzero\u200dwidth",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababab", "ththththeeee", "        indented", "def f(x):\n    return x\n",
         "\x01\x02\x7f", "\ufeffbom", "مرحبا بالعالم", "ÿþý", "tab\tend ", "a b c d e f g", "\U0001f600\u0300\U000e0041", "....!!!???", "ſ's 'S"]


def mix64(x):  # the finaliser of splitmix64, on numpy uint64
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def value_of(name, shape, seed):
    h = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(h)
    u = ((mix64(x) >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5).reshape(shape)  # exact in float32
    if name.endswith("norm.weight") or name.endswith("ssm_d"):
        u = 1 + 0.5 * u
    elif name.endswith("ssm_a"):
        u = -1.5 + 2 * u
    elif name.endswith("ssm_dt.bias"):
        u = -2 + 2 * u
    elif not name.startswith(("token_embd", "output")) and "conv1d" not in name:
        u = 0.75 * u
    return u.astype(np.float32)


def sentence_pieces(writer):
    """Pieces joined greedily out of a text, as SentencePiece trains; some scores are equal, so that places decide."""
    with open(f"{HERE}/tokenizer/text.txt", encoding="utf-8") as file:
        text = "".join(c for c in file.read()[:20000] if c.isprintable() or c == "\n")
    words = (BLANK + text.replace(" ", BLANK)).replace("\n", " ").replace(BLANK, " " + BLANK).split()
    lists, joined = [list(w) for w in words], []
    for _ in range(180):
        counts = {}
        for w in lists:
            for pair in zip(w, w[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(sorted(counts), key=counts.get)
        joined.append("".join(best))
        for w in lists:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i : i + 2] = ["".join(best)]
                i += 1
    joined = list(dict.fromkeys(joined)) + ["aa", "aaa", "ba", "ab", BLANK * 2, BLANK * 4]
    joined = list(dict.fromkeys(joined))
    letters = sorted({c for w in words for c in w} | set("ab" + BLANK))  # each is a piece once
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + joined + letters + ["<tool>", "ed<tool>"]
    scores = [0.0] * 259 + [-float(i // 2) for i in range(len(joined))] + [-1000.0 - i for i in range(len(letters))] + [0.0, 0.0]
    types = ([TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256 + [TokenType.NORMAL] * (len(joined) + len(letters)) +
             [TokenType.USER_DEFINED] * 2)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{{ bos_token }}{{ messages[0].content }}")
    return len(tokens)


def byte_pairs(writer, pre, user_defined):
    with open(f"{HERE}/tokenizer/tokenizer.json", encoding="utf-8") as file:
        model = json.load(file)
    vocabulary = model["model"]["vocab"]
    special = {token["content"] for token in model["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    types = [TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens]
    tokens += user_defined
    types += [TokenType.USER_DEFINED] * len(user_defined)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["model"]["merges"]])
    writer.add_bos_token_id(vocabulary["<|endoftext|>"])
    writer.add_eos_token_id(vocabulary["<|endoftext|>"])
    return len(tokens)


def llama_tensors(vocabulary, heads, kv_heads, head_dim, tied, experts=0):
    mlp = (("ffn_gate_inp", (experts, D)), ("ffn_gate_exps", (experts, HIDDEN, D)), ("ffn_up_exps", (experts, HIDDEN, D)),
           ("ffn_down_exps", (experts, D, HIDDEN))) if experts else (("ffn_gate", (HIDDEN, D)), ("ffn_up", (HIDDEN, D)), ("ffn_down", (D, HIDDEN)))
    yield "token_embd.weight", (vocabulary, D)
    yield "output_norm.weight", (D,)
    if not tied:
        yield "output.weight", (vocabulary, D)
    for i in range(LAYERS):
        for name, shape in (("attn_norm", (D,)), ("attn_q", (heads * head_dim, D)), ("attn_k", (kv_heads * head_dim, D)), ("attn_v", (kv_heads * head_dim, D)),
                            ("attn_output", (D, heads * head_dim)), ("ffn_norm", (D,)), *mlp):
            yield f"blk.{i}.{name}.weight", shape


def llama_front(writer, heads, kv_heads):
    writer.add_context_length(256)
    writer.add_embedding_length(D)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)


def llama(writer):
    llama_front(writer, 4, 2)
    writer.add_vocab_size(vocabulary := sentence_pieces(writer))
    writer.add_rope_dimension_count(8)
    return list(llama_tensors(vocabulary, 4, 2, 8, False)), {}


def mixtral(writer):
    llama_front(writer, 4, 2)
    writer.add_vocab_size(vocabulary := byte_pairs(writer, "gpt-2", []))
    writer.add_rope_dimension_count(8)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    return list(llama_tensors(vocabulary, 4, 2, 8, False, experts=4)), {}


def llama3_factors(width, theta, factor, low, high, context):
    out = []
    for pair in range(width // 2):
        turns = context * theta ** (-2 * pair / width) / (2 * np.pi)
        share = (turns - low) / (high - low)
        out.append(factor if turns < low else 1 if turns > high else 1 / ((1 - share) / factor + share))
    return np.array(out, dtype=np.float32)


def llama3(writer):
    llama_front(writer, 2, 1)
    writer.add_vocab_size(vocabulary := byte_pairs(writer, "llama-bpe", []))
    writer.add_rope_freq_base(500.0)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_rope_dimension_count(32)
    return list(llama_tensors(vocabulary, 2, 1, 32, True)), {"rope_freqs.weight": llama3_factors(32, 500.0, 8.0, 1.0, 4.0, 128)}


def mamba(writer):
    inner, state, conv, rank = 2 * D, 5, 4, 3
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(LAYERS)
    writer.add_ssm_conv_kernel(conv)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = byte_pairs(writer, "mpt", ["    ", "  ", "<tool>", "the <tool>"])
    tensors = [("token_embd.weight", (vocabulary, D)), ("output_norm.weight", (D,))]
    for i in range(LAYERS):
        tensors += [(f"blk.{i}.{name}", shape) for name, shape in (
            ("attn_norm.weight", (D,)), ("ssm_in.weight", (2 * inner, D)), ("ssm_conv1d.weight", (inner, conv)), ("ssm_conv1d.bias", (inner,)),
            ("ssm_x.weight", (rank + 2 * state, inner)), ("ssm_dt.weight", (inner, rank)), ("ssm_dt.bias", (inner,)), ("ssm_a", (inner, state)),
            ("ssm_d", (inner,)), ("ssm_out.weight", (D, inner)))]
    return tensors, {}


CASES = {"llama": llama, "llama3": llama3, "mamba": mamba, "mixtral": mixtral}
ARCHITECTURES = {"llama3": "llama", "mixtral": "llama"}


def write(name, seed, path):
    """The whole file; gives the tensors in the order of their numbers, those with numbers of their own with them."""
    writer = GGUFWriter(path, ARCHITECTURES.get(name, name))
    tensors, given = CASES[name](writer)
    told = []
    for tensor, shape in tensors:
        writer.add_tensor(tensor, value_of(tensor, shape, seed))
        told.append(dict(name=tensor, count=int(np.prod(shape))))
    for tensor, values in given.items():
        writer.add_tensor(tensor, values)
        told.append(dict(name=tensor, count=len(values), values=[float(v) for v in values]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return told


def logits_of(llm, ids):
    llm.reset()
    llm.eval(ids)
    return np.array(llm.scores[: len(ids)])


def greedy(llm, prompt, steps):
    ids, least = list(prompt), float("inf")
    for _ in range(steps):
        logits = logits_of(llm, ids)[-1]
        top = np.sort(logits)[-2:]
        least = min(least, float(top[1] - top[0]))
        ids.append(int(np.argmax(logits)))
    return ids[len(prompt) :], least


def case(name):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.gguf"
        for seed in range(1, 200):
            told = write(name, seed, path)
            llm = Llama(path, n_ctx=128, n_batch=128, logits_all=True, type_k=0, type_v=0, n_threads=1, n_threads_batch=1, flash_attn=False, verbose=False)
            vocabulary = llm.n_vocab()
            prompt = [int(i) for i in (mix64(np.arange(7, dtype=np.uint64) + np.uint64(seed)) % np.uint64(vocabulary))]
            continuation, margin = greedy(llm, prompt, 64)
            if margin > 1e-3 and len(set(continuation)) > 3:
                break
        else:
            raise SystemExit(f"{name}: no seed has a margin")
        ids = [int(i) for i in (mix64(np.arange(100, dtype=np.uint64) + np.uint64(1000 + seed)) % np.uint64(vocabulary))]
        logits = logits_of(llm, ids)
        texts = [dict(text=t, ids=llm.tokenize(t.encode(), add_bos=True, special=False), with_names=llm.tokenize(t.encode(), add_bos=True, special=True))
                 for t in TEXTS]
        begin = min(int(t.data_offset) for t in GGUFReader(path).tensors)
        with open(path, "rb") as file, open(f"{HERE}/gguf/{name}.front", "wb") as out:
            out.write(file.read(begin))
    positions = [0, 6, 99]
    found = dict(name=name, seed=seed, tensors=told, ids=ids, positions=positions, logits=[[round(float(v), 6) for v in logits[p]] for p in positions],
                 prompt=prompt, continuation=continuation, margin=margin, texts=texts)
    with open(f"{HERE}/gguf/{name}.json", "w") as out:
        json.dump(found, out, separators=(",", ":"))
    print(f"{name}: seed {seed}, margin {margin:.4f}, {vocabulary} tokens, {len(told)} tensors")


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        case(name)
