#!/usr/bin/env bash
# Builds the release binary and leaves a copy at bin/maitred. A copy and not a link, because the target folder is
# shared: another clone's build must not change the program under this one.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cargo build --release --locked --bin maitred "${feature_flags[@]}"
mkdir -p bin
install -m 755 "$CARGO_TARGET_DIR/release/maitred" bin/maitred
