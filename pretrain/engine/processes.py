"""The processes of a run: who started them, our launcher, torchrun or Slurm, and how they meet."""

import atexit
import os
import re
import socket
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.dist import init_dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from pretrain.engine.stopping import VARIABLE, collective_timeout_s, end_with_the_parent
from pretrain.engine.watchdog import PATIENCE, Watchdog

# What torch reads, and what Slurm's srun calls it.
SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
BETWEEN_LOOKS_S = 0.1


def join_processes(launcher: str) -> Watchdog:
    """Meet the other processes of the run, over NCCL with GPUs and over Gloo without.

    From then on this process is watched, and what it forks ends with it.

    Args:
        launcher: who started this process: ``none``; ``pytorch`` (tools/launch.sh, or torchrun); or
            ``slurm`` (srun).

    Returns:
        The watchdog of this process, started; it knows how many there are.

    Raises:
        ValueError: the launcher did not start this process or gave it odd numbers, there are more
            processes on the node than GPUs, or some did not come within COLLECTIVE_TIMEOUT.
    """
    longest_s = collective_timeout_s()
    os.register_at_fork(after_in_child=end_with_the_parent())
    if launcher == "none":
        watchdog = Watchdog(0, 1, longest_s)
        watchdog.start()
        return watchdog
    if launcher == "slurm":
        read_slurm_environment()
    if missing := [name for name in SLURM_NAMES if name not in os.environ]:
        raise ValueError(
            f"--launcher {launcher}, but {', '.join(missing)} is not set, so torchrun did not "
            "start this process; leave --launcher out: tools/pretrain.sh CONFIG N puts it in"
        )
    rank, world_size, local = (int(os.environ[name]) for name in SLURM_NAMES)
    gpus = torch.cuda.device_count()
    if gpus and local >= gpus:
        raise ValueError(
            f"process {local + 1} of this node sees {gpus} GPUs and needs one of its own; start at "
            f"most {gpus} processes a node"
        )
    group = PrefixStore("group", meet(rank, world_size, longest_s))
    watchdog = Watchdog(rank, world_size, longest_s)
    watchdog.start()
    last_s = (PATIENCE + 1) * longest_s  # the watchdog is to speak first
    if gpus:
        init_dist(
            "pytorch", backend="nccl", timeout=last_s, store=group, rank=rank, world_size=world_size
        )
    else:  # mmengine's init_dist wants a GPU
        dist.init_process_group(
            "gloo", timeout=timedelta(seconds=last_s), store=group, rank=rank, world_size=world_size
        )
        atexit.register(dist.destroy_process_group)  # a thread of Gloo's would abort the exit
    return watchdog


class Rank0DoesNotAnswer(ValueError):
    """It has not come, or has ended: so another one has to say so."""


def speaks(error: Exception) -> bool:
    """Whether this process prints what all of them found wrong; one of a node until they met."""
    if dist.is_initialized():
        return dist.get_rank() == 0
    rank, local = os.environ.get("RANK", "0"), os.environ.get("LOCAL_RANK", "0")
    return local == "0" or (rank == local == "1" and isinstance(error, Rank0DoesNotAnswer))


