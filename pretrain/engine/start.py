"""``python -m pretrain.engine.start [N] MODULE ARGUMENTS``: ``python -m MODULE ...``, but safe.

Here or, with N, in so many processes. From its first moment to its last a signal to stop ends it
with 75. Importing torch takes seconds, in which a signal would end it as a fault; those before
Python itself is there are held back by who starts it.
"""

import os
import runpy
import signal
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from pretrain.engine.ranks import run_ranks
from pretrain.engine.stop_signals import SIGNALS, STOP


def main(words: list[str]) -> None:
    """Runs MODULE with its arguments; before them perhaps the number of processes."""
    if words[0].isdecimal():
        sys.exit(run_ranks(int(words[0]), words[1:]))
    STOP.listen()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a store warns of each process that ends
    sys.argv[:] = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if stop.code:
            leave(stop.code)
        raise
    except BaseException as error:
        leave("".join(traceback.format_exception(error)).rstrip())
    finally:
        for number in SIGNALS:  # its status stands
            signal.signal(number, signal.SIG_IGN)


def leave(code: int | str) -> NoReturn:
    """End at once, as with ``sys.exit``: threads of torch's and workers could hold it up, or abort.

    Args:
        code: exit status; or what to print, before status 1.
    """
    with suppress(OSError):  # nobody reads any more
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")  # at once, beside other processes
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
