#!/bin/bash
# Trains recipes/quickstart.toml and lets the ledger judge the run. Expects a release build.
set -euo pipefail
cd "$(dirname "$0")/.."
isthmus=build/release/launcher/isthmus
"$isthmus" launch "${1:-recipes/quickstart.toml}"
"$isthmus" ledger  # of the newest run
