#!/usr/bin/env python3
"""Draws docs/layers/KIND.svg, CPU time a token by the length of the text, from what layer_bench printed.

    build/release/bench/layer_bench > layers.jsonl
    docs/make_layer_plots.py layers.jsonl docs/layers

Needs nothing but Python's standard library.
"""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 320, 70, 45, 15, 110
COLOURS = {"train": "#d62728", "forward": "#1f77b4", "decode": "#2ca02c"}
NAMES = {"train": "training", "forward": "forward", "decode": "decoding"}


def read(path):
    """Microseconds a token by kind, what was done, and length."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            figure = json.loads(line)
            if figure.get("name", "").startswith("layer "):
                _, kind, what, length = figure["name"].split()
                found.setdefault(kind, {}).setdefault(what, {})[int(length)] = figure["value"] / 1000
    return found


def plot(curves):
    lengths = sorted({length for curve in curves.values() for length in curve})
    values = [value for curve in curves.values() for value in curve.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x = lambda length: LEFT + (WIDTH - LEFT - RIGHT) * math.log(length / lengths[0]) / max(1e-9, math.log(lengths[-1] / lengths[0]))
    y = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(value)) / (high - low)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for power in range(low, high + 1):
        at = y(10.0 ** power)
        svg.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
                   f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0 ** power:g} µs</text>')
    for length in lengths:
        name = f"{length // 1024}k" if length >= 1024 else str(length)
        svg.append(f'<text x="{x(length):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{name}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">tokens of a text</text>')
    for what, curve in curves.items():
        points = " ".join(f"{x(length):.1f},{y(value):.1f}" for length, value in sorted(curve.items()))
        last = max(curve)
        svg.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[what]}" stroke-width="2"/>')
        svg.append(f'<text x="{x(last) + 6:.1f}" y="{y(curve[last]) + 4:.1f}" fill="{COLOURS[what]}">{NAMES[what]}</text>')
    return "\n".join(svg + ["</svg>"]) + "\n"


def main():
    source, folder = sys.argv[1:]
    for kind, curves in read(source).items():
        with open(f"{folder}/{kind}.svg", "w", encoding="utf-8") as file:
            file.write(plot(curves))


if __name__ == "__main__":
    main()
