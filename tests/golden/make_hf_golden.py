"""Writes hf/<architecture>.json: logits, gradients and greedy continuations of tiny random models, computed by Transformers in float64.

Run: python3 tests/golden/make_hf_golden.py [architecture ...]   (needs torch and transformers; made with torch 2.15, transformers 5.24)
Weights are not stored: value_of makes them from a tensor's name and an index, here and in the test. The decoding continues greedily for
64 tokens; a seed is kept only if at every step the likeliest token is ahead of the second by more than 1e-3.
"""
import json, os, re, sys, tempfile
import numpy as np, torch, transformers
from golden_values import told_gradient
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
MASK = (1 << 64) - 1


def mix64(x):  # the finaliser of splitmix64, on numpy uint64
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def key_of(name, seed):  # FNV-1a
    h = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def value_of(name, shape, seed):
    with np.errstate(over="ignore"):
        x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(key_of(name, seed))
    u = (mix64(x) >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5  # exact in float32
    if name.endswith(("norm.weight", "norm_f.weight", "layernorm.weight", "norm.scale", ".D")):
        return 1 + 0.5 * u
    if name.endswith("A_log"):
        return 1 + 2 * u
    if name.endswith(("dt_bias", "dt_proj.bias")):
        return -2 + 2 * u
    if name.endswith("poles"):  # inside the unit circle
        return 1.3 * u
    if "embed" in name or "conv1d" in name or name.endswith(("lm_head.weight", "short_filter_weight")):
        return u
    return 0.75 * u


SMALL = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, max_position_embeddings=256, torch_dtype="float32",
             bos_token_id=0, eos_token_id=0, pad_token_id=None)  # a padding id has no gradient
