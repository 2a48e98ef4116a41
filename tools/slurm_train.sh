#!/usr/bin/env bash
# usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [--work-dir DIR] [--resume] [--cfg-options NAME=VALUE ...]
# Trains CONFIG (pretraining, linear probe or detector) as a Slurm job, one process a GPU:
#   GPUS=8           processes in all
#   GPUS_PER_NODE=8  of them on each node; 8, or GPUS where that is less
#   CPUS_PER_TASK=8  cores of each process, for its data workers
#   SRUN_ARGS=""     more arguments of srun, e.g. "--time=24:00:00 --exclude=node3"
#   COLLECTIVE_TIMEOUT=600  seconds after which a process that died or hangs ends the others
#   GRES=            what a node gives; gpu:$GPUS_PER_NODE, or "none" on a partition without GPUs
# Ends with 75 where it was told to stop (SIGTERM, SIGHUP, Ctrl-C): start it again with --resume.
set -euo pipefail

root=$(realpath "$(dirname "$0")/..")
typed=("$@")
[[ " $* " == *" --resume "* ]] || typed+=(--resume)
. "$root/tools/environment.sh"
(($# >= 3)) || fail "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [args]"
partition=$1 job_name=$2 config=$3
shift 3
command -v srun >/dev/null || fail "no srun on this machine; without Slurm take tools/pretrain.sh or tools/dist_train.sh"
gpus=${GPUS:-8}
[[ $gpus =~ ^[1-9][0-9]*$ ]] || fail "GPUS is '$gpus'; expected the number of processes"
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
[[ $gpus_per_node =~ ^[1-9][0-9]*$ ]] && ((gpus % gpus_per_node == 0)) ||
    fail "GPUS_PER_NODE is '$gpus_per_node', GPUS is $gpus; expected a number that divides it"
cpus=${CPUS_PER_TASK:-8}
[[ $cpus =~ ^[1-9][0-9]*$ ]] || fail "CPUS_PER_TASK is '$cpus'; expected the number of cores of a process"
module=$("$python" "$root/tools/trainer_of.py" "$config")
read -ra more <<<"${SRUN_ARGS:-}"
exec srun --partition="$partition" --job-name="$job_name" --gres="${GRES:-gpu:$gpus_per_node}" \
    --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" --cpus-per-task="$cpus" \
    --kill-on-bad-exit=1 "${more[@]}" "$python" -m pretrain.engine.start "$module" "$config" --launcher slurm "$@"
