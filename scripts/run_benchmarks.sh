#!/bin/bash
# Runs every benchmark program of a build and writes their figures as one Markdown page.
#   scripts/run_benchmarks.sh [build/release/bench] [docs/benchmarks.md]
# A program prints one line that describes the machine, then one JSON object a line:
#   {"note"} or {"name", "value", "unit", "peer", "peer_value", "ratio", "limit", "share", "runs", "spread"}
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/release/bench}
page=${2:-docs/benchmarks.md}
mapfile -t programs < <(find "$folder" -maxdepth 1 -type f -name '*_bench' -perm -u+x | sort)
[ ${#programs[@]} -gt 0 ] || { echo "run_benchmarks: no *_bench program in $folder; build the release preset first" >&2; exit 1; }

new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
  echo "# Benchmarks"
  echo
  echo "Written by \`make bench\`. Each figure stands beside a peer or a physical limit measured in the same run: *ratio* above 1 means"
  echo "better than the peer, *share* is the part of the limit that was reached, *spread* the relative spread over the runs."
} >"$new"

for program in "${programs[@]}"; do
  name=$(basename "$program")
  echo "running $name" >&2
  lines=$("$program") || { echo "run_benchmarks: $name failed" >&2; exit 1; }
  {
    echo
    echo "## $name"
    echo
    echo "Command: \`$folder/$name\`, $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)."
    awk -f scripts/benchmark_table.awk <<<"$lines"
  } >>"$new"
done
install -m 644 "$new" "$page"
echo "wrote $page"
