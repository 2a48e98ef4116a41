#!/usr/bin/env bash
# usage: tools/linear_probe.sh CONFIG [N] [--work-dir DIR] [--resume] [--cfg-options NAME=VALUE ...]
set -euo pipefail
. "$(dirname "$0")/launch.sh" pretrain.readout.linear_probe "$@"
