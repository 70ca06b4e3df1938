#!/usr/bin/env bash
# Measures the engine against a bare decode loop on this machine. Arguments go to `maitred bench engine`.
set -euo pipefail
source "$(dirname "$0")/env.sh"

bin/maitred bench engine "$@"
