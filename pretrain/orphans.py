"""No worker outlives a killed run.

A loader's worker whose parent is killed can wait for ever to hand over its last batch. It would
keep its memory, and the lock on the work folder that it inherited.
"""

import ctypes
import os
import signal
import sys

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
