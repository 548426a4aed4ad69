"""Writes codec.json: frames of the int8 and sparse_loco codecs, computed with PyTorch from docs/codecs.md and not from our code.
python3 tests/golden/make_codec_golden.py > tests/golden/codec.json"""
import json, struct, torch

M = (1 << 64) - 1


def mix64(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M
    return x ^ (x >> 31)


def numbers(n, coarse):
    """Cubes of numbers in [-1, 1); coarse ones have many ties."""
    x = torch.tensor([(mix64(i + 1) >> 40) - (1 << 23) for i in range(n)], dtype=torch.float32) / (1 << 23)
    if coarse: x = torch.round(x * 32) / 32
    return x * x * x


def header(codec, size): return b"ISCF" + struct.pack("<HHQ", codec, 1, size)
def floats(x): return x.to(torch.float32).numpy().tobytes()


def sparse_loco(x):
    chunks = x[: x.numel() // 4096 * 4096].view(-1, 4096)
    order = torch.sort(chunks.abs(), dim=1, descending=True, stable=True).indices[:, :64]
    index = torch.sort(order, dim=1).values
    kept = chunks.gather(1, index).flatten()
    d = kept.double()
    mean, width = d.mean().float(), (1.5 * d.std(unbiased=False)).float()
    code = (kept >= mean - width).long() + (kept >= mean) + (kept >= mean + width)
    table = torch.stack([d[code == b].mean() if (code == b).any() else torch.zeros((), dtype=torch.float64) for b in range(4)])
    out = header(3, x.numel()) + floats(table)
    for i, c in zip(index.tolist(), code.view(-1, 64).tolist()):
        bits = sum(v << (12 * k) for k, v in enumerate(i))
        out += bits.to_bytes(96, "little") + sum(v << (2 * k) for k, v in enumerate(c)).to_bytes(16, "little")
    return out + x[chunks.numel():].to(torch.bfloat16).view(torch.int16).numpy().tobytes()


def int8(x):
    scales, codes = b"", b""
    for b in x.split(256):
        a = b.abs().max()
        scales += floats(a / 127)
        codes += torch.round(b * (torch.tensor(127.0) / a)).to(torch.int8).numpy().tobytes()
    return header(2, x.numel()) + scales + codes


def outer(steps):
    theta = torch.nn.Parameter(torch.tensor([1.0]))
    sgd = torch.optim.SGD([theta], lr=0.7, momentum=0.9, nesterov=True)
    out = []
    for g in steps:
        theta.grad = torch.tensor([g])
        sgd.step()
        out.append(theta.item())
    return out


cases = []
for n, coarse in [(3 * 4096 + 112, False), (2 * 4096 + 16, True)]:
    x = numbers(n, coarse)
    cases.append({"count": n, "coarse": coarse, "sparse_loco": sparse_loco(x).hex(), "int8": int8(x[:1000]).hex()})
steps = [0.5, -0.25, 0.125, 1.0, -2.0]
print(json.dumps({"cases": cases, "gradients": steps, "nesterov": outer(steps)}))
