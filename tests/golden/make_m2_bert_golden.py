"""Writes hf/m2_bert.json: logits, the loss of masked tokens and gradients of tiny random M2-BERT models, computed by plain PyTorch in float64.

Run: python3 tests/golden/make_m2_bert_golden.py   (needs torch and numpy; made with torch 2.15, numpy 2)
Written from arXiv:2310.12109 and from what the authors' code does (github.com/HazyResearch/m2), with their names of tensors: convolutions by
Fourier transforms of twice the length, [x1 x2 v] from the projection, no residual around the mixer. Weights are not stored: value_of makes them
from a tensor's name and an index, here and in the test.
"""
import json, math, os
import torch, torch.nn.functional as F
from golden_values import told_gradient, uniform_of

SEED = 1


def value_of(name, shape):
    count = math.prod(shape)
    if name.endswith("pos_emb.t"):
        return torch.linspace(0, 1, count, dtype=torch.float64).reshape(shape)
    u = torch.tensor(uniform_of(name, count, SEED).reshape(shape))
    if name.endswith(("LayerNorm.weight", "layernorm.weight", "filter_fn.bias", "filter_fn2.bias")):
        return 1 + 0.5 * u
    if name.endswith("freq"):
        return 1.5 + u
    if name.endswith("deltas"):
        return -4 - 6 * u
    return (2 if "filter" in name or "pos_emb" in name else 1) * u


class checkpoint(dict):
    """Tensors, made as they are asked for."""

    def __call__(self, name, *shape):
        if name not in self:
            self[name] = value_of(name, shape).requires_grad_(not name.endswith("pos_emb.t"))
        return self[name]


def linear(w, name, x, out, bias=True):
    y = x @ w(name + ".weight", out, x.shape[-1]).T
    return y + w(name + ".bias", out) if bias else y


def layer_norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w(name + ".weight", x.shape[-1]), w(name + ".bias", x.shape[-1]), 1e-12)


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def implicit_filter(w, c, name, network, length):
    z = w(name + "pos_emb.z", 1, c["long_conv_l_max"], c["hyena_emb_dim"])[0, :length]
    t = w(name + "pos_emb.t", 1, c["long_conv_l_max"], 1)[0, :length]
    freq = w(name + "implicit_filter.1.freq", 1, c["hyena_filter_order"])
    h = z
    for layer in ("0", "2", "4"):
        h = torch.sin(c["hyena_w_mod"] * freq * linear(w, name + network + layer, h, c["hyena_filter_order"]))
    h = linear(w, name + network + "6", h, c["hidden_size"], bias=False)
    return (h * torch.exp(-t * w(name + "modulation.deltas", 1, 1, c["hidden_size"])[0].abs())).T  # [d, length]


def long_conv(w, c, name, x):  # x: [batch, d, length]
    length = x.shape[-1]
    k = F.pad(implicit_filter(w, c, name, "implicit_filter.", length), (0, length))
    if c["bidirectional"]:
        k = k + F.pad(implicit_filter(w, c, name, "implicit_filter_rev.", length).flip(-1), (length, 0))
    y = torch.fft.irfft(torch.fft.rfft(x, n=2 * length) * torch.fft.rfft(k), n=2 * length)[..., :length]
    return y + x * w(name + "bias", c["hidden_size"])[:, None]


def mixer(w, c, name, u):
    d, length = c["hidden_size"], u.shape[1]
    x = linear(w, name + "in_linear", u, 3 * d).transpose(1, 2)
    x = F.conv1d(x, w(name + "short_filter.weight", 3 * d, 1, 3), w(name + "short_filter.bias", 3 * d), padding=2, groups=3 * d)[..., :length]
    x1, x2, v = x.split(d, 1)
    y = x2 * long_conv(w, c, name + "filter_fn.", x1 * v)
    if c["residual_long_conv"]:
        y = y + long_conv(w, c, name + "filter_fn2.", u.transpose(1, 2))
    return linear(w, name + "out_linear", y.transpose(1, 2), d)


