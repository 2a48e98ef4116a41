"""Exit status 75: not finished, no fault. The same command, started again, goes on.

Slurm requeues a job that ends with it, where slurm.conf has ``RequeueExit=75``.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


@contextmanager
def try_again_on_sigterm() -> Iterator[None]:
    """Within it, or in a function that it decorates, SIGTERM ends the process with TRY_AGAIN.

    For everything before and after a training: while it trains, ``AtomicCheckpoint`` saves first.
    """

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(TRY_AGAIN)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
