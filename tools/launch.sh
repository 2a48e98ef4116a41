#!/usr/bin/env bash
# usage: . tools/launch.sh MODULE CONFIG [N] [args]
# Runs `python -m MODULE CONFIG args` in N processes a node: by default one for every GPU, else 1.
# It stays in the caller's folder: paths are relative to that, work_dirs/ too.
# Several nodes: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment, the same command on each
# but for NODE_RANK, which counts the nodes from 0. COLLECTIVE_TIMEOUT=600: seconds after which a
# process that died or hangs ends the others and is named (pretrain/engine/watchdog.py).
# Ends with 75 where it was told to stop (SIGTERM, SIGHUP, Ctrl-C): start it again with --resume.
trap 'exit 75' TERM HUP INT # until Python looks after them (pretrain/engine/stopping.py)
set -euo pipefail

root=$(realpath "$(dirname "$0")/..")
if [[ ! -v typed ]]; then
    typed=("${@:2}")
    [[ " $* " == *" --resume "* ]] || typed+=(--resume)
fi
. "$root/tools/environment.sh"
if (($# < 2)) || [[ $2 == -* ]]; then
    fail "no CONFIG; usage: CONFIG [N] [args], the configs are under $root/configs/"
fi
module=$1 config=$2
shift 2
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    processes=$1
    shift
else
    processes=$("$python" -c 'import torch; print(max(1, torch.cuda.device_count()))')
fi
nodes=${NNODES:-1} node=${NODE_RANK:-0}
((processes > 0)) || fail "$processes processes; expected 1 or more"
[[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "NNODES is '$nodes'; expected the number of nodes"
if [[ -n ${PORT+set} ]]; then
    [[ $PORT =~ ^[1-9][0-9]{0,4}$ ]] && ((PORT <= 65535)) || fail "PORT is '$PORT'; expected a number, 1 to 65535"
fi
if ((nodes > 1)) && [[ -z ${NODE_RANK:-} || -z ${MASTER_ADDR:-} ]]; then
    fail "NNODES is $nodes; set MASTER_ADDR to the first node's address and NODE_RANK to this one's number, 0 to $((nodes - 1))"
fi
[[ $node =~ ^[0-9]+$ ]] && ((node < nodes)) ||
    fail "NODE_RANK is '$node' of $nodes nodes; expected 0 to $((nodes - 1))"

start=("$python" -m pretrain.engine.start)
held=(--block-signal=TERM --block-signal=HUP --block-signal=INT) # coreutils before 8.31 cannot
env "${held[@]}" true 2>/dev/null && start=(env "${held[@]}" "${start[@]}")
if ((processes * nodes == 1)); then
    exec "${start[@]}" "$module" "$config" "$@"
fi
exec "${start[@]}" "$processes" "$module" "$config" --launcher pytorch "$@"
