#!/usr/bin/env bash
# Takes the pictures of the pages in docs/: docs/ui-PAGE-WIDTH-SCHEME.png, from the sample reviews in data/.
#
#   scripts/screenshots.sh          with the real models, as the pictures in docs/ are
#   scripts/screenshots.sh --sim    with the simulated engine: no llama.cpp, no models, and findings that mean nothing
#
# PICTURES=FOLDER puts them elsewhere. Needs what `make servers` installs; pngquant makes them small.
set -euo pipefail
source "$(dirname "$0")/env.sh"
source scripts/apt.sh

most=150000

profile=(--release "${feature_flags[@]}")
export MAITRED_PICTURES_BACKEND=llama
if [[ ${1:-} == --sim ]]; then
    profile=(--no-default-features)
    MAITRED_PICTURES_BACKEND=sim
fi
MAITRED_PICTURES=$(realpath --canonicalize-missing "${PICTURES:-docs}")
export MAITRED_PICTURES
mkdir -p "$MAITRED_PICTURES"

if ! have pngquant && can_install; then
    # The fonts only for these pictures: a machine that people sit at has better ones.
    apt_install pngquant fonts-inter fonts-crosextra-caladea fonts-nanum fonts-noto-color-emoji || true
fi

# Not nextest, which would end a run of minutes.
cargo test --locked "${profile[@]}" --test it -- --ignored --exact --nocapture page::screenshots::pictures_of_the_pages

for picture in "$MAITRED_PICTURES"/ui-*.png; do
    if have pngquant; then
        pngquant --force --skip-if-larger --strip --speed 1 --output "$picture" 64 -- "$picture" || true
    fi
    size=$(stat --format=%s "$picture")
    ((size <= most)) || die "$picture has $size bytes, more than $most: install pngquant, or show less"
    say "$picture: $size bytes"
done
