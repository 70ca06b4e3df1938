#!/usr/bin/env bash
# Fetches the models; those that are there and sound are left alone.
set -euo pipefail
source "$(dirname "$0")/env.sh"

bin/maitred model fetch ||
    die "the models could not be fetched; run \`bin/maitred model fetch\` again when the network is back, or name GGUF files of your own (README.md, 'Your own models')"
