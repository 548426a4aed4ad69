"""Writes hf/stripedhyena*.json: logits, gradients and greedy continuations of tiny random StripedHyena models, in float64.

Run: python3 tests/golden/make_stripedhyena_golden.py [case ...]   (needs torch and transformers; made with torch 2.15)
Transformers has no such class, so that the model is written out here: the operator of Hyena (arXiv:2302.10866, order 2) with filters in modal form
(arXiv:2310.18780, eq. 3.2), alternating with attention (rotary positions over two halves, grouped keys), each followed by a gated MLP. Convolutions
are sums, term by term. Numbers and files are as in make_hf_golden.py.
"""
import json, os, sys
import numpy as np, torch
import torch.nn.functional as F
from golden_values import told_gradient
from make_hf_golden import greedy, mix64, value_of

SMALL = dict(architectures=["StripedHyenaModelForCausalLM"], model_type="stripedhyena", vocab_size=61, hidden_size=32, num_filters=32, num_layers=4,
             attn_layer_idxs=[1, 3], num_attention_heads=4, short_filter_length=3, short_filter_bias=True, final_norm=True, eps=1e-5, max_seqlen=256,
             use_flash_rmsnorm=True, torch_dtype="float32", bos_token_id=0, eos_token_id=0)
CASES = {
    # As the released 7B: layer 4 of 4 is none.
    "stripedhyena": dict(**SMALL, hyena_layer_idxs=[0, 2, 4], proj_groups=2, hyena_filter_groups=1, column_split_hyena=True, state_size=3, inner_mlp_size=48,
                         mlp_activation="silu", qkv_proj_bias=False, mha_out_proj_bias=False, rotary_emb_base=500000, tie_embeddings=False),
    # All that differs: shared filters, channels side by side, biases, GELU, tied embeddings, positions between, names without a prefix.
    "stripedhyena_plain": dict(**{**SMALL, "hidden_size": 64, "num_filters": 64, "num_layers": 2, "attn_layer_idxs": [1], "num_attention_heads": 8},
                               hyena_layer_idxs=[0], proj_groups=8, hyena_filter_groups=8, column_split_hyena=False, state_size=2, inner_mlp_size=80,
                               mlp_activation="gelu", qkv_proj_bias=True, mha_out_proj_bias=True, rotary_emb_base=10000,
                               use_interpolated_rotary_pos_emb=True, rotary_emb_scaling_factor=4.0, tie_embeddings=True),
}


