#!/usr/bin/env bash
# How throughput grows with workers, and what broker and stores cost per job: docs/PERFORMANCE.md says what was measured.
#
#   MAITRED_SCALING_JOBS=N  jobs of each run (2000)
set -euo pipefail
source "$(dirname "$0")/env.sh"

cargo test --release --locked "${feature_flags[@]}" --test it fleet::scaling -- --ignored --nocapture
