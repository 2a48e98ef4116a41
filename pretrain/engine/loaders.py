"""The workers of a run's loaders: a fault of one is told in one line, with what repairs it.

torch says a lot about a worker that ended, and waits for ever for one that was stopped or that
could not hand over its batch, since /dev/shm was full.
"""

import errno
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from multiprocessing.queues import Queue
from pathlib import Path
from shutil import disk_usage
from typing import Any

from mmengine.registry import FUNCTIONS

from pretrain.engine.stopping import SIGNALS, VARIABLE, collective_timeout_s

SHARED = "/dev/shm"
NO_ROOM = (
    "No space left on device (28)", "unable to write to file </torch_", "Bus error",
    "unable to allocate shared memory", f"exit code {errno.ENOSPC}.",
)  # fmt: skip
DEATH = re.compile(r"worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.]*)")
FEWER = "--cfg-options train_dataloader.num_workers=N"


def guard_workers(loader: dict[str, Any]) -> None:
    """Put into a loader's config what its workers need to end with the run, and to be missed.

    A batch may take 0.9 of COLLECTIVE_TIMEOUT: then the loader speaks before the watchdog, since it
    knows its workers.
    """
    loader["worker_init_fn"] = {"type": "leave_signals_to_the_run"}
    if loader.get("num_workers"):
        loader["timeout"] = 0.9 * collective_timeout_s()


@FUNCTIONS.register_module()
def leave_signals_to_the_run(worker_id: int) -> None:
    """The ``worker_init_fn`` of every loader: a signal to stop ends a worker if its parent sent it.

    And if it cannot hand over a batch, it ends, which its parent sees. Samples are seeded by their
    keys, so nothing is seeded here.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_end_when_the_parent_says, args=(os.getppid(),), daemon=True).start()
    Queue._on_queue_feeder_error = staticmethod(_end_of_a_worker)  # type: ignore[attr-defined]


def _end_when_the_parent_says(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _end_of_a_worker(error: Exception, batch: Any) -> None:
    """In the thread that hands over; by itself it would leave the batch out."""
    if not any(words in str(error) for words in NO_ROOM):
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)
    os._exit(errno.ENOSPC)


def worker_fault(error: BaseException) -> str:
    """What a loader's worker died of, from what torch raised; "" where it is none of that.

    Workers that were stopped are killed, or this process would wait for them at its end.
    """
    text = f"{error.__cause__ or ''} {error}"
    if "DataLoader timed out" in text:
        return f"no batch within 0.9 of {VARIABLE}: {_kill_stopped_workers()}"
    died = DEATH.search(text)
    named = f"loader worker (process {died[1]})" if died else "a loader worker"
    if any(words in text for words in NO_ROOM):
        return (
            f"{named} found no room in {SHARED} ({disk_usage(SHARED).free / 2**20:.0f} MiB of "
            f"{disk_usage(SHARED).total / 2**20:.0f} free); set fewer workers with {FEWER} (0: "
            "none, which needs no room), or give a container more with docker's --shm-size=8g"
        )
    if died is None:
        return ""
    return f"{named} {died[2]}; where it was for want of memory, set fewer workers with {FEWER}"


def _kill_stopped_workers() -> str:
    """What keeps the workers of this process, in words."""
    stopped = []
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise here
    for child in multiprocessing.active_children():
        if Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].startswith("T"):
            stopped.append(str(child.pid))
            child.kill()
    if stopped:
        return f"loader worker (process {', '.join(stopped)}) is stopped"
    return f"the loader's workers are too slow or hang; set {VARIABLE}=SECONDS to wait longer"
