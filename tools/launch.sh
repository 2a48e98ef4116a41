#!/usr/bin/env bash
# usage: tools/launch.sh MODULE CONFIG [N] [args]
# Runs `python -m MODULE CONFIG args` in N processes a node: by default one for every GPU, else 1.
# It stays in the caller's folder: paths are relative to that, work_dirs/ too.
# Several nodes: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment, the same command on each
# but for NODE_RANK, which counts the nodes from 0. COLLECTIVE_TIMEOUT=600: seconds after which a
# process that died or hangs ends the others and is named (pretrain/running/watchdog.py).
# Ends with 75 where the run was told to stop and saved: start it again with --resume.
set -euo pipefail

fail() {
    printf 'error: %s\n' "$@" >&2
    exit 2
}

root=$(realpath "$(dirname "$0")/..")
if (($# < 2)) || [[ $2 == -* ]]; then
    fail "no CONFIG; usage: CONFIG [N] [args], the configs are under $root/configs/"
fi
module=$1 config=$2
shift 2
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || fail "no $python; run: bash $(printf %q "$root/tools/setup.sh")"
# This checkout's packages before what the caller's folder has under the same name (Python 3.10 has no
# PYTHONSAFEPATH: there the caller's come first).
export PYTHONSAFEPATH=1 PYTHONPATH=$root:${PYTHONPATH:+$PYTHONPATH:}$PWD
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    processes=$1
    shift
else
    processes=$("$python" -c 'import torch; print(max(1, torch.cuda.device_count()))')
fi
nodes=${NNODES:-1} node=${NODE_RANK:-0} port=${PORT:-29500}
((processes > 0)) || fail "$processes processes; expected 1 or more"
[[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "NNODES is '$nodes'; expected the number of nodes"
[[ $port =~ ^[0-9]+$ ]] || fail "PORT is '$port'; expected a number"
if ((nodes > 1)) && [[ -z ${NODE_RANK:-} || -z ${MASTER_ADDR:-} ]]; then
    fail "NNODES is $nodes; set MASTER_ADDR to the first node's address and NODE_RANK to this one's number, 0 to $((nodes - 1))"
fi
[[ $node =~ ^[0-9]+$ ]] && ((node < nodes)) ||
    fail "NODE_RANK is '$node' of $nodes nodes; expected 0 to $((nodes - 1))"

export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # threads that spin while they wait stall a busy machine
export PYTHONUNBUFFERED=1
export REFRESH_TABLES=${REFRESH_TABLES:-1} # 0: a run that ends well leaves the tables beside it alone
if ((processes * nodes == 1)); then
    exec "$python" -m "$module" "$config" "$@"
fi
exec "$python" -m pretrain.running.torchrun --nnodes="$nodes" --node_rank="$node" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" \
    --nproc_per_node="$processes" --module "$module" "$config" --launcher pytorch "$@"
