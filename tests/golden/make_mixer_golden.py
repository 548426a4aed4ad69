"""Writes mixer_golden.json: outputs and gradients of Monarch mixers, Monarch MLPs, Hyena with the filters of StripedHyena 2 and gated DeltaNet, and
losses, logits and gradients of small models with LayerNorms, MLPs with biases, attention with a window and a z-loss, computed by plain
PyTorch in float64.

Run: python3 tests/golden/make_mixer_golden.py   (needs torch, transformers and numpy: requirements.txt)
Written from the papers (arXiv:2310.12109, 2302.10866, 2503.01868, 2412.06464, 2204.00595, 1607.06450, 2204.02311), convolutions as sums, not by
Fourier transforms. The gated DeltaNet is compared with Transformers' (Qwen3-Next), which computes its rule in float32.
Independent of Isthmus but for the tensors' names and the rule that makes weights out of names (weight_of).
"""
import json, math, os
import torch, torch.nn.functional as F
from golden_values import uniform_of
from transformers.models.qwen3_next import modeling_qwen3_next as qwen


def weight_of(name, shape):
    u = uniform_of(name, math.prod(shape), 1)
    if name.endswith("freq"):
        w = 1.5 + u
    elif name.endswith("decay"):
        w = 4 + 6 * u
    elif name.endswith("poles"):  # the logarithms of decays
        w = -0.6 - u
    elif name.endswith(("norm.weight", ".D")):
        w = 1 + 0.5 * u
    else:
        w = u if name.endswith(".bias") else 1.5 * u
    return torch.tensor(w.reshape(shape), dtype=torch.float64, requires_grad=True)


class tensors(dict):
    """Made as they are asked for."""

    def __call__(self, name, *shape):
        if name not in self:
            self[name] = weight_of(name, shape)
        return self[name]


def linear(w, name, x, out, bias):
    y = x @ w(name + ".weight", out, x.shape[-1]).T
    return y + w(name + ".bias", out) if bias else y


def activation(kind, x):
    return {"gelu": lambda v: 0.5 * v * (1 + torch.erf(v / math.sqrt(2))), "silu": lambda v: v * torch.sigmoid(v),
            "relu2": lambda v: torch.relu(v) ** 2}[kind](x)


# ---- Monarch Mixer


def implicit_filter(w, prefix, way, c, d, taps):
    """[taps, d]: what a network of sines says of the tap's time, fading."""
    t = torch.arange(c["context"], dtype=torch.float64)
    bands = (c["features"] - 1) // 2
    f = torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64)
    angle = 2 * math.pi * t[:, None] / c["context"] * f
    time = t / (c["context"] - 1)
    z = w(prefix + "features", c["context"], c["features"]) if c["learned"] else torch.cat([time[:, None], angle.cos(), -angle.sin()], 1)
    freq = w(prefix + "freq", c["order"])
    h = z
    for layer in ("0", "2", "4"):
        h = torch.sin(freq * linear(w, prefix + way + layer, h, c["order"], True))
    h = linear(w, prefix + way + "6", h, d, False)
    return (h * torch.exp(-time[:, None] * w(prefix + "decay", d).abs()))[:taps]


def long_conv(w, prefix, c, x):
    """y_t = sum_s h_s x_{t-s} + D x_t, and with both ways sum_s g_s x_{t+1+s} beside it."""
    length, d = x.shape[1], x.shape[2]
    taps = min(length, c["context"])
    h = implicit_filter(w, prefix, "", c, d, taps)
    g = implicit_filter(w, prefix, "reverse.", c, d, taps) if c["both_ways"] else None
    rows = []
    for t in range(length):
        y = w(prefix + "D", d) * x[:, t]
        y = y + sum(h[s] * x[:, t - s] for s in range(taps) if t - s >= 0)
        if g is not None:
            y = y + sum((g[s] * x[:, t + 1 + s] for s in range(taps) if t + 1 + s < length), torch.zeros_like(y))
        rows.append(y)
    return torch.stack(rows, 1)


def monarch_mixer(w, c, u):
    d, length = u.shape[2], u.shape[1]
    z = linear(w, "in_proj", u, 3 * d, c["bias"])
    taps = w("short_filter.weight", 3 * d, 1, c["short"])
    short = w("short_filter.bias", 3 * d) + sum(
        taps[:, 0, k] * F.pad(z, (0, 0, c["short"] - 1 - k, 0))[:, :length] for k in range(c["short"]))
    x2, x1, v = short.split(d, -1)
    y = x2 * long_conv(w, "filter.", c, x1 * v)
    if c["residual"]:
        y = y + long_conv(w, "residual_filter.", c, u)
    return linear(w, "out_proj", y, d, c["bias"])


