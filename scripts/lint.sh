#!/usr/bin/env bash
# Format, lints and licences. The result depends on the commit and the tools only, never on the network: known
# vulnerabilities, which change by the day, are `make audit`.
set -euo pipefail
source "$(dirname "$0")/env.sh"

step() {
    say "lint: $*"
    "$@"
}

# optional TOOL COMMAND...: runs the command where the tool is installed, and says so where it is not.
optional() {
    local tool=$1
    shift
    if have "$tool"; then
        step "$@"
    else
        say "lint: skipped, $tool is not installed: $*"
    fi
}

step cargo fmt --check
# The release profile, so that llama.cpp is not built once more for a check.
step cargo clippy --locked --release --workspace --all-targets "${feature_flags[@]}" -- -D warnings
step cargo clippy --locked --workspace --all-targets --no-default-features -- -D warnings
step scripts/check_data.py
optional cargo-deny cargo deny check bans licenses sources
optional typos typos
optional shellcheck shellcheck scripts/*.sh deploy/compose/*.sh .ci/run
