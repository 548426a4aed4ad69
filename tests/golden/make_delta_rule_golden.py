"""Writes delta_rule.json: outputs and last states of the gated delta rule by Transformers' own recurrence (Qwen3-Next), in float64.

Run: python3 tests/golden/make_delta_rule_golden.py   (needs torch and transformers; made with torch 2.15, transformers 5.24)
"""
import json, os
import torch
from transformers.models.qwen3_next import modeling_qwen3_next as qwen
from make_hf_golden import value_of

BATCH, LENGTH, HEADS, KEY, VALUE = 2, 11, 3, 5, 7


def draw(name, *shape):
    return torch.tensor(value_of(name, shape, 1).reshape(shape))


q, k, v = (draw(n, BATCH, LENGTH, HEADS, d) for n, d in (("q", KEY), ("k", KEY), ("v", VALUE)))
z, beta, alpha = draw("z", BATCH, LENGTH, HEADS, VALUE), draw("beta", BATCH, LENGTH, HEADS), draw("alpha", BATCH, LENGTH, HEADS)
a_log, dt_bias, gain = draw("x.A_log", HEADS), draw("x.dt_bias", HEADS), draw("norm.weight", VALUE)
g = -a_log.exp() * torch.nn.functional.softplus(alpha + dt_bias)
plain = qwen.torch_recurrent_gated_delta_rule
plain = getattr(plain, "__wrapped__", plain)
with torch.no_grad():
    o, state = [], []
    for b in range(BATCH):  # the function computes in float32: here is its recurrence, line by line, in float64 ...
        s = torch.zeros(HEADS, KEY, VALUE, dtype=torch.float64)
        rows = []
        for t in range(LENGTH):
            unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
            qt, kt = unit(q[b, t]) / KEY**0.5, unit(k[b, t])
            s = s * g[b, t].exp()[:, None, None]
            delta = (v[b, t] - (s * kt[:, :, None]).sum(1)) * beta[b, t].sigmoid()[:, None]
            s = s + kt[:, :, None] * delta[:, None, :]
            rows.append((s * qt[:, :, None]).sum(1))
        o.append(torch.stack(rows))
        state.append(s)
    o, state = torch.stack(o), torch.stack(state)
    theirs, last = plain(q.float(), k.float(), v.float(), g=g.float(), beta=beta.sigmoid().float(), initial_state=None,
                         output_final_state=True, use_qk_l2norm_in_kernel=True)
    assert (theirs.double() - o).abs().max() < 1e-5 and (last.double() - state).abs().max() < 1e-5  # ... which it agrees with
    y = o * torch.rsqrt(o.pow(2).mean(-1, keepdim=True) + 1e-6) * gain * torch.nn.functional.silu(z)
here = os.path.dirname(os.path.abspath(__file__))
with open(f"{here}/delta_rule.json", "w") as out:
    json.dump(dict(batch=BATCH, length=LENGTH, heads=HEADS, key_dim=KEY, value_dim=VALUE, eps=1e-6,
                   y=[round(x, 9) for x in y.reshape(-1).tolist()], state=[round(x, 9) for x in state.reshape(-1).tolist()]), out,
              separators=(",", ":"))
