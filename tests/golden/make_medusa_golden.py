"""Writes medusa_golden.json: losses, logits and gradients of small models with Medusa heads, computed by plain PyTorch in float64.

Run: python3 tests/golden/make_medusa_golden.py   (needs torch and numpy; made with torch 2.15, numpy 2)
The model is that of make_model_golden.py; the heads follow Cai et al. 2024, arXiv:2401.10774, section 2.1.1, their loss section 2.2.2:
the gradients are those of loss + 0.2 sum_k 0.8^k loss_k, each a sum over the tokens whose token k + 2 ahead lies in their row and document.
"""
import json, os
import numpy as np, torch, torch.nn.functional as F
from make_model_golden import gradients_of, hidden_of, shapes, uniform_of, weight_of


def medusa_shapes(c):
    yield from shapes(c)
    for k in range(c["medusa_heads"]):
        yield f"medusa_head.{k}.0.linear.weight", (c["d_model"], c["d_model"])
        yield f"medusa_head.{k}.0.linear.bias", (c["d_model"],)
        yield f"medusa_head.{k}.1.weight", (c["vocabulary"], c["d_model"])


def head_logits(w, k, h):
    p = f"medusa_head.{k}."
    return (h + F.silu(h @ w[p + "0.linear.weight"].T + w[p + "0.linear.bias"])) @ w[p + "1.weight"].T


def head_loss(c, w, k, h, ids):  # ids: [rows, context + 1]; token t of a row predicts token t + k + 2
    logits, loss = head_logits(w, k, h), 0.0
    for r in range(h.shape[0]):
        for t in range(h.shape[1]):
            if t + k + 2 > h.shape[1] or c["document_mark"] in ids[r, t + 1:t + k + 2].tolist():
                continue
            loss = loss + F.cross_entropy(logits[r, t], ids[r, t + k + 2])
    return loss


def golden(name, rows, context, **changes):
    c = dict(vocabulary=31, d_model=32, layers="am", n_heads=4, n_kv_heads=2, head_dim=8, rope_theta=10000.0, ffn_hidden=48, ssm_inner=64,
             ssm_head_dim=16, ssm_state=8, ssm_groups=1, conv_width=4, ssm_chunk=8, medusa_heads=2, document_mark=-1)
    c.update(changes)
    w = {n: weight_of(i, n, s) for i, (n, s) in enumerate(medusa_shapes(c))}
    ids = torch.tensor(((uniform_of(0, rows * (context + 1)) + 0.5) * c["vocabulary"]).astype(np.int64)).view(rows, context + 1)
    h = hidden_of(c, w, ids[:, :-1])
    logits = h @ w["model.embed_tokens.weight"].T
    loss = F.cross_entropy(logits.reshape(-1, c["vocabulary"]), ids[:, 1:].reshape(-1), reduction="sum")
    heads = [head_loss(c, w, k, h, ids) for k in range(c["medusa_heads"])]
    (loss + 0.2 * sum(0.8**k * l for k, l in enumerate(heads))).backward()
    positions = [0, context - 1]
    return {"name": name, "config": c, "rows": rows, "context": context, "ids": ids.reshape(-1).tolist(), "loss": float(loss.detach()),
            "positions": positions, "logits": [logits[0, i].detach().tolist() for i in positions],
            "head_logits": [[x for k in range(c["medusa_heads"]) for x in head_logits(w, k, h)[0, i].detach().tolist()] for i in positions],
            "gradients": gradients_of(w)}


if __name__ == "__main__":
    # Marks are told apart by Mamba-2 alone: attention would not look over them (tests/framework/models/attention_sight_test.cpp).
    out = [golden("two heads", 2, 17), golden("three heads and documents", 3, 14, layers="m", vocabulary=11, medusa_heads=3, document_mark=3)]
    with open(os.path.join(os.path.dirname(__file__), "medusa_golden.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(g) for g in out) + "\n]\n")
