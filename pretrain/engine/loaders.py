"""The workers of a run's loaders: a fault of one is told in one line, with what mends it.

torch tells of a worker that ended in many words, and waits for ever for one that was stopped or
that could not hand over its batch, since /dev/shm was full.
"""

import errno
import os
import re
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from mmengine.registry import FUNCTIONS

from pretrain.engine.stop_signals import SIGNALS

SHARED = "/dev/shm"
NO_ROOM = (
    "No space left on device (28)", "unable to write to file </torch_", "Bus error",
    "unable to allocate shared memory", f"exit code {errno.ENOSPC}.",
)  # fmt: skip
DEATH = re.compile(r"worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.]*)")
FEWER = "--cfg-options train_dataloader.num_workers=N"
STATES = {"T": "is stopped", "Z": "has died"}


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
    """What a loader's worker died of, from what torch raised; "" where it is none of that."""
    text = f"{error.__cause__ or ''} {error}"
    died = DEATH.search(text)
    named = f"loader worker (process {died[1]})" if died else "a loader worker"
    if any(words in text for words in NO_ROOM):
        return (
            f"{named} found no room in {SHARED}{_free()}; set fewer workers with {FEWER} (0: "
            "none, which needs no room), or give a container more with docker's --shm-size=8g"
        )
    if died is None:
        return ""
    return f"{named} {died[2]}; where it was for want of memory, set fewer workers with {FEWER}"


def stuck_workers() -> str:
    """The loader workers of this process that are stopped or dead, in words; "" where none is."""
    found = []
    for child in _children():
        with suppress(OSError):  # it has gone meanwhile
            state = Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0]
            if state in STATES and _is_forked(child):
                found.append(f"loader worker (process {child}) {STATES[state]}")
    return ", ".join(found)


def _is_forked(child: str) -> bool:
    """Whether it is of this program, and no other that was started; a dead one tells no more."""
    words = Path(f"/proc/{child}/cmdline").read_bytes()
    return words in (b"", Path("/proc/self/cmdline").read_bytes())


def _children() -> list[str]:
    """Process ids, by whichever thread they were started."""
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += task.read_text().split()
    return found


def _free() -> str:
    room = os.statvfs(SHARED)
    free, size = room.f_bavail * room.f_frsize / 2**20, room.f_blocks * room.f_frsize / 2**20
    return f" ({free:.0f} MiB of {size:.0f} free)"
