# shellcheck shell=bash disable=SC2034  # the variables are for the scripts that source this
# Sourced by every script: goes to the repository's root and sets what all builds must share.
#
# llama.cpp takes minutes to build, so the target folder lies outside the clone: every clone and worktree finds the
# same build. Nothing here may depend on the caller, or the build would be made again.

if ((BASH_VERSINFO[0] * 10 + BASH_VERSINFO[1] < 44)); then
    echo "error: bash 4.4 or newer is needed, this is $BASH_VERSION (macOS: brew install bash)" >&2
    exit 1
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

cache_home=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/maitred
models_dir=${MAITRED_MODELS_DIR:-$cache_home/models}

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache_home/target}
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(getconf _NPROCESSORS_ONLN)}

# Extra cargo features, such as FEATURES=cuda; part of every command that compiles the engine.
feature_flags=()
if [[ -n ${FEATURES:-} ]]; then
    feature_flags=(--features "$FEATURES")
fi

have() {
    command -v "$1" >/dev/null 2>&1
}

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}
