"""Loader workers end with their run: not later, and not before.

A loader's worker whose parent is killed can wait for ever to hand over its last batch. It would
keep its memory, and the lock on the work folder that it inherited. And a signal to stop that
reaches the workers too, as torchrun's does, must not take them from a run that still has to finish
its iteration.
"""

import ctypes
import os
import signal
import sys
import threading

from mmengine.registry import FUNCTIONS

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_children_with_this_process() -> None:
    """From now on the kernel kills every process forked off this one when this one ends. Linux."""
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)

    os.register_at_fork(after_in_child=in_child)


@FUNCTIONS.register_module()
def leave_sigterm_to_the_run(worker_id: int) -> None:
    """The ``worker_init_fn`` of every loader: SIGTERM ends a worker if its parent sent it.

    Samples are seeded by their keys, so nothing is seeded here.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_the_parent_says, args=(os.getppid(),), daemon=True).start()


def _end_when_the_parent_says(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
