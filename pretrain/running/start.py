"""``python -m pretrain.running.start [N] MODULE ARGUMENTS``: ``python -m MODULE ...``, but safe.

Here or, with N, in so many processes. From its first moment to its last a signal to stop ends it
with 75. Importing torch takes seconds, in which a signal would end it as a fault; those before
Python itself is there are held back by who starts it.
"""

import runpy
import signal
import sys

from pretrain.running.ranks import run_ranks
from pretrain.running.try_again import SIGNALS, STOP


def main(words: list[str]) -> None:
    """Runs MODULE with its arguments; before them perhaps the number of processes."""
    if words[0].isdecimal():
        sys.exit(run_ranks(int(words[0]), words[1:]))
    STOP.listen()
    sys.argv[:] = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        for number in SIGNALS:  # its status stands
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main(sys.argv[1:])
