#!/usr/bin/env bash
# Deletes what was built and fetched outside the clone. The next build makes llama.cpp again, which takes minutes.
# Only maitred's own folders under the cache are touched; a folder named by CARGO_TARGET_DIR or MAITRED_MODELS_DIR
# may hold other things and is left alone.
set -euo pipefail
source "$(dirname "$0")/env.sh"

for folder in "$CARGO_TARGET_DIR" "$models_dir" "$cache_home"/servers "$cache_home"/python \
    "$cache_home"/cuda "$cache_home"/target-cuda "$cache_home"/peers; do
    case $folder in
    "$cache_home"/target | "$cache_home"/models | "$cache_home"/servers | "$cache_home"/python | "$cache_home"/cuda | \
        "$cache_home"/target-cuda | "$cache_home"/peers)
        if [[ -d $folder ]]; then
            say "deleting $folder ($(du -sh "$folder" | cut -f1))"
            rm -rf -- "$folder"
        fi
        ;;
    *) say "left alone, it was chosen by you: $folder" ;;
    esac
done
