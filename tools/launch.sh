#!/usr/bin/env bash
# usage: tools/launch.sh MODULE CONFIG [N] [args]
# Runs `python -m MODULE CONFIG args` in N processes a node: by default one for every GPU, else 1.
# Several nodes: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment, the same command on each.
set -euo pipefail

module=$1 config=${2:?usage: CONFIG [N] [args]; the configs are under configs/}
shift 2
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" >/dev/null; then
    echo "error: no $python; run: bash tools/setup.sh" >&2
    exit 1
fi
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    processes=$1
    shift
else
    processes=$("$python" -c 'import torch; print(max(1, torch.cuda.device_count()))')
fi
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # threads that spin while they wait stall a busy machine
export PYTHONUNBUFFERED=1

nodes=${NNODES:-1}
if ((processes * nodes == 1)); then
    exec "$python" -m "$module" "$config" "$@"
fi
exec "$python" -m torch.distributed.run --nnodes="$nodes" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" --module "$module" "$config" --launcher pytorch "$@"
