#!/usr/bin/env python3
"""Draws docs/layers/KIND.svg, CPU time a token by the length of the text, from what layer_bench printed, and docs/layers/step_time.svg, the time
of a training step on one text by its length, of those layers that were measured with 65,536 tokens; prints the exponents of that.

    build/release/bench/layer_bench --seconds 60 > layers.jsonl
    docs/make_layer_plots.py layers.jsonl docs/layers

Needs nothing but Python's standard library.
"""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 320, 70, 45, 15, 110
COLOURS = {"train": "#d62728", "forward": "#1f77b4", "decode": "#2ca02c"}
MIXERS = {"gated_delta_net": "#d62728", "mamba1": "#1f77b4", "mamba2": "#2ca02c", "hyena": "#ff7f0e", "monarch": "#9467bd"}
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


def plot(curves, colours, names, units):
    """Both axes logarithmic. units: what a power of ten is called, by the power."""
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
                   f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{units(power)}</text>')
    for length in lengths:
        name = f"{length // 1024}k" if length >= 1024 else str(length)
        svg.append(f'<text x="{x(length):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{name}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">tokens of a text</text>')
    above = -math.inf
    for what, curve in sorted(curves.items(), key=lambda entry: -entry[1][max(entry[1])]):
        points = " ".join(f"{x(length):.1f},{y(value):.1f}" for length, value in sorted(curve.items()))
        last = max(curve)
        above = max(above + 13, y(curve[last]) + 4)  # names of curves that meet stand one below the other
        svg.append(f'<polyline points="{points}" fill="none" stroke="{colours[what]}" stroke-width="2"/>')
        svg.append(f'<text x="{x(last) + 6:.1f}" y="{above:.1f}" fill="{colours[what]}">{names[what]}</text>')
    return "\n".join(svg + ["</svg>"]) + "\n"


def exponent(curve):
    """Of the power of the length that is nearest to the curve, by least squares of the logarithms."""
    points = [(math.log(length), math.log(value)) for length, value in curve.items()]
    middle = [sum(axis) / len(points) for axis in zip(*points)]
    return sum((a - middle[0]) * (b - middle[1]) for a, b in points) / sum((a - middle[0]) ** 2 for a, _ in points)


def steps(found):
    """Seconds of a step by kind and length, from 1024 tokens on."""
    return {kind: {length: value * length / 1e6 for length, value in curves["train"].items() if length >= 1024}
            for kind, curves in found.items() if kind in MIXERS and max(curves["train"]) >= 65536}


def main():
    source, folder = sys.argv[1:]
    found = read(source)
    for kind, curves in found.items():
        with open(f"{folder}/{kind}.svg", "w", encoding="utf-8") as file:
            file.write(plot(curves, COLOURS, NAMES, lambda power: f"{10.0 ** power:g} µs"))
    curves = steps(found)
    for kind, curve in curves.items():
        print(f"{kind}: {min(curve)} to {max(curve)} tokens, exponent {exponent(curve):.3f}")
    if curves:
        with open(f"{folder}/step_time.svg", "w", encoding="utf-8") as file:
            file.write(plot(curves, MIXERS, {kind: kind for kind in curves}, lambda power: f"{10.0 ** power:g} s"))


if __name__ == "__main__":
    main()
