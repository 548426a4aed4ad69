"""Sets PyTorch beside kernel_bench on the same GPU: reads kernel_bench's lines, times what PyTorch has for each kernel at the same
extents (its compiler's kernels too, and the faster of both counts), measures the two limits of the card, and prints one table.

    build/cuda/bench/kernel_bench > ours.jsonl; python3 bench/peers/torch_kernels.py ours.jsonl [--compile]
"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F

B, L, D, H, P, HIDDEN, VOCAB = 4, 2048, 1024, 16, 64, 2816, 32768
INNER, STATE, WIDTH, PARAMETERS = 2048, 64, 4, 100 << 20
ROWS, CHANNELS = B * L, INNER + 2 * STATE


def microseconds(run):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    rounds = []
    for _ in range(7):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(10):
            run()
        end.record()
        torch.cuda.synchronize()
        rounds.append(begin.elapsed_time(end) * 100)
    return statistics.median(rounds)


def backward_of(forward, inputs, dy):
    """Time of forward and backward together less forward alone is noisy: the graph is kept and walked again and again."""
    y = forward(*inputs)
    wanted = [i for i in inputs if i.requires_grad]
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def jobs(dtype):
    def new(*shape, scale=1.0, of=dtype, grad=False):
        return (torch.randn(*shape, device="cuda") * scale).to(of).requires_grad_(grad)

    w, x, dy = new(3 * D, D, scale=0.02), new(ROWS, D), new(ROWS, 3 * D)
    dw = new(3 * D, D, of=torch.float32)
    yield "linear", lambda: F.linear(x, w), None
    yield "linear_backward_input", lambda: dy @ w, None
    yield "linear_backward_weight", lambda: dw.add_(dy.t() @ x), None

    residual, gain, dx = new(ROWS, D, of=torch.float32), new(D, of=torch.float32), new(ROWS, D)

    def rms(residual, branch, gain):
        both = residual + branch
        return both, (both * torch.rsqrt(both.pow(2).mean(-1, keepdim=True) + 1e-5) * gain).to(dtype)

    yield "rms_norm", lambda: rms(residual, x, gain), lambda c: (lambda f: lambda: f(residual, x, gain))(c(rms))

    def rms_backward(dy, x, gain, rstd, past):
        dy = dy.float()
        along = (gain * dy * x).sum(-1, keepdim=True)
        out = past + rstd * gain * dy - x * rstd**3 / D * along
        return out, out.to(dtype), (dy * x * rstd).sum(0)

    rstd = new(ROWS, 1, of=torch.float32)
    args = (dx, residual, gain, rstd, residual)
    yield "rms_norm_backward", lambda: rms_backward(*args), lambda c: (lambda f: lambda: f(*args))(c(rms_backward))

    both, d_hidden = new(ROWS, 2 * HIDDEN), new(ROWS, HIDDEN)

    def swiglu(both):
        gate, up = both.float().chunk(2, -1)
        return (F.silu(gate) * up).to(dtype)

    yield "swiglu", lambda: swiglu(both), lambda c: (lambda f: lambda: f(both))(c(swiglu))

    def swiglu_backward(both, dy):
        gate, up = both.float().chunk(2, -1)
        s = torch.sigmoid(gate)
        dy = dy.float()
        return torch.cat([dy * up * s * (1 + gate * (1 - s)), dy * gate * s], -1).to(dtype), (gate * s * up).to(dtype)

    yield "swiglu_backward", lambda: swiglu_backward(both, d_hidden), lambda c: (lambda f: lambda: f(both, d_hidden))(c(swiglu_backward))

    q, k, v = (new(B, H, L, P, grad=True) for _ in range(3))
    do = new(B, H, L, P)
    yield "attention", lambda: F.scaled_dot_product_attention(q.detach(), k.detach(), v.detach(), is_causal=True), None
    yield "attention_backward", backward_of(lambda *a: F.scaled_dot_product_attention(*a, is_causal=True), [q, k, v], do), None
    one = new(B, H, 1, P)[:1]
    yield "attention_cached", lambda: F.scaled_dot_product_attention(one, k.detach()[:1], v.detach()[:1]), None

    xc, taps, bias = new(B, CHANNELS, L, grad=True), new(CHANNELS, 1, WIDTH, grad=True), new(CHANNELS, grad=True)

    def conv(x, taps, bias):
        return F.silu(F.conv1d(x, taps, bias, padding=WIDTH - 1, groups=CHANNELS)[..., :L])

    yield "conv1d", lambda: conv(xc.detach(), taps.detach(), bias.detach()), lambda c: (
        lambda f: lambda: f(xc.detach(), taps.detach(), bias.detach()))(c(conv))
    yield "conv1d_backward", backward_of(conv, [xc, taps, bias], new(B, CHANNELS, L)), None

    y, z, g2 = new(ROWS, INNER), new(ROWS, INNER), new(INNER, of=torch.float32)

    def gated(y, z, gain):
        v = y.float() * F.silu(z.float())
        return (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-5) * gain).to(dtype)

    yield "gated_norm", lambda: gated(y, z, g2), lambda c: (lambda f: lambda: f(y, z, g2))(c(gated))

    head, h = new(VOCAB, D, scale=0.02, grad=True), new(ROWS, D, grad=True)
    targets = torch.randint(VOCAB, (ROWS,), device="cuda")

    def cross_entropy():
        loss = F.cross_entropy(F.linear(h, head), targets)
        return torch.autograd.grad(loss, [h, head])

    yield "cross_entropy", cross_entropy, None
    table, into = new(VOCAB, D, of=torch.float32), new(VOCAB, D, of=torch.float32)
    yield "embedding", lambda: F.embedding(targets, table), None
    yield "embedding_backward", lambda: into.index_add_(0, targets, residual), None


def optimizer_jobs():
    p = torch.nn.Parameter(torch.randn(PARAMETERS, device="cuda"))
    p.grad = torch.randn_like(p)
    adamw = torch.optim.AdamW([p], lr=1e-4, fused=True)
    yield "adamw", adamw.step, None
    yield "sum_of_squares", lambda: float(torch.linalg.vector_norm(p.grad)), None


def limits():
    a, b = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_(), torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    copy = 2 * (1 << 30) / microseconds(lambda: b.copy_(a)) * 1e-3
    found = {"copy GB/s": copy}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        m = torch.randn(8192, 8192, device="cuda").to(dtype)
        found[f"product {name} TFLOP/s"] = 2 * 8192**3 / microseconds(lambda: m @ m) * 1e-6
    return found


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    compiling = "--compile" in sys.argv
    ours = [json.loads(line) for line in open(sys.argv[1])]
    most = limits()
    theirs = {}
    todo = [("f32", j) for j in optimizer_jobs()]
    for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        todo += [(name, j) for j in jobs(dtype)] if any(o["type"] == name for o in ours) else []
    for type_name, (name, run, compiled) in todo:
        if not any(o["name"] == name and o["type"] == type_name for o in ours):
            continue
        best, how = microseconds(run), "eager"
        if compiling and compiled:
            time = microseconds(compiled(lambda f: torch.compile(f, dynamic=False)))
            best, how = min((best, how), (time, "compiled"))
        theirs[name, type_name] = (best, how)
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}: " + ", ".join(f"{k} {v:.0f}" for k, v in most.items()))
    print("| kernel | type | us | PyTorch us | ratio | share of the limit |\n| --- | --- | --- | --- | --- | --- |")
    for o in ours:
        peer = theirs.get((o["name"], o["type"]))
        by_bytes = o["gb_s"] / most["copy GB/s"]
        by_operations = o["tflop_s"] / most[f"product {o['type']} TFLOP/s"]
        share = f"{100 * by_operations:.0f} % of a product" if by_operations > by_bytes else f"{100 * by_bytes:.0f} % of a copy"
        beside = f"{peer[0]:.1f} ({peer[1]}) | {peer[0] / o['us']:.2f}" if peer else "- | -"
        print(f"| {o['name']} | {o['type']} | {o['us']:.1f} | {beside} | {share} |")


if __name__ == "__main__":
    main()
