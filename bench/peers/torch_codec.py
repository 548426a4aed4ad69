"""What PyTorch takes for the codecs' operations on one CPU thread, for codec_bench to compare with.
One JSON object a line; codec_bench runs it."""
import json, statistics, time, torch

torch.set_num_threads(1)
torch.manual_seed(0)
N = 10_000_000 // 4096 * 4096
value = torch.randn(N)
kept = {}


def none_encode(): kept["none"] = value.clone(); value.sub_(kept["none"])
def none_add(): torch.add(kept["sum"], kept["none"], out=kept["sum"])


def int8_encode():
    x = value.view(-1, 256)
    scale = x.abs().amax(1, keepdim=True) / 127
    q = (x / scale).round_().to(torch.int8)
    x.sub_(q.float() * scale)
    kept["int8"] = q, scale


def int8_add(): q, scale = kept["int8"]; kept["sum"].view(-1, 256).add_(q.float() * scale)


def sparse_encode():
    """Top 64 of each chunk, bins over three sigma with their means, and the residual; nothing is packed into bits."""
    x = value.view(-1, 4096)
    index = x.abs().topk(64, 1, sorted=False).indices
    v = x.gather(1, index)
    mean, width = v.mean(), 1.5 * v.std()
    code = (v >= mean - width).long() + (v >= mean) + (v >= mean + width)
    flat = code.flatten()
    table = torch.zeros(4).index_add_(0, flat, v.flatten()) / torch.bincount(flat, minlength=4).clamp(min=1)
    x.scatter_add_(1, index, -table[code])
    kept["sparse"] = index, table[code]


def sparse_add(): index, v = kept["sparse"]; kept["sum"].view(-1, 4096).scatter_add_(1, index, v)


kept["sum"] = torch.zeros(N)
for name, f in [("none encode", none_encode), ("none decode and add", none_add), ("int8 encode", int8_encode),
                ("int8 decode and add", int8_add), ("sparse_loco encode", sparse_encode), ("sparse_loco decode and add", sparse_add)]:
    seconds = []
    for _ in range(7):
        value.copy_(torch.randn(N)) if "encode" in name else None
        start = time.process_time()
        f()
        seconds.append(time.process_time() - start)
    print(json.dumps({"name": name, "peer": "PyTorch " + torch.__version__.split("+")[0], "value": round(4e-9 * N / statistics.median(seconds), 3)}))
