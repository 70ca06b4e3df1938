#!/usr/bin/env bash
# Installs the peers of the load test: llama.cpp's own server, as a Python package in an environment of its own. Does
# nothing, quickly, when it is there. Nothing else needs it: where it is missing, comparisons with it are skipped.
#
#   MAITRED_INSTALL=0           only say what is missing
set -euo pipefail
source "$(dirname "$0")/env.sh"

peers_home=$cache_home/peers
requirements=scripts/peers.txt

if cmp -s "$requirements" "$peers_home/installed.txt" && [[ -x $peers_home/bin/python ]]; then
    exit 0
fi
[[ ${MAITRED_INSTALL:-1} == 1 ]] || die "the peers are missing: run scripts/install-peers.sh"
python3 -c 'import ensurepip, venv' 2>/dev/null || die "Python with venv is needed (Debian: apt-get install python3-venv)"

say "making a Python environment with llama.cpp's server"
rm -rf -- "$peers_home"
python3 -m venv "$peers_home" >&2
"$peers_home/bin/python" -m pip --disable-pip-version-check --quiet install --no-deps --only-binary=:all: \
    --require-hashes --requirement "$requirements" >&2
# Loads the library, which an unfit processor or C library refuses only now.
"$peers_home/bin/python" -c 'import xllamacpp; xllamacpp.CommonParams()'
# Last, so that an interrupted installation is made again.
cp "$requirements" "$peers_home/installed.txt"
