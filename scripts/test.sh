#!/usr/bin/env bash
# Runs every test under the release profile, the one that llama.cpp is built for.
#
#   scripts/test.sh [--pure] [arguments for the test runner]
#
# --pure: only the modules that need no engine; no cmake, no libclang, no models.
# Each test that touches the engine wants a process of its own, because llama.cpp may abort it and initialises once:
# nextest does that. cargo test, when nextest is missing, runs them one after the other instead.
set -euo pipefail
source "$(dirname "$0")/env.sh"

what=(--release --workspace "${feature_flags[@]}")
if [[ ${1:-} == --pure ]]; then
    shift
    what=(--no-default-features --lib)
fi

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked "${what[@]}" "$@"
    # nextest leaves the examples in the documentation to cargo.
    [[ ${what[*]} == *--lib* ]] || cargo test --locked "${what[@]}" --doc
else
    say "cargo-nextest is missing: using cargo test, which is slower (MAITRED_INSTALL_NEXTEST=1 make deps installs it)"
    cargo test --locked "${what[@]}" "$@" -- --test-threads=1
fi
