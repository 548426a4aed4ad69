#!/bin/bash
# Installs by apt what building, testing and the quickstart need, and only what is missing: with everything in place it changes
# nothing, needs neither root nor network, and says so in one line. Debian 12 and Ubuntu 24.04.
#   scripts/install_packages.sh           install
#   scripts/install_packages.sh --list    only print what is missing; exit 1 when something is
set -euo pipefail

build=(g++ make cmake ninja-build ccache pkg-config git ca-certificates)
libraries=(libcaf-dev libcapnp-dev capnproto libssl-dev libucx-dev libdnnl-dev libopenblas-dev libboost-dev libboost-test-dev
           libsodium-dev libtomlplusplus-dev libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libsqlite3-dev libzstd-dev
           libxxhash-dev libhwy-dev libpcre2-dev libicu-dev libbenchmark-dev)
tests=(etcd-server)  # a coordinator's log may be there; tests start their own members on free ports
networks=(iproute2 nftables util-linux)  # of tests and benchmarks in network namespaces
texts=(perl-doc vim-runtime libpython3-stdlib)

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing() { local p; for p in "$@"; do installed "$p" || echo "$p"; done; }

command -v dpkg-query >/dev/null || { echo "install_packages: needs a Debian-like system (dpkg); the package names are in $0" >&2; exit 4; }

wanted=("${build[@]}" "${libraries[@]}" "${tests[@]}" "${networks[@]}" "${texts[@]}")
mapfile -t lacking < <(missing "${wanted[@]}")

if [ "${1:-}" = --list ]; then
  [ ${#lacking[@]} -eq 0 ] || { printf '%s\n' "${lacking[@]}"; exit 1; }
  exit 0
fi
if [ ${#lacking[@]} -eq 0 ]; then
  echo "packages: all ${#wanted[@]} are installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_packages: not root and no sudo; as root run: apt-get install ${lacking[*]}" >&2; exit 4; }
  as_root=(sudo)
fi
echo "packages: installing ${lacking[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o=Dpkg::Use-Pty=0 -o=Acquire::Retries=3 "$@"; }
apt update

# Matrix products prefer oneDNN; where the release has none, OpenBLAS (one thread) takes its place.
chosen=()
for package in "${lacking[@]}"; do
  if [ "$package" = libdnnl-dev ] && [ -z "$(apt-cache search --names-only '^libdnnl-dev$')" ]; then
    echo "packages: no libdnnl-dev here, OpenBLAS does the matrix products"
    continue
  fi
  chosen+=("$package")
done
if [ ${#chosen[@]} -gt 0 ]; then
  apt install -y --no-install-recommends "${chosen[@]}" >/dev/null
fi
mapfile -t lacking < <(missing "${chosen[@]}")
[ ${#lacking[@]} -eq 0 ] || { echo "install_packages: still missing after apt-get install: ${lacking[*]}" >&2; exit 4; }
echo "packages: done"
