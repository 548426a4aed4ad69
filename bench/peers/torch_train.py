"""The models of train_bench in plain PyTorch (1.13 or later), as its users write them: what train_bench measures us against.
One line of JSON: tokens a second of forward + backward + AdamW, by wall and by CPU time. Attention is PyTorch's fused one where it has it;
--compile tries its compiler as well and tells the faster of the two.
  python3 torch_train.py --d 256 --layers 8 --pattern a2 --dtype bf16 --threads 2"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

HEAD = 64


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)
        return x * scale.to(x.dtype) * self.gain


def rotate(x, cosine, sine):
    low, high = x.chunk(2, -1)
    return x * cosine + torch.cat([-high, low], -1) * sine


class Attention(nn.Module):
    def __init__(self, d, context):
        super().__init__()
        self.heads = d // HEAD
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        angle = torch.outer(torch.arange(context).float(), 10000.0 ** (-torch.arange(0, HEAD, 2).float() / HEAD)).repeat(1, 2)
        self.register_buffer("cosine", angle.cos())
        self.register_buffer("sine", angle.sin())
        self.register_buffer("future", torch.ones(context, context, dtype=torch.bool).triu(1))

    def forward(self, x):
        batch, length, d = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        cosine, sine = self.cosine.to(q.dtype), self.sine.to(q.dtype)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        if hasattr(F, "scaled_dot_product_attention"):
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(mixed.transpose(1, 2).reshape(batch, length, d))
        scores = q @ k.transpose(-1, -2) * HEAD ** -0.5
        weights = F.softmax(scores.masked_fill(self.future, float("-inf")), -1).to(v.dtype)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, length, d))


def log_decay(a):
    """[..., q] -> [..., q, q]: sums of a over (s, t] on and below the diagonal, -inf above."""
    total = a.cumsum(-1)
    above = torch.ones(a.shape[-1], a.shape[-1], dtype=torch.bool).triu(1)
    return (total[..., :, None] - total[..., None, :]).masked_fill(above, float("-inf"))


def state_space_dual(x, dt, rate, b, c, chunk):
    """x [B, T, H, P], dt [B, T, H], rate [H] < 0, b, c [B, T, N]: chunked matrix form of Mamba-2."""
    batch, length, heads, width = x.shape
    n = length // chunk
    steps = (x * dt[..., None]).view(batch, n, chunk, heads, width).transpose(2, 3)
    a = (dt * rate).view(batch, n, chunk, heads).transpose(2, 3)
    b, c = b.view(batch, n, chunk, -1), c.view(batch, n, chunk, -1)
    total = a.cumsum(-1)
    inside = ((c @ b.transpose(-1, -2))[:, :, None] * log_decay(a).exp()).to(steps.dtype) @ steps
    kept = (steps * (total[..., -1:] - total).exp()[..., None].to(steps.dtype)).transpose(-1, -2) @ b[:, :, None].to(steps.dtype)
    state, before, whole = torch.zeros_like(kept[:, 0]), [], total[..., -1].exp()
    for i in range(n):
        before.append(state)
        state = state * whole[:, i, :, None, None].to(state.dtype) + kept[:, i]
    before = torch.stack(before, 1)
    across = (c[:, :, None].to(before.dtype) @ before.transpose(-1, -2)) * total.exp()[..., None].to(before.dtype)
    return (inside + across).transpose(2, 3).reshape(batch, length, heads, width)


class Mamba2(nn.Module):
    def __init__(self, d, state=64, chunk=64):
        super().__init__()
        self.inner, self.state, self.chunk, self.heads = 2 * d, state, chunk, 2 * d // HEAD
        mixed = self.inner + 2 * state
        self.project = nn.Linear(d, self.inner + mixed + self.heads, bias=False)
        self.conv = nn.Conv1d(mixed, mixed, 4, groups=mixed, padding=3)
        self.a_log = nn.Parameter(torch.linspace(1, 16, self.heads).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.dt_bias = nn.Parameter(torch.full((self.heads,), -4.0))
        self.norm = Norm(self.inner)
        self.out = nn.Linear(self.inner, d, bias=False)

    def forward(self, u):
        batch, length, _ = u.shape
        gate, mixed, dt = self.project(u).split([self.inner, self.inner + 2 * self.state, self.heads], -1)
        mixed = F.silu(self.conv(mixed.transpose(1, 2))[..., :length].transpose(1, 2))
        x, b, c = mixed.split([self.inner, self.state, self.state], -1)
        x = x.reshape(batch, length, self.heads, HEAD)
        dt = F.softplus(dt.float() + self.dt_bias)
        y = state_space_dual(x, dt, -self.a_log.exp(), b.contiguous(), c.contiguous(), self.chunk).to(u.dtype)
        y = y + x * self.skip[:, None]
        return self.out(self.norm(y.reshape(batch, length, self.inner) * F.silu(gate)))


class Mamba1(nn.Module):
    """The selective scan as a loop over time."""

    def __init__(self, d, state=16):
        super().__init__()
        self.inner, self.state, self.rank = 2 * d, state, (d + 15) // 16
        self.project = nn.Linear(d, 2 * self.inner, bias=False)
        self.conv = nn.Conv1d(self.inner, self.inner, 4, groups=self.inner, padding=3)
        self.select = nn.Linear(self.inner, self.rank + 2 * state, bias=False)
        self.step = nn.Linear(self.rank, self.inner)
        self.a_log = nn.Parameter(torch.arange(1, state + 1).float().log().repeat(self.inner, 1))
        self.skip = nn.Parameter(torch.ones(self.inner))
        self.out = nn.Linear(self.inner, d, bias=False)

    def forward(self, u):
        batch, length, _ = u.shape
        x, gate = self.project(u).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., :length].transpose(1, 2))
        dt, b, c = self.select(x).split([self.rank, self.state, self.state], -1)
        dt = F.softplus(self.step(dt).float())
        rate, wide = -self.a_log.exp(), x.float()
        h, rows = wide.new_zeros(batch, self.inner, self.state), []
        for t in range(length):
            h = h * (dt[:, t, :, None] * rate).exp() + (dt[:, t] * wide[:, t])[..., None] * b[:, t, None].float()
            rows.append((h @ c[:, t, :, None].float())[..., 0])
        y = (torch.stack(rows, 1) + wide * self.skip).to(u.dtype)
        return self.out(y * F.silu(gate))


MIXERS = {"a": Attention, "1": lambda d, context: Mamba1(d), "2": lambda d, context: Mamba2(d)}


class SwiGLU(nn.Module):
    def __init__(self, d):
        super().__init__()
        hidden = int(8 * d / 3 + 63) // 64 * 64
        self.gate_up = nn.Linear(d, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, d, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, d, context, kind):
        super().__init__()
        self.before_mixer, self.before_ffn = Norm(d), Norm(d)
        self.mixer = MIXERS[kind](d, context)
        self.ffn = SwiGLU(d)

    def forward(self, x):
        x = x + self.mixer(self.before_mixer(x))
        return x + self.ffn(self.before_ffn(x))


class Model(nn.Module):
    def __init__(self, vocab, d, layers, context, pattern):
        super().__init__()
        self.table = nn.Embedding(vocab, d)
        nn.init.normal_(self.table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(d, context, pattern[i % len(pattern)]) for i in range(layers))
        self.norm = Norm(d)

    def forward(self, ids, targets):
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.table.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def measure(model, optimizer, ids, o):
    """Tokens a wall second and a CPU second, and the last loss."""
    wall, cpu = [], []
    for _ in range(o.steps + 1):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.dtype == "bf16"):
            loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        optimizer.step()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
    tokens = ids.shape[0] * o.ctx
    return tokens / statistics.median(wall[1:]), tokens / statistics.median(cpu[1:]), float(loss.detach())


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("d", 256), ("layers", 8), ("ctx", 256), ("tokens", 2048), ("vocab", 4096), ("threads", 2), ("steps", 5)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--pattern", default="a")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    model = Model(o.vocab, o.d, o.layers, o.ctx, o.pattern)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    rows = max(1, o.tokens // o.ctx)
    ids = torch.randint(0, o.vocab, (rows, o.ctx + 1))
    found = {"eager": measure(model, optimizer, ids, o)}
    if o.compile:
        found["compiled"] = measure(torch.compile(model), optimizer, ids, o)
    faster = max(found, key=lambda way: found[way][0])
    print(json.dumps({"tok_s": found[faster][0], "tok_cpu_s": found[faster][1], "loss": found[faster][2], "way": faster,
                      "torch": torch.__version__}))


main()
