#!/bin/sh
# The installed program knows the recipes that were installed with it.
set -eu
"$1" ls | grep -q '^ *quickstart ' || { echo "isthmus ls does not show quickstart:"; "$1" ls; exit 1; }
"$1" validate three_sites_wan
"$1" sim faults --seeds 1