def meet(rank: int, world_size: int, longest_s: float) -> Store:
    """Wait until all processes have come to MASTER_ADDR and MASTER_PORT, where rank 0 listens.

    torch's ``init_process_group`` waits as well, but tells how many have not come and not who, and
    retries an address that does not exist.

    Returns:
        What they share.

    Raises:
        ValueError: the address cannot be resolved, the port is in use, two have the same rank; or
            some have not come within ``longest_s``: says who.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    listens = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    until = time.monotonic() + longest_s
    try:
        socket.getaddrinfo(address, port)
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"MASTER_ADDR is {address!r}, which this node cannot resolve ({error}); set it to an "
            "address of rank 0's node"
        ) from error
    if not listens:
        _wait_for_rank_0(address, port, until)
    try:
        store = TCPStore(
            address, port, is_master=listens, wait_for_workers=False, timeout=timedelta(seconds=60)
        )
    except RuntimeError as error:
        raise ValueError(
            f"rank 0 cannot listen at MASTER_PORT {port} of its node: another job does, or a "
            "second process has rank 0 (Slurm: SLURM_PROCID); set PORT to a free one"
        ) from error
    if store.add(f"came {rank}", 1) > 1:
        raise ValueError(
            f"two processes have RANK (Slurm: SLURM_PROCID) {rank}; start each with its own, 0 to "
            f"{world_size - 1}"
        )
    try:
        while away := [r for r in range(world_size) if not store.check([f"came {r}"])]:
            if store.check(["over"]) or time.monotonic() > until:
                break
            time.sleep(BETWEEN_LOOKS_S)
        if listens and away:
            store.set("over", "")
            time.sleep(10 * BETWEEN_LOOKS_S)  # the others are to read it here
    except RuntimeError as error:
        raise Rank0DoesNotAnswer(f"rank 0, which listened at {address}:{port}, ended") from error
    if away:
        raise ValueError(
            f"no rank {', '.join(map(str, away))} of {world_size} processes at {address}:{port} "
            f"within {longest_s:g} s; see what became of it there, or give more time with "
            f"{VARIABLE}=SECONDS"
        )
    return store


def _wait_for_rank_0(address: str, port: int, until: float) -> None:
    """torch would wait too, and then print a page."""
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise Rank0DoesNotAnswer(
                    f"rank 0 does not answer at {address}:{port} ({error}): it has not come within "
                    f"{VARIABLE}, or MASTER_ADDR is not its node's"
                ) from error
        time.sleep(BETWEEN_LOOKS_S)


def read_slurm_environment() -> None:
    """Put what srun has set under the names that torch reads.

    Rank 0 runs on the first node. An address or a port that is set already stays; the default port
    follows from the job's number, so that two jobs on one node do not meet.

    Raises:
        ValueError: srun did not start this process, or a variable is not what srun would set.
    """
    lists = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
    node_list = next((name for name in lists if os.environ.get(name)), None)
    missing = [name for name in SLURM_NAMES.values() if name not in os.environ]
    if missing or not node_list:
        raise ValueError(
            f"--launcher slurm, but {', '.join(missing) or 'SLURM_JOB_NODELIST'} is not set, so "
            "srun did not start this process; start with: "
            "bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG"
        )
    tasks = _number("SLURM_NTASKS", 1, 10**6)
    for name, slurm_name in SLURM_NAMES.items():
        _number(slurm_name, 0, tasks if name == "WORLD_SIZE" else tasks - 1)
        os.environ[name] = os.environ[slurm_name]
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = first_node(os.environ[node_list], node_list)
    chosen = next((name for name in ("MASTER_PORT", "PORT") if name in os.environ), None)
    job = _number("SLURM_JOB_ID", 0, 10**12) if "SLURM_JOB_ID" in os.environ else 0
    port = _number(chosen, 1, 65535) if chosen else 20000 + job % 10000
    os.environ["MASTER_PORT"] = str(port)


def _number(name: str, least: int, most: int) -> int:
    text = os.environ[name]
    if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= most:
        raise ValueError(f"{name} is {text!r}; expected a number, {least} to {most}")
    return int(text)


def first_node(nodes: str, variable: str = "SLURM_JOB_NODELIST") -> str:
    """The first host of a list in Slurm's notation: ``gpu[07-09,12],cpu1`` -> ``gpu07``.

    Raises:
        ValueError: it is no such list; names the variable that it is from.
    """
    first = re.match(r"(?:[\w.-]|\[[\d,-]+\])+(?=,|$)", nodes)
    if first is None:
        raise ValueError(f"{variable} is {nodes!r}; expected nodes as srun lists them: gpu[1-4],b7")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group())
