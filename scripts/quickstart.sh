#!/bin/bash
# Trains recipes/quickstart.toml and lets the ledger judge the run. Expects a release build.
set -euo pipefail
cd "$(dirname "$0")/.."
isthmus=build/release/launcher/isthmus
recipe=${1:-recipes/quickstart.toml}
before=$(ls -1 runs 2>/dev/null || true)
"$isthmus" launch "$recipe"
run=$(comm -13 <(sort <<<"$before") <(ls -1 runs | sort) | tail -n 1)
[ -n "$run" ] || { echo "quickstart: the launch left no new folder under runs/" >&2; exit 1; }
"$isthmus" ledger "runs/$run"
