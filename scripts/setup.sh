#!/usr/bin/env bash
# Installs what building, testing and the demo need, on Debian 12 and its relatives.
# usage: scripts/setup.sh [--all]     --all: also what only 'scripts/test.sh --all' uses
# Does nothing, and says so, where all of it is there.
set -euo pipefail

packages=(
  g++ cmake ninja-build git ca-certificates python3   # the tools
  libfmt-dev libcli11-dev nlohmann-json3-dev libdnnl-dev   # what the program links
  zlib1g-dev libzstd-dev libsnappy-dev libbrotli-dev liblz4-dev
  libcurl4-openssl-dev libssl-dev
  librsvg2-dev pkg-config                                  # loss.png
  libgtest-dev libgmock-dev libbenchmark-dev clang-format  # what its tests link and call
)
if [[ "${1:-}" == --all ]]; then
  packages+=(clang libclang-rt-14-dev  # what fuzz targets are built with
    clang-tidy chromium)
elif [[ $# -gt 0 ]]; then
  echo "usage: scripts/setup.sh [--all]" >&2
  exit 2
fi

say() { printf 'setup: %s\n' "$*"; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  say "this is not a Debian system; install these by hand: ${packages[*]}" >&2
  # Where the tools are there all the same, the build may well go on.
  if command -v cmake >/dev/null && command -v ninja >/dev/null && command -v g++ >/dev/null; then
    exit 0
  fi
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  say "all ${#packages[@]} packages are installed; nothing to do"
  exit 0
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    say "missing: ${missing[*]}; run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }
install() { apt install --yes --no-install-recommends "${missing[@]}" >/dev/null; }

say "installing with apt-get: ${missing[*]}"
# The package lists are fetched only where the ones at hand cannot serve (a fresh image has none).
if ! install 2>/dev/null; then
  say "updating the package lists"
  if ! apt update; then
    say "apt-get update failed: is there a network? Missing: ${missing[*]}" >&2
    exit 1
  fi
  if ! install; then
    say "apt-get could not install: ${missing[*]}" >&2
    exit 1
  fi
fi
say "done"
