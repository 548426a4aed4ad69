"""Writes model_golden.json: losses, logits and gradients of small hybrid models, computed by plain PyTorch in float64.

Run: python3 tests/golden/make_model_golden.py   (needs torch and numpy; made with torch 2.15, numpy 2)
Independent of Isthmus but for the tensor names, their order, and the rule that makes weights out of an index (weight_of).
"""
import json, math, os
import numpy as np, torch, torch.nn.functional as F

MASK = (1 << 64) - 1


def mix64(x):  # the finaliser of splitmix64, on numpy uint64
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniform_of(stream, count):  # 24 random bits: in [-0.5, 0.5), exact in float32
    x = np.arange(count, dtype=np.uint64) + np.uint64((stream << 32) & MASK)
    return (mix64(x) >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5


def weight_of(index, name, shape):
    u = uniform_of(index + 1, int(np.prod(shape)))
    if name.endswith("norm.weight") or name.endswith(".D"):
        w = 1 + 0.5 * u
    elif name.endswith("A_log"):
        w = 1 + 2 * u
    elif name.endswith("dt_bias"):
        w = -2 + 2 * u
    elif name.endswith("embed_tokens.weight") or "conv1d" in name:
        w = u
    else:
        w = 0.5 * u
    return torch.tensor(w.reshape(shape), dtype=torch.float64, requires_grad=True)


def shapes(c):
    d, conv, heads = c["d_model"], c["ssm_inner"] + 2 * c["ssm_groups"] * c["ssm_state"], c["ssm_inner"] // c["ssm_head_dim"]
    yield "model.embed_tokens.weight", (c["vocabulary"], d)
    for i, kind in enumerate(c["layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (d,)
        if kind == "a":
            yield p + "self_attn.q_proj.weight", (c["n_heads"] * c["head_dim"], d)
            yield p + "self_attn.k_proj.weight", (c["n_kv_heads"] * c["head_dim"], d)
            yield p + "self_attn.v_proj.weight", (c["n_kv_heads"] * c["head_dim"], d)
            yield p + "self_attn.o_proj.weight", (d, c["n_heads"] * c["head_dim"])
        else:
            yield p + "mamba.in_proj.weight", (c["ssm_inner"] + conv + heads, d)
            yield p + "mamba.conv1d.weight", (conv, 1, c["conv_width"])
            yield p + "mamba.conv1d.bias", (conv,)
            yield p + "mamba.A_log", (heads,)
            yield p + "mamba.D", (heads,)
            yield p + "mamba.dt_bias", (heads,)
            yield p + "mamba.norm.weight", (c["ssm_inner"],)
            yield p + "mamba.out_proj.weight", (d, c["ssm_inner"])
        yield p + "pre_ff_layernorm.weight", (d,)
        yield p + "feed_forward.gate_proj.weight", (c["ffn_hidden"], d)
        yield p + "feed_forward.up_proj.weight", (c["ffn_hidden"], d)
        yield p + "feed_forward.down_proj.weight", (d, c["ffn_hidden"])
    yield "model.final_layernorm.weight", (d,)


def rms_norm(x, gain, eps=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gain


def rotate(x, theta):  # [B, T, H, D], the two halves of a head against each other
    t, half = x.shape[1], x.shape[-1] // 2
    angle = torch.arange(t, dtype=x.dtype)[:, None] * theta ** (-torch.arange(half, dtype=x.dtype) / half)
    c, s = angle.cos()[None, :, None], angle.sin()[None, :, None]
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * c - high * s, high * c + low * s], -1)


def attention(c, w, p, x):
    b, t, _ = x.shape
    q = (x @ w[p + "q_proj.weight"].T).view(b, t, c["n_heads"], -1)
    k = (x @ w[p + "k_proj.weight"].T).view(b, t, c["n_kv_heads"], -1)
    v = (x @ w[p + "v_proj.weight"].T).view(b, t, c["n_kv_heads"], -1)
    repeat = c["n_heads"] // c["n_kv_heads"]
    q, k = rotate(q, c["rope_theta"]), rotate(k, c["rope_theta"])
    k, v = k.repeat_interleave(repeat, 2), v.repeat_interleave(repeat, 2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(c["head_dim"])
    scores = scores.masked_fill(~torch.ones(t, t, dtype=torch.bool).tril(), float("-inf"))
    o = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)
    return o.reshape(b, t, -1) @ w[p + "o_proj.weight"].T


def mamba2(c, w, p, u):  # the recurrence, token by token
    b, t, _ = u.shape
    e, n, g, ph = c["ssm_inner"], c["ssm_state"], c["ssm_groups"], c["ssm_head_dim"]
    h = e // ph
    z, xbc, dt = (u @ w[p + "in_proj.weight"].T).split([e, e + 2 * g * n, h], -1)
    weight = w[p + "conv1d.weight"]
    xbc = F.conv1d(xbc.transpose(1, 2), weight, w[p + "conv1d.bias"], padding=weight.shape[-1] - 1, groups=weight.shape[0])
    x, bb, cc = F.silu(xbc[..., :t].transpose(1, 2)).split([e, g * n, g * n], -1)
    x = x.reshape(b, t, h, ph)
    bb = bb.reshape(b, t, g, n).repeat_interleave(h // g, 2)
    cc = cc.reshape(b, t, g, n).repeat_interleave(h // g, 2)
    delta = F.softplus(dt + w[p + "dt_bias"])
    decay = torch.exp(-delta * torch.exp(w[p + "A_log"]))
    state, ys = torch.zeros(b, h, ph, n, dtype=u.dtype), []
    for i in range(t):
        state = decay[:, i, :, None, None] * state + (delta[:, i, :, None] * x[:, i])[..., None] * bb[:, i, :, None]
        ys.append(torch.einsum("bhpn,bhn->bhp", state, cc[:, i]) + w[p + "D"][:, None] * x[:, i])
    v = torch.stack(ys, 1).reshape(b, t, g, e // g) * F.silu(z).reshape(b, t, g, e // g)
    v = rms_norm(v, w[p + "norm.weight"].view(g, e // g)).reshape(b, t, e)
    return v @ w[p + "out_proj.weight"].T


def hidden_of(c, w, ids):  # what the head reads
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i, kind in enumerate(c["layers"]):
        p = f"model.layers.{i}."
        n = rms_norm(x, w[p + "input_layernorm.weight"])
        x = x + (attention(c, w, p + "self_attn.", n) if kind == "a" else mamba2(c, w, p + "mamba.", n))
        n = rms_norm(x, w[p + "pre_ff_layernorm.weight"])
        f = p + "feed_forward."
        x = x + (F.silu(n @ w[f + "gate_proj.weight"].T) * (n @ w[f + "up_proj.weight"].T)) @ w[f + "down_proj.weight"].T
    return rms_norm(x, w["model.final_layernorm.weight"])


def logits_of(c, w, ids):
    return hidden_of(c, w, ids) @ w["model.embed_tokens.weight"].T


def gradients_of(w):
    gradients = []
    for n, t in w.items():
        g = t.grad.reshape(-1).numpy()
        picks = [(k * 7919) % g.size for k in range(6)]
        gradients.append({"name": n, "norm": float(np.linalg.norm(g)), "picks": picks, "values": [float(g[k]) for k in picks]})
    return gradients


def golden(name, rows, context, **changes):
    c = dict(vocabulary=97, d_model=64, layers="ma", n_heads=4, n_kv_heads=2, head_dim=16, rope_theta=10000.0, ffn_hidden=96,
             ssm_inner=128, ssm_head_dim=16, ssm_state=16, ssm_groups=1, conv_width=4, ssm_chunk=16)
    c.update(changes)
    w = {n: weight_of(i, n, s) for i, (n, s) in enumerate(shapes(c))}
    ids = torch.tensor(((uniform_of(0, rows * (context + 1)) + 0.5) * c["vocabulary"]).astype(np.int64)).view(rows, context + 1)
    logits = logits_of(c, w, ids[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, c["vocabulary"]), ids[:, 1:].reshape(-1), reduction="sum")
    loss.backward()
    positions = [0, 1, context // 2, context - 1]
    return {"name": name, "config": c, "rows": rows, "context": context, "ids": ids.reshape(-1).tolist(), "loss": float(loss),
            "positions": positions, "logits": [logits[0, i].detach().tolist() for i in positions], "gradients": gradients_of(w)}


if __name__ == "__main__":
    out = [golden("hybrid, one group", 2, 40, layers="mam"),
           golden("hybrid, two groups", 3, 16, layers="am", ssm_groups=2, ssm_chunk=8),
           golden("attention, one kv head", 2, 33, layers="aa", n_kv_heads=1),
           golden("mamba2, four groups, head dim 8", 1, 70, layers="mm", ssm_groups=4, ssm_head_dim=8, conv_width=3)]
    with open(os.path.join(os.path.dirname(__file__), "model_golden.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(g) for g in out) + "\n]\n")
