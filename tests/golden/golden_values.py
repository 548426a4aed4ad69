"""Numbers that the scripts here and tests/framework/models/golden_values.hpp make alike, from a tensor's name and an index, so that no file stores them."""
import numpy as np

MASK = (1 << 64) - 1


def mix64(x):  # the finaliser of splitmix64, on numpy uint64
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniform_of(name, count, seed):  # FNV-1a of the name; 24 random bits: in [-0.5, 0.5), exact in float32
    key = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint64) + np.uint64(key)
    return (mix64(x) >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5


def told_gradient(g, digits=17):
    """What a file says of a gradient: its norm and four of its numbers."""
    g = g.reshape(-1)
    short = lambda x: float(f"{x.item():.{digits}g}")
    picks = sorted({int(i) for i in np.linspace(0, g.numel() - 1, 4)})
    return dict(norm=short(g.norm()), picks=picks, values=[short(g[i]) for i in picks])