def matrix(w, c, name, x, out):  # of diagonal blocks, or dense
    if not c["use_monarch_mlp"]:
        return x @ w(name, out, x.shape[-1]).T
    n = c["monarch_mlp_nblocks"]
    return torch.einsum("btni,noi->btno", x.unflatten(-1, (n, -1)), w(name, n, out // n, x.shape[-1] // n)).flatten(-2)


def mlp(w, c, name, x):
    inner = c["intermediate_size"]
    h = matrix(w, c, name + "gated_layers.weight", x, inner * (2 if c["use_glu_mlp"] else 1))
    h = gelu(h[..., :inner]) * h[..., inner:] if c["use_glu_mlp"] else gelu(h)
    y = matrix(w, c, name + "wo.weight", h, c["hidden_size"]) + w(name + "wo.bias", c["hidden_size"])
    return layer_norm(w, name + "layernorm", x + y)


def logits_of(w, c, ids):
    e, d = "bert.embeddings.", c["hidden_size"]
    words = w(e + "word_embeddings.weight", c["vocab_size"], d)
    x = words[ids] + w(e + "token_type_embeddings.weight", c["type_vocab_size"], d)[0]
    if c["use_positional_encodings"]:
        x = x + w(e + "position_embeddings.weight", c["max_position_embeddings"], d)[: ids.shape[1]]
    x = layer_norm(w, e + "LayerNorm", x)
    for i in range(c["num_hidden_layers"]):
        p = f"bert.encoder.layer.{i}."
        x = mlp(w, c, p + "mlp.", mixer(w, c, p + "attention.", x))
    head = "cls.predictions."
    x = layer_norm(w, head + "transform.LayerNorm", gelu(linear(w, head + "transform.dense", x, d)))
    return x @ words.T + w(head + "decoder.bias", c["vocab_size"])


def case(name, rows, context, **changes):
    c = dict(architectures=["BertForMaskedLM"], model_type="m2_bert", vocab_size=61, hidden_size=32, num_hidden_layers=2, intermediate_size=48,
             hidden_act="gelu", monarch_mixer_sequence_mixing=True, long_conv_l_max=24, hyena_emb_dim=5, hyena_filter_order=8, hyena_w=10,
             hyena_w_mod=1, bidirectional=True, residual_long_conv=True, use_glu_mlp=True, use_monarch_mlp=True, monarch_mlp_nblocks=4,
             use_positional_encodings=True, max_position_embeddings=24, type_vocab_size=2, layer_norm_eps=1e-12, torch_dtype="float32")
    c.update(changes)
    w, count = checkpoint(), rows * context
    ids = ((uniform_of("ids", count, SEED) + 0.5) * c["vocab_size"]).astype(int)
    targets = [int(i) if k % 4 == 1 else -1 for k, i in enumerate(ids)]  # each fourth token is masked, by id 3
    masked = torch.tensor([3 if t >= 0 else int(i) for i, t in zip(ids, targets)]).view(rows, context)
    logits = logits_of(w, c, masked)
    loss = F.cross_entropy(logits.reshape(count, -1), torch.tensor(targets), ignore_index=-1, reduction="sum")
    loss.backward()
    tensors = [dict(name=n, shape=list(t.shape)) for n, t in w.items()]
    for entry in tensors:
        if (g := w[entry["name"]].grad) is not None:
            entry |= told_gradient(g, 9)
    places = [0, 7, context - 1]
    return dict(name=name, seed=SEED, config=c, rows=rows, context=context, ids=masked.reshape(-1).tolist(), targets=targets, loss=loss.item(),
                places=places, logits=[[float(f"{v:.9g}") for v in logits[0, t].tolist()] for t in places], tensors=tensors)


if __name__ == "__main__":
    cases = [case("M2-BERT", 2, 13), case("as long as its filters", 1, 24),
             case("one way, dense MLP without gates, no positions", 2, 11, bidirectional=False, residual_long_conv=False, use_glu_mlp=False,
                  use_monarch_mlp=False, use_positional_encodings=False, hyena_w_mod=2)]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "hf", "m2_bert.json"), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