# ---- Hyena, StripedHyena 2's filters


def short_conv(w, name, z, width):
    taps = w(name + ".weight", z.shape[2], 1, width)
    return sum(taps[:, 0, k] * F.pad(z, (0, 0, width - 1 - k, 0))[:, : z.shape[1]] for k in range(width))


def hyena_mixer(w, c, u):
    d, length = u.shape[2], u.shape[1]
    z = short_conv(w, "short_filter", linear(w, "in_proj", u, 3 * d, c["bias"]), c["short"]) + w("short_filter.bias", 3 * d)
    x2, x1, v = z.split(d, -1)
    gated = x1 * v
    if c["filter"] == "decays":  # h_t = sum_n R_n exp(t l_n)
        l, residues = w("filter.poles", d, c["modes"]), w("filter.residues", d, c["modes"])
        h = torch.stack([(residues * torch.exp(t * l)).sum(-1) for t in range(length)], -1)
    else:  # the last tap is that of the token itself; each filter serves neighbouring channels
        h = w("filter.weight", c["filters"], 1, c["taps"])[:, 0].flip(-1).repeat_interleave(d // c["filters"], 0)
    y = torch.stack([sum(h[:, s] * gated[:, t - s] for s in range(min(t + 1, h.shape[1]))) for t in range(length)], 1)
    return linear(w, "out_proj", x2 * (y + w("filter.D", d) * gated), d, c["bias"])


# ---- gated DeltaNet


def gated_delta_net(w, c, u):
    heads, key, value = c["heads"], c["key_dim"], c["value_dim"]
    widths = [heads * key, heads * key, heads * value, heads * value, heads, heads]
    q, k, v, z, b, a = linear(w, "in_proj", u, sum(widths), False).split(widths, -1)
    mixed = F.silu(short_conv(w, "conv1d", torch.cat([q, k, v], -1), c["conv"]))
    q, k, v, z = (t.unflatten(-1, (heads, -1)) for t in (*mixed.split(widths[:3], -1), z))
    unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
    q, k = unit(q) / key**0.5, unit(k)
    decay = torch.exp(-w("A_log", heads).exp() * F.softplus(a + w("dt_bias", heads)))
    s, rows = torch.zeros(u.shape[0], heads, key, value, dtype=u.dtype), []
    for t in range(u.shape[1]):
        s = s * decay[:, t, :, None, None]
        error = (v[:, t] - torch.einsum("bhkv,bhk->bhv", s, k[:, t])) * b[:, t].sigmoid()[..., None]
        s = s + torch.einsum("bhk,bhv->bhkv", k[:, t], error)
        rows.append(torch.einsum("bhkv,bhk->bhv", s, q[:, t]))
    o = torch.stack(rows, 1)
    y = o * torch.rsqrt((o * o).mean(-1, keepdim=True) + 1e-5) * w("norm.weight", value) * F.silu(z)
    return linear(w, "out_proj", y.flatten(-2), u.shape[2], False)


def check_gated_delta_net(w, c, x, y, dy):
    """That Transformers' own layer gives the same output and gradients; its rows of q, k, v, z lie head by head, as do those of b, a."""
    heads, key, value = c["heads"], c["key_dim"], c["value_dim"]
    layer = qwen.Qwen3NextGatedDeltaNet(qwen.Qwen3NextConfig(
        hidden_size=x.shape[2], linear_num_value_heads=heads, linear_num_key_heads=heads, linear_key_head_dim=key, linear_value_head_dim=value,
        linear_conv_kernel_dim=c["conv"], rms_norm_eps=1e-5, num_hidden_layers=1, layer_types=["linear_attention"]), 0).double()
    begin, parts = 0, []
    for width in (key, key, value, value, 1, 1):
        parts.append(torch.arange(begin, begin + heads * width).view(heads, width))
        begin += heads * width
    qkvz, ba = (torch.cat(p, 1).reshape(-1) for p in (parts[:4], parts[4:]))
    pairs = [(layer.in_proj_qkvz.weight, "in_proj.weight", qkvz), (layer.in_proj_ba.weight, "in_proj.weight", ba)]
    pairs += [(p, n, slice(None)) for p, n in ((layer.conv1d.weight, "conv1d.weight"), (layer.A_log, "A_log"), (layer.dt_bias, "dt_bias"),
                                               (layer.norm.weight, "norm.weight"), (layer.out_proj.weight, "out_proj.weight"))]
    with torch.no_grad():
        for theirs, name, rows in pairs:
            theirs.copy_(w[name][rows])
    theirs = layer(x.detach())
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    (theirs * dy).sum().backward()
    near = lambda a, b: (a - b).abs().max() < 1e-5 * b.abs().max()
    assert near(theirs, y), "another output than Transformers'"
    for p, name, rows in pairs:
        assert near(p.grad, w[name].grad[rows]), f"another gradient of {name} than Transformers'"


# ---- Monarch MLP


def blocks_of(w, name, x, blocks, out):
    """A matrix of diagonal blocks."""
    y = torch.einsum("btki,koi->btko", x.unflatten(-1, (blocks, -1)), w(name, blocks, out // blocks, x.shape[-1] // blocks))
    return y.flatten(-2)


def monarch_mlp(w, c, x):
    h = blocks_of(w, "up_proj.weight", x, c["blocks"], c["hidden"] * (2 if c["gated"] else 1))
    if c["gated"]:
        gate, up = h.chunk(2, -1)
        h = activation(c["activation"], gate) * up
    else:
        h = activation(c["activation"], h)
    if c["shuffle"]:  # channels (block, within) -> (within, block)
        h = h.unflatten(-1, (c["blocks"], -1)).transpose(-1, -2).flatten(-2)
    y = blocks_of(w, "down_proj.weight", h, c["blocks"], x.shape[-1])
    return y + w("down_proj.bias", x.shape[-1]) if c["out_bias"] else y


def short_number(x):
    return float(f"{x:.9g}")


def gradients_of(w):
    out = []
    for name, t in w.items():
        g = t.grad.reshape(-1)
        picks = sorted({(k * 7919) % g.numel() for k in range(4)})
        out.append(dict(name=name, shape=list(t.shape), norm=short_number(g.norm().item()), picks=picks,
                        values=[short_number(g[k].item()) for k in picks]))
    return out


def layer_case(name, kind, batch, length, config):
    w, d = tensors(), 8
    x, dy = (torch.tensor(2 * uniform_of(n, batch * length * d, 1).reshape(batch, length, d)) for n in ("x", "dy"))
    x.requires_grad_()
    mixers = {"monarch": monarch_mixer, "monarch_mlp": monarch_mlp, "hyena": hyena_mixer, "gated_delta_net": gated_delta_net}
    y = mixers[kind](w, config, x)
    (y * dy).sum().backward()
    if kind == "gated_delta_net":
        check_gated_delta_net(w, config, x, y, dy)
    flat = lambda t: [short_number(v) for v in t.reshape(-1).tolist()]
    return dict(name=name, kind=kind, config=config, d_model=d, batch=batch, length=length, y=flat(y), dx=flat(x.grad), gradients=gradients_of(w))


# ---- models


def layer_norm(w, name, x, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * w(name + ".weight", x.shape[-1]) + w(name + ".bias", x.shape[-1])


def rms_norm(w, name, x, eps=1e-5):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w(name + ".weight", x.shape[-1])


def turned(x, theta=10000.0):  # [B, T, H, D]: the halves of a head against each other
    length, half = x.shape[1], x.shape[-1] // 2
    angle = torch.arange(length, dtype=x.dtype)[:, None] * theta ** (-torch.arange(half, dtype=x.dtype) / half)
    c, s = angle.cos()[None, :, None], angle.sin()[None, :, None]
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * c - high * s, high * c + low * s], -1)


def attention(w, p, c, u):
    heads, kv_heads, dim, length = c["n_heads"], c["n_kv_heads"], c["head_dim"], u.shape[1]
    q, k, v = (linear(w, p + f"{n}_proj", u, h * dim, c["qkv_bias"]).unflatten(-1, (h, dim))
               for n, h in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
    q, k = turned(q), turned(k)
    k, v = (t.repeat_interleave(heads // kv_heads, 2) for t in (k, v))
    at = torch.arange(length)
    seen = at[None] <= at[:, None]
    if c["both_ways"]:
        seen = torch.ones_like(seen)
    if c["window"]:
        seen &= at[None] > at[:, None] - c["window"]
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(dim)
    o = torch.einsum("bhij,bjhd->bihd", scores.masked_fill(~seen, float("-inf")).softmax(-1), v)
    return linear(w, p + "o_proj", o.flatten(-2), c["d_model"], c["out_bias"])


def mlp(w, p, c, x):
    h = activation(c["activation"], linear(w, p + ("gate_proj" if c["gated"] else "up_proj"), x, c["ffn_hidden"], c["ffn_bias"]))
    if c["gated"]:
        h = h * linear(w, p + "up_proj", x, c["ffn_hidden"], c["ffn_bias"])
    return linear(w, p + "down_proj", h, c["d_model"], c["ffn_bias"])


def logits_of(w, c, ids):
    norm = layer_norm if c["norm"] == "layer_norm" else rms_norm
    embedding = w("model.embed_tokens.weight", c["vocabulary"], c["d_model"])
    x = embedding[ids]
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        x = x + attention(w, p + "self_attn.", c, norm(w, p + "input_layernorm", x))
        x = x + mlp(w, p + "feed_forward.", c, norm(w, p + "pre_ff_layernorm", x))
    return norm(w, "model.final_layernorm", x) @ embedding.T


def model_case(name, rows, context, **changes):
    c = dict(vocabulary=41, d_model=16, layers=2, norm="layer_norm", n_heads=4, n_kv_heads=2, head_dim=6, window=0, both_ways=False, qkv_bias=False,
             out_bias=False, ffn_hidden=24, activation="gelu", gated=False, ffn_bias=False, z_loss=0.0)
    c.update(changes)
    w = tensors()
    ids = torch.tensor(((uniform_of("ids", rows * (context + 1), 1) + 0.5) * c["vocabulary"]).astype(int)).view(rows, context + 1)
    logits = logits_of(w, c, ids[:, :-1])
    lse = torch.logsumexp(logits, -1)
    loss = (lse - logits.gather(-1, ids[:, 1:, None])[..., 0]).sum()
    (loss + c["z_loss"] * (lse * lse).sum()).backward()
    positions = [0, context // 2, context - 1]
    return dict(name=name, config=c, rows=rows, context=context, ids=ids.reshape(-1).tolist(), loss=loss.item(), positions=positions,
                logits=[[short_number(v) for v in logits[0, t].tolist()] for t in positions], gradients=gradients_of(w))


MONARCH = dict(context=16, features=5, order=6, short=3, learned=False, both_ways=False, residual=False, bias=True)
HYENA = dict(filter="decays", modes=3, short=3, bias=True, taps=1, filters=8)
DELTA = dict(heads=2, key_dim=3, value_dim=4, conv=4, chunk=4)
BLOCKS = dict(hidden=20, blocks=4, activation="gelu", gated=False, shuffle=True, out_bias=False)

if __name__ == "__main__":
    layers = [layer_case("Monarch mixer", "monarch", 2, 11, MONARCH),
              layer_case("Monarch mixer, residual convolution, longer than its filters", "monarch", 1, 13,
                         {**MONARCH, "context": 9, "features": 3, "short": 4, "residual": True, "bias": False}),
              layer_case("Monarch mixer, both ways", "monarch", 2, 7, {**MONARCH, "context": 12, "features": 7, "both_ways": True}),
              layer_case("Monarch mixer, both ways, residual convolution, as long as its filters", "monarch", 2, 10,
                         {**MONARCH, "context": 10, "both_ways": True, "residual": True}),
              layer_case("Monarch mixer, both ways, residual convolution, learned features", "monarch", 1, 8,
                         {**MONARCH, "context": 12, "learned": True, "both_ways": True, "residual": True}),
              layer_case("Monarch MLP", "monarch_mlp", 1, 9, BLOCKS),
              layer_case("Monarch MLP, gated, shuffled, two blocks", "monarch_mlp", 1, 9, {**BLOCKS, "blocks": 2, "gated": True, "activation": "silu"}),
              layer_case("Monarch MLP, gated, not shuffled, bias", "monarch_mlp", 1, 9, {**BLOCKS, "gated": True, "shuffle": False, "out_bias": True}),
              layer_case("Hyena, decays", "hyena", 2, 9, HYENA),
              layer_case("Hyena, explicit taps, a filter a channel, no biases", "hyena", 1, 9, {**HYENA, "filter": "explicit", "taps": 7, "bias": False}),
              layer_case("Hyena, more explicit taps than tokens, filters shared", "hyena", 2, 6,
                         {**HYENA, "filter": "explicit", "taps": 11, "filters": 2, "short": 4}),
              layer_case("gated DeltaNet", "gated_delta_net", 2, 9, DELTA)]
    models = [model_case("LayerNorms, MLP with biases", 2, 12, ffn_bias=True),
              model_case("LayerNorms, gated MLP with biases, all biases of attention", 1, 9, ffn_bias=True, gated=True, activation="silu", qkv_bias=True,
                         out_bias=True),
              model_case("attention to the last five tokens", 2, 14, norm="rms_norm", window=5, activation="relu2"),
              model_case("attention both ways", 2, 9, both_ways=True),
              model_case("z-loss", 2, 10, norm="rms_norm", z_loss=0.02)]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "mixer_golden.json"), "w") as out:
        out.write('{"layers":[\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in layers) + '\n],"models":[\n'
                  + ",\n".join(json.dumps(c, separators=(",", ":")) for c in models) + "\n]}\n")
