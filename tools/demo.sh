#!/usr/bin/env bash
# usage: tools/demo.sh [OUT]      (default: demo_out)
# Set-up, then the main job on drawn scenes: pretrain, transfer, tables, OUT/report.html.
# Called again, it continues where it stopped and reuses what is finished.
set -euo pipefail

out=${1:-demo_out}
[[ $out == /* ]] || out=$PWD/$out
cd "$(dirname "$0")/.."
bash tools/setup.sh
exec .venv/bin/python tools/demo.py "$out"
