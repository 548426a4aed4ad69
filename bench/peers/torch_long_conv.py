"""Sets PyTorch's FFTs beside kernel_bench's long_conv on one thread of the same CPU, at the same extents: the gated convolution of
Hyena as its authors write it (rfft of twice the length, [batch, channels, length]), forward, and forward and backward together.

    python3 bench/peers/torch_long_conv.py build/release/bench/kernel_bench --d 64 --lengths 1024,4096,16384,65536
"""
import argparse
import json
import statistics
import subprocess
import time

import torch


def seconds(run):
    run()
    times = []
    begin = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - begin < 1 and len(times) < 200):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def hyena(v, x1, x2, h, d, length):
    w = x1 * v
    spectrum = torch.fft.rfft(w, n=2 * length) * torch.fft.rfft(h, n=2 * length)
    return x2 * (torch.fft.irfft(spectrum, n=2 * length)[..., :length] + d * w)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kernel_bench")
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lengths", default="1024,4096,16384,65536")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, one thread, batch {args.batch}, {args.d} channels\n")
    print("| length | pass | ms | PyTorch ms | ratio | GFLOP/s |\n| --- | --- | --- | --- | --- | --- |")
    for length in map(int, args.lengths.split(",")):
        v, x1, x2 = (torch.randn(args.batch, args.d, length, requires_grad=True) for _ in range(3))
        h, d = torch.randn(args.d, length, requires_grad=True), torch.randn(args.d, 1, requires_grad=True)
        dy = torch.randn(args.batch, args.d, length)

        def forward():
            with torch.no_grad():
                hyena(v, x1, x2, h, d, length)

        def both():
            torch.autograd.grad(hyena(v, x1, x2, h, d, length), [v, x1, x2, h, d], dy)

        extents = ["--batch", args.batch, "--length", length, "--d", args.d, "--inner", 64, "--vocabulary", 64, "--parameters", 1000]
        command = [args.kernel_bench, "--backend", "cpu", "--threads", 1, "--types", "f32", "--only", "long_conv,long_conv_backward"]
        found = subprocess.run([str(c) for c in command + extents], capture_output=True, text=True, check=True).stdout
        ours = {row["name"]: row for row in map(json.loads, found.splitlines())}
        theirs = {"forward": seconds(forward), "forward and backward": seconds(both)}
        times = {"forward": ours["long_conv"]["us"], "forward and backward": ours["long_conv"]["us"] + ours["long_conv_backward"]["us"]}
        for name, us in times.items():
            rate = ours["long_conv"]["tflop_s"] * 1e3 if name == "forward" else ours["long_conv_backward"]["tflop_s"] * 1e3
            print(f"| {length} | {name} | {us * 1e-3:.2f} | {theirs[name] * 1e3:.2f} | {theirs[name] * 1e6 / us:.2f} | {rate:.0f} |")


if __name__ == "__main__":
    main()
