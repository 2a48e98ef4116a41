"""Processes end with the one that started them: not later, and not before.

A loader's worker whose parent is killed can wait for ever to hand over its last batch. It would
keep its memory, and the lock on the work folder that it inherited. And a signal to stop that
reaches the workers too, as Slurm's and Ctrl-C do, must not take them from a run that still has to
finish its iteration.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_the_parent(parent: int, number: int = signal.SIGKILL) -> Callable[[], None]:
    """What a new child of ``parent`` calls, so that the kernel ends it when that ends. Linux.

    Called in a child of the child, by inheritance, it does the same there. What the child becomes
    by exec keeps it.

    Args:
        parent: its process id.
        number: of the signal that the child gets.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        nonlocal parent
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
        parent = os.getpid()

    return in_child


def end_children_with_this_process() -> None:
    """From now on every process that is forked off this one ends with it."""
    os.register_at_fork(after_in_child=end_with_the_parent(os.getpid()))
