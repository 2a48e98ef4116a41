#!/usr/bin/env bash
# usage: tools/dist_test.sh CONFIG CHECKPOINT [N] [--work-dir DIR] [--record] [--cfg-options NAME=VALUE ...]
set -euo pipefail
if (($# < 2)) || [[ $1 == -* || $2 == -* ]]; then
    echo "error: no CONFIG and CHECKPOINT; usage: tools/dist_test.sh CONFIG CHECKPOINT [N] [args]" >&2
    exit 2
fi
typed=("$@")
config=$1 checkpoint=$2
shift 2
processes=()
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    processes=("$1")
    shift
fi
. "$(dirname "$0")/launch.sh" transfer.evaluate "$config" "${processes[@]}" "$checkpoint" "$@"
