#!/usr/bin/env bash
# Builds the load test, beside the program that its fleets run, and runs one scenario: scripts/loadtest.sh SCENARIO [FLAGS]
# (maitred-loadtest --help). Nothing else should run on the machine.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cargo build --release --locked --workspace --bins "${feature_flags[@]}"
exec "$CARGO_TARGET_DIR/release/maitred-loadtest" "$@"
