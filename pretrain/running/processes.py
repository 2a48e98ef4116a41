"""The processes of a run: who started them, torchrun or Slurm, and how they find each other."""

import atexit
import os
import re
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size, init_dist

from pretrain.running.watchdog import PATIENCE, collective_timeout_s

# What torch reads, and what Slurm's srun calls it.
SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def join_processes(launcher: str) -> int:
    """Meet the other processes of the run, over NCCL with GPUs and over Gloo without.

    Args:
        launcher: who started this process: ``none``, ``pytorch`` (torchrun) or ``slurm`` (srun).

    Returns:
        How many processes there are.

    Raises:
        ValueError: the launcher did not start this process, there are more processes on the node
            than GPUs, or COLLECTIVE_TIMEOUT is no number of seconds.
    """
    if launcher == "none":
        return 1
    if launcher == "slurm":
        read_slurm_environment()
    missing = [name for name in SLURM_NAMES if name not in os.environ]
    if missing:
        raise ValueError(
            f"--launcher {launcher}, but {', '.join(missing)} is not set, so torchrun did not "
            "start this process; leave --launcher out: tools/pretrain.sh CONFIG N puts it in"
        )
    gpus = torch.cuda.device_count()
    if gpus and int(os.environ["LOCAL_RANK"]) >= gpus:
        raise ValueError(
            f"process {int(os.environ['LOCAL_RANK']) + 1} of this node sees {gpus} GPUs and needs "
            f"one of its own; start at most {gpus} processes a node"
        )
    longest_s = (PATIENCE + 1) * collective_timeout_s()  # the watchdog is to speak first
    if gpus:
        init_dist("pytorch", backend="nccl", timeout=longest_s)
    else:  # mmengine's init_dist wants a GPU
        dist.init_process_group("gloo", timeout=timedelta(seconds=longest_s))
        atexit.register(dist.destroy_process_group)  # a thread of Gloo's would abort the exit
    return get_world_size()


def read_slurm_environment() -> None:
    """Put what srun has set under the names that torch reads.

    Rank 0 runs on the first node. An address or a port that is set already stays; the default port
    follows from the job's number, so that two jobs on one node do not meet.

    Raises:
        ValueError: srun did not start this process.
    """
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
    missing = [name for name in SLURM_NAMES.values() if name not in os.environ]
    if missing or not nodes:
        raise ValueError(
            f"--launcher slurm, but {', '.join(missing) or 'SLURM_JOB_NODELIST'} is not set, so "
            "srun did not start this process; start with: "
            "bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG"
        )
    for name, slurm_name in SLURM_NAMES.items():
        os.environ[name] = os.environ[slurm_name]
    os.environ.setdefault("MASTER_ADDR", first_node(nodes))
    job = int(os.environ.get("SLURM_JOB_ID", "0"))
    os.environ.setdefault("MASTER_PORT", str(20000 + job % 10000))


def first_node(nodes: str) -> str:
    """The first host of a list in Slurm's notation: ``gpu[07-09,12],cpu1`` -> ``gpu07``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    assert first is not None, nodes
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group())
