#!/usr/bin/env python3
"""Draws docs/convergence.svg and prints the table of docs/convergence.md from the run folders of the convergence recipes.

    docs/make_convergence.py docs/convergence.svg "data parallel=runs/dp-1,runs/dp-2" "int8 DiLoCo=runs/int8-1,runs/int8-2" ...

Needs nothing but Python's standard library: a run folder keeps its figures in metrics.sqlite.
"""
import json
import sqlite3
import struct
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 400, 60, 50, 20
COLOURS = ["#222222", "#1f77b4", "#d62728", "#2ca02c"]


def held_out_tokens(run):
    """What each site holds out, by site: the header of its token shard says it (docs/token_shard.md)."""
    with open(f"{run}/roster.json", encoding="utf-8") as file:
        shards = {site["id"]: site["shard"] for site in json.load(file)["sites"]}
    sizes = {}
    for site, shard in shards.items():
        with open(f"{run}/{shard}", "rb") as file:
            sizes[site] = struct.unpack_from("<Q", file.read(168), 48)[0]
    return sizes


def held_out(run):
    """Held-out loss by tokens of the run, [(tokens, loss)]: the sites' figures, weighed by what each holds out."""
    sizes = held_out_tokens(run)
    rounds = {}
    with sqlite3.connect(f"file:{run}/metrics.sqlite?mode=ro", uri=True) as store:
        for site, number, tokens, loss in store.execute("SELECT site, round, run_tokens, loss FROM evaluations ORDER BY round"):
            rounds.setdefault(number, {})[site] = (tokens, loss)
    whole = [sites for sites in rounds.values() if len(sites) == len(sizes)]
    return [(max(tokens for tokens, _ in sites.values()),
             sum(loss * sizes[site] for site, (_, loss) in sites.items()) / sum(sizes.values())) for sites in whole]


def main():
    out, series = sys.argv[1], [argument.split("=", 1) for argument in sys.argv[2:]]
    curves = [(name, [held_out(run) for run in runs.split(",")]) for name, runs in series]
    base = [curve[-1][1] for curve in curves[0][1]]
    print("| | " + " | ".join(f"seed {i + 1}" for i in range(len(base))) + " | mean | over data parallel, each seed |")
    print("|---|" + "---|" * (len(base) + 2))
    for name, runs in curves:
        ends = [curve[-1][1] for curve in runs]
        gaps = ", ".join(f"{end - b:+.3f}" for end, b in zip(ends, base))
        print(f"| {name} | " + " | ".join(f"{end:.3f}" for end in ends) + f" | {sum(ends) / len(ends):.3f} | {gaps} |")
    points = [point for _, runs in curves for curve in runs for point in curve if point[0] > 0]
    last, low, high = max(t for t, _ in points), min(l for _, l in points), max(l for _, l in points)
    x = lambda t: LEFT + (WIDTH - LEFT - 20) * t / last
    y = lambda l: TOP + (HEIGHT - TOP - BOTTOM) * (high - l) / (high - low)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for k in range(5):
        level, tokens = low + (high - low) * k / 4, last * k / 4
        svg.append(f'<path d="M{LEFT} {y(level):.1f}H{WIDTH - 20}" stroke="#dddddd"/><text x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.2f}</text>')
        svg.append(f'<text x="{x(tokens):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tokens / 1e6:.1f} M</text>')
    for i, (name, runs) in enumerate(curves):
        for j, curve in enumerate(runs):
            path = "L".join(f"{x(t):.1f} {y(l):.1f}" for t, l in curve if t > 0)
            dash = ' stroke-dasharray="5 3"' if j else ""
            svg.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.5"{dash}/>')
        svg.append(f'<text x="{WIDTH - 24}" y="{TOP + 16 * (i + 1)}" text-anchor="end" fill="{COLOURS[i]}">{name}</text>')
    svg.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">tokens of the run; held-out loss of the anchor in nats per token; second seed dashed</text></svg>')
    with open(out, "w", encoding="utf-8") as file:
        file.write("\n".join(svg) + "\n")


main()