HEADS = dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=48)
CONFIGS = {
    "llama": transformers.LlamaConfig(**SMALL, **HEADS, rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0,
        low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    "mistral": transformers.MistralConfig(**SMALL, **HEADS, head_dim=16, sliding_window=9, tie_word_embeddings=True),
    "mistral_gelu_tanh": transformers.MistralConfig(**SMALL, **HEADS, sliding_window=9, hidden_act="gelu_pytorch_tanh"),
    "mixtral": transformers.MixtralConfig(**SMALL, **HEADS, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "mamba": transformers.MambaConfig(**SMALL, state_size=5, expand=2, conv_kernel=4, use_mambapy=False),
    "mamba2": transformers.Mamba2Config(**SMALL, state_size=8, num_heads=8, head_dim=8, n_groups=1, expand=2, chunk_size=8),
    "mamba2_groups": transformers.Mamba2Config(**SMALL, state_size=8, num_heads=8, head_dim=8, n_groups=2, expand=2, chunk_size=8),
    "bamba": transformers.BambaConfig(**SMALL, **HEADS, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2,
                                      mamba_d_state=8, mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=8),
    "bamba_mlp_bias": transformers.BambaConfig(
        **SMALL, **HEADS, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8, mamba_d_conv=4,
        mamba_expand=2, mamba_chunk_size=8, mlp_bias=True),
    "granite_dense": transformers.GraniteMoeHybridConfig(
        **SMALL, **HEADS, layer_types=["mamba", "attention"], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8,
        mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=8, position_embedding_type=None, embedding_multiplier=3.0,
        residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0, num_local_experts=0, shared_intermediate_size=40,
        tie_word_embeddings=True),
    "granitemoehybrid": transformers.GraniteMoeHybridConfig(
        **SMALL, **HEADS, layer_types=["mamba", "attention"], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8,
        mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=8, position_embedding_type=None, embedding_multiplier=3.0,
        residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0, num_local_experts=4, num_experts_per_tok=2,
        shared_intermediate_size=40),
    "jamba": transformers.JambaConfig(**{**SMALL, "num_hidden_layers": 4}, **HEADS, attn_layer_period=4, attn_layer_offset=2,
                                      expert_layer_period=2, expert_layer_offset=1, num_experts=4, num_experts_per_tok=2,
                                      mamba_d_state=5, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=3, use_mamba_kernels=False),
    "nemotron_h": transformers.NemotronHConfig(
        **{**SMALL, "num_hidden_layers": 4}, **{**HEADS, "head_dim": 8}, layers_block_type=["mamba", "mlp", "attention", "mlp"],
        mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, conv_kernel=4, expand=2, chunk_size=8, use_mamba_kernels=False),
    "nemotron_h_moe": transformers.NemotronHConfig(
        **{**SMALL, "num_hidden_layers": 5}, **{**HEADS, "head_dim": 8}, layers_block_type=["mamba", "moe", "attention", "moe", "mlp"],
        mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, conv_kernel=4, expand=2, chunk_size=8, use_mamba_kernels=False,
        n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, moe_shared_expert_intermediate_size=40, norm_topk_prob=True,
        routed_scaling_factor=2.5, n_group=1, topk_group=1),
}


def build(config, seed):
    """A model whose tensors, as a checkpoint on disk names them, hold value_of; those names with their shapes; config.json."""
    model = AutoModelForCausalLM.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with open(f"{folder}/config.json") as file:
            told = json.load(file)
        path = f"{folder}/model.safetensors"
        shapes = {name: tuple(t.shape) for name, t in load_file(path).items()}
        save_file({n: torch.tensor(value_of(n, s, seed).reshape(s), dtype=torch.float32) for n, s in shapes.items()}, path, {"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64)
    if hasattr(model.config, "_experts_implementation"):
        model.set_experts_implementation("eager")
    return model.eval(), shapes, told


def greedy(model, prompt, steps):
    ids, least = list(prompt), float("inf")
    with torch.no_grad():
        for _ in range(steps):
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            top = torch.topk(logits, 2)
            least = min(least, (top.values[0] - top.values[1]).item())
            ids.append(int(top.indices[0]))
    return ids[len(prompt):], least


def gradient_of(key, gradients):
    """The gradient of a tensor as checkpoints name it. In memory the experts of a layer are one array, gate above up if they are gated."""
    if key not in gradients and "model.embeddings.weight" in gradients:  # Nemotron-H
        key = key.replace("backbone.", "model.")
    folder, _, rest = key.partition(".block_sparse_moe.")
    one = re.fullmatch(r"(.*\.)experts\.(\d+)\.(\w+)\.weight", key)
    if key in gradients:
        return gradients[key]
    if one:
        at = next(n for n in (one[1], one[1].replace("block_sparse_moe", "mlp")) if n + "experts.down_proj" in gradients) + "experts."
        part, e = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}.get(one[3], one[3]), int(one[2])
        if at + part in gradients:
            return gradients[at + part][e]
        return gradients[at + "gate_up_proj"][e].chunk(2)[part == "up_proj"]
    return gradients[folder + {"input_linear.weight": ".block_sparse_moe.experts.gate_up_proj", "gate.weight": ".mlp.gate.weight",
                               "output_linear.weight": ".block_sparse_moe.experts.down_proj",
                               "router.layer.weight": ".block_sparse_moe.router.weight"}[rest]]


def case(name, config):
    for seed in range(1, 200):
        model, shapes, told = build(config, seed)
        prompt = [int(i) for i in (mix64(np.arange(7, dtype=np.uint64) + np.uint64(seed)) % np.uint64(config.vocab_size))]
        continuation, margin = greedy(model, prompt, 64)
        if margin > 1e-3 and len(set(continuation)) > 3:
            break
    else:
        raise SystemExit(f"{name}: no seed has a margin")
    rows, context = 2, 13
    ids = (mix64(np.arange(rows * (context + 1), dtype=np.uint64) + np.uint64(1000 + seed)) % np.uint64(config.vocab_size)).astype(int)
    batch = torch.tensor(ids.reshape(rows, context + 1))
    logits = model(batch[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, config.vocab_size), batch[:, 1:].reshape(-1), reduction="sum")
    loss.backward()
    tensors = []
    gradients = {key: p.grad for key, p in model.named_parameters()}
    for key, shape in sorted(shapes.items()):
        if key.endswith("correction_bias"):  # of the choice alone
            tensors.append(dict(name=key, shape=list(shape)))
            continue
        tensors.append(dict(name=key, shape=list(shape), **told_gradient(gradient_of(key, gradients))))
    return dict(name=name, seed=seed, config=told, rows=rows, context=context, ids=[int(i) for i in ids], loss=loss.item(),
                logits=[[round(v, 9) for v in logits[r, t].tolist()] for r, t in ((0, 0), (0, 7), (1, context - 1))],
                positions=[[0, 0], [0, 7], [1, context - 1]], prompt=prompt, continuation=continuation, margin=margin, tensors=tensors)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[1:] or CONFIGS:
        found = case(name, CONFIGS[name])
        with open(f"{here}/hf/{name}.json", "w") as out:
            json.dump(found, out, separators=(",", ":"))
        print(f"{name}: seed {found['seed']}, margin {found['margin']:.4f}, loss {found['loss']:.4f}, {len(found['tensors'])} tensors")
