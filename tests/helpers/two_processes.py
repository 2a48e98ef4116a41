"""Two processes that can talk to each other, as quick to have as a fork."""

import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start_two(work, folder: Path, meet: bool = True, **environment: str) -> list[int]:
    """Fork two processes that run ``work(rank)``; what they print goes to a file each.

    Args:
        meet: whether they are in a group before that, or find each other by the environment.

    Returns:
        Their ids, by rank; each ends with 0, or with 1 and a traceback in its file.
    """
    port = str(free_port())
    found = []
    for rank in (0, 1):
        pid = os.fork()
        if pid:
            found.append(pid)
            continue
        status = 1
        try:
            file = os.open(folder / f"rank{rank}.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
            os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, **environment)
            torch.set_num_threads(1)
            if meet:
                dist.init_process_group("gloo", timeout=timedelta(seconds=120))
            work(rank)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
            print(stop.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return found


def wait_for(pid: int, longest_s: float = 300) -> int:
    """The exit status of a process, negative where a signal ended it."""
    end = time.monotonic() + longest_s
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    raise AssertionError(f"process {pid} did not end within {longest_s} s")


def end(pids: list[int]) -> None:
    """Leave none behind, stopped ones neither."""
    for pid in pids:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def in_two_processes(work, folder: Path, meet: bool = True, **environment: str) -> list[str]:
    """What two processes printed that have run ``work(rank)`` to its end."""
    pids = start_two(work, folder, meet, **environment)
    try:
        statuses = [wait_for(pid) for pid in pids]
    finally:
        end(pids)
    logs = [(folder / f"rank{rank}.log").read_text() for rank in (0, 1)]
    assert statuses == [0, 0], "\n".join(logs)
    return logs
