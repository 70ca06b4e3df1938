#!/usr/bin/env bash
# Analyses the project's sample reviews and shows the result.
set -euo pipefail
source "$(dirname "$0")/env.sh"

bin/maitred analyze data/sample-restaurants.jsonl "$@"