def shapes_of(c):
    d, hidden, head = c["hidden_size"], c["inner_mlp_size"], c["hidden_size"] // c["num_attention_heads"]
    qkv = d + 2 * head * (c["num_attention_heads"] // c["proj_groups"])
    filters = d // c["hyena_filter_groups"]
    out = {"embedding_layer.weight": (c["vocab_size"], d), "norm.scale": (d,)}
    if not c["tie_embeddings"]:
        out["unembed.weight"] = (c["vocab_size"], d)
    for i in range(c["num_layers"]):
        block = {"pre_norm.scale": (d,), "post_norm.scale": (d,), "mlp.l1.weight": (hidden, d), "mlp.l2.weight": (hidden, d), "mlp.l3.weight": (d, hidden)}
        if i in c["attn_layer_idxs"]:
            block |= {"inner_mha_cls.Wqkv.weight": (qkv, d), "inner_mha_cls.out_proj.weight": (d, d), "inner_mha_cls.rotary_emb.inv_freq": (head // 2,)}
            if c["qkv_proj_bias"]:
                block["inner_mha_cls.Wqkv.bias"] = (qkv,)
            if c["mha_out_proj_bias"]:
                block["inner_mha_cls.out_proj.bias"] = (d,)
        else:
            block |= {"projections.weight": (3 * d, d), "projections.bias": (3 * d,), "filter.short_filter_weight": (3 * d, 1, c["short_filter_length"]),
                      "filter.short_filter_bias": (3 * d,), "filter.poles": (filters, c["state_size"], 1, 2),
                      "filter.residues": (filters, c["state_size"], 1, 2), "filter.D": (d,), "out_filter_dense.weight": (d, d), "out_filter_dense.bias": (d,)}
        out |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    prefix = "" if c["tie_embeddings"] else "backbone."
    return {prefix + name: shape for name, shape in out.items()}


def inverse_frequencies(c):
    width = c["hidden_size"] // c["num_attention_heads"]
    return c["rotary_emb_base"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


class StripedHyena:
    def __init__(self, config, seed):
        self.c, self.shapes = config, shapes_of(config)
        self.prefix = "backbone." if "backbone.norm.scale" in self.shapes else ""
        self.weights = {n: torch.tensor(value_of(n, s, seed).astype(np.float32).astype(np.float64).reshape(s), requires_grad=True) for n, s in self.shapes.items() if not n.endswith("inv_freq")}

    def __call__(self, ids, use_cache=False):
        embedding = self.weights[self.prefix + "embedding_layer.weight"]
        x = embedding[ids]
        for i in range(self.c["num_layers"]):
            block = lambda name: self.weights.get(f"{self.prefix}blocks.{i}.{name}")
            normed = self.norm(x, block("pre_norm.scale"))
            x = x + (self.attention(normed, block) if i in self.c["attn_layer_idxs"] else self.hyena(normed, block))
            n = self.norm(x, block("post_norm.scale"))
            act = {"silu": F.silu, "gelu": F.gelu}[self.c["mlp_activation"]]
            x = x + (act(n @ block("mlp.l1.weight").T) * (n @ block("mlp.l2.weight").T)) @ block("mlp.l3.weight").T
        self.logits = self.norm(x, self.weights[self.prefix + "norm.scale"]) @ self.weights.get(self.prefix + "unembed.weight", embedding).T
        return self

    def norm(self, x, scale):
        return scale * x / (x.square().mean(-1, keepdim=True) + self.c["eps"]).sqrt()

    def attention(self, x, block):
        batch, length, d = x.shape
        heads, head = self.c["num_attention_heads"], d // self.c["num_attention_heads"]
        kv_heads = heads // self.c["proj_groups"]
        qkv = x @ block("inner_mha_cls.Wqkv.weight").T
        if self.c["qkv_proj_bias"]:
            qkv = qkv + block("inner_mha_cls.Wqkv.bias")
        q, k, v = (part.reshape(batch, length, -1, head).transpose(1, 2) for part in qkv.split([d, kv_heads * head, kv_heads * head], -1))
        stretched = self.c.get("rotary_emb_scaling_factor", 1.0) if self.c.get("use_interpolated_rotary_pos_emb") else 1.0
        angles = torch.outer(torch.arange(length, dtype=torch.float64) / stretched, inverse_frequencies(self.c))
        q, k = self.rotate(q, angles), self.rotate(k, angles)
        k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (k, v))
        scores = q @ k.transpose(-1, -2) / head**0.5
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, d) @ block("inner_mha_cls.out_proj.weight").T
        return y + block("inner_mha_cls.out_proj.bias") if self.c["mha_out_proj_bias"] else y

    def rotate(self, x, angles):
        a, b = x.chunk(2, -1)
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)

    def hyena(self, x, block):
        batch, length, d = x.shape
        z = (x @ block("projections.weight").T + block("projections.bias")).transpose(1, 2)  # [batch, 3 d, length]
        taps = block("filter.short_filter_weight")[:, 0]
        padded = F.pad(z, (taps.shape[1] - 1, 0))
        z = sum(taps[:, k, None] * padded[..., k : k + length] for k in range(taps.shape[1])) + block("filter.short_filter_bias")[:, None]
        if self.c["column_split_hyena"]:  # head by head [x2 | x1 | v]
            z = z.reshape(batch, self.c["num_attention_heads"], 3, -1, length)
            x2, x1, v = (z[:, :, part].reshape(batch, d, length) for part in range(3))
        else:
            x2, x1, v = z.chunk(3, 1)
        w = x1 * v
        poles, residues = (torch.view_as_complex(block(f"filter.{name}"))[..., 0] for name in ("poles", "residues"))
        h = torch.stack([(residues * poles**k).sum(-1).real for k in range(length)], -1).repeat_interleave(self.c["hyena_filter_groups"], 0)
        y = torch.stack([(h[:, : t + 1].flip(-1) * w[..., : t + 1]).sum(-1) for t in range(length)], -1)
        y = x2 * (y + block("filter.D")[:, None] * w)
        return y.transpose(1, 2) @ block("out_filter_dense.weight").T + block("out_filter_dense.bias")


def case(name, config):
    vocabulary = np.uint64(config["vocab_size"])
    for seed in range(1, 200):
        model = StripedHyena(config, seed)
        prompt = [int(i) for i in (mix64(np.arange(7, dtype=np.uint64) + np.uint64(seed)) % vocabulary)]
        continuation, margin = greedy(model, prompt, 64)
        if margin > 1e-3 and len(set(continuation)) > 3:
            break
    else:
        raise SystemExit(f"{name}: no seed has a margin")
    rows, context = 2, 13
    ids = (mix64(np.arange(rows * (context + 1), dtype=np.uint64) + np.uint64(1000 + seed)) % vocabulary).astype(int)
    batch = torch.tensor(ids.reshape(rows, context + 1))
    logits = model(batch[:, :-1]).logits
    loss = F.cross_entropy(logits.reshape(-1, config["vocab_size"]), batch[:, 1:].reshape(-1), reduction="sum")
    loss.backward()
    tensors = []
    for key, shape in sorted(model.shapes.items()):
        told = dict(name=key, shape=list(shape))
        if key.endswith("inv_freq"):
            told["numbers"] = inverse_frequencies(config).tolist()
        else:
            told |= told_gradient(model.weights[key].grad)
        tensors.append(told)
    return dict(name=name, seed=seed, config=config, rows=rows, context=context, ids=[int(i) for i in ids], loss=loss.item(),
                logits=[[round(v, 9) for v in logits[r, t].tolist()] for r, t in ((0, 0), (0, 7), (1, context - 1))],
                positions=[[0, 0], [0, 7], [1, context - 1]], prompt=prompt, continuation=continuation, margin=margin, tensors=tensors)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[1:] or CASES:
        found = case(name, CASES[name])
        with open(f"{here}/hf/{name}.json", "w") as out:
            json.dump(found, out, separators=(",", ":"))
        print(f"{name}: seed {found['seed']}, margin {found['margin']:.4f}, loss {found['loss']:.4f}, {len(found['tensors'])} tensors")
