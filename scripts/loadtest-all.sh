#!/usr/bin/env bash
# Every scenario of docs/PERFORMANCE.md, one after the other; reports and plots go to loadtest-out/. An hour of a machine
# that does nothing else.
#
#   FILES="a.jsonl b.jsonl"  restaurants and their reviews (the project's samples, which are small)
#   SEED=N                   what random choices are drawn from (1)
set -euo pipefail
source "$(dirname "$0")/env.sh"

read -r -a files <<<"${FILES:-data/sample-restaurants.jsonl}"
seed=${SEED:-1}

cargo build --release --locked --workspace --bins "${feature_flags[@]}"
scripts/install-peers.sh || say "without peers: they could not be installed"

# scenario NAME FOLDER [FLAGS]: one that fails does not keep the others from running.
failed=()
scenario() {
    local name=$1 folder=$2
    shift 2
    say "== $name $*"
    "$CARGO_TARGET_DIR/release/maitred-loadtest" "$name" --seed "$seed" --out "loadtest-out/$folder" "$@" ||
        failed+=("$name ($folder)")
}

scenario simulate all "${files[@]}"
for file in "${files[@]}"; do
    folder=$(basename "${file%.*}")
    scenario profile "$folder" "$file"
    scenario sweep "$folder" "$file"
    scenario scheduler "$folder" "$file" --jobs "${JOBS:-60}"
    scenario peers "$folder" "$file"
    scenario growth "$folder" "$file"
    scenario stress "$folder" "$file" --cells "${CELLS:-2048}"
done
scenario ablation all "${files[0]}"
scenario fleet all "${files[@]}" --jobs "${JOBS:-60}" --worker engine.backend=sim
scenario telemetry all "${files[@]}" --jobs "${JOBS:-60}"

((${#failed[@]} == 0)) || die "these scenarios failed: ${failed[*]}"
