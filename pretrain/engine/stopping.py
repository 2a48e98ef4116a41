"""When a process stops: told to, with the one that started it, or after the stated time.

Told to stop by SIGTERM, Ctrl-C or a closed terminal, a run ends with exit status 75: not finished,
no fault; the same command, started again, goes on. Slurm requeues a job that ends with it, where
slurm.conf has ``RequeueExit=75``. A training finishes its iteration and saves first. A second
signal ends it at once, and so does the end of COLLECTIVE_TIMEOUT. A thread sees to that, since the
main thread may hang. Only Python's own modules are imported here: torch takes seconds, in which a
signal must count already.
"""

import ctypes
import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

VARIABLE = "COLLECTIVE_TIMEOUT"
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ECHO_S = 1.0  # a signal comes twice, where it goes to a launcher and to all processes
NOTICE_S = 3.0  # an iteration that takes longer is announced
GOES_ON_WITH = "GOES_ON_WITH"  # in the environment: the user's command, with --resume
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def collective_timeout_s() -> float:
    """The longest that an iteration may take, that processes wait for each other at the start, and
    that a run may live on once it was told to stop.

    Raises:
        ValueError: the variable holds no number of seconds.
    """
    text = os.environ.get(VARIABLE, "600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < float("inf"):
        raise ValueError(f"{VARIABLE} is {text!r}; expected a number of seconds, 1 or more")
    return seconds


def end_with_the_parent(number: int = signal.SIGKILL) -> Callable[[], None]:
    """What a new child of this process calls, so that the kernel ends it when this one ends. Linux.

    Called in a child of the child, by inheritance, it does the same there. What the child becomes
    by exec keeps it.

    Args:
        number: of the signal that the child gets.
    """
    if sys.platform != "linux":
        return lambda: None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def in_child() -> None:
        nonlocal parent
        if (
            number != signal.SIGKILL
        ):  # a handler of this process would only note it, and exec forget
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
        parent = os.getpid()

    return in_child


class Stop:
    """What this process was told, and what it does then."""

    told: signal.Signals | None = None
    saves = False  # a training is under way, which looks at ``told`` after every iteration
    _heard: int | None = None  # the pipe's end, where signals are listened to

    def listen(self) -> None:
        """From now on. A signal that is ignored, as nohup wants it, stays so."""
        if self._heard is not None:
            return
        self._heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
        os.register_at_fork(after_in_child=self._in_child)
        threading.Thread(target=self._wait, name="stop", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a launcher has blocked them

    def command(self) -> str:
        """What continues this run."""
        if typed := os.environ.get(GOES_ON_WITH):
            return typed.strip()
        spec = sys.modules["__main__"].__spec__
        words = ["python", *(["-m", spec.name] if spec else sys.argv[:1]), *sys.argv[1:]]
        return shlex.join(words if "--resume" in words else [*words, "--resume"])

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.told = signal.Signals(number)

    def _wait(self) -> None:
        first, begun = self._next(None), time.monotonic()
        assert first is not None
        self.told = first
        if not self.saves:
            self._end(f"stopped by {first.name}")
        until = begun + collective_timeout_s()
        notice = f"{first.name}: the run stops after its iteration; once more ends it at once"
        while time.monotonic() < until:
            wait_s = min(until, begun + NOTICE_S if notice else until) - time.monotonic()
            if self._next(max(0.0, wait_s)) and time.monotonic() - begun > ECHO_S:
                self._end(f"stopped at once by a second {self.told.name}")
            if notice and time.monotonic() >= begun + NOTICE_S:
                self._say(notice)
                notice = ""
        self._end(f"stopped by {first.name}, whose iteration did not end within {VARIABLE}")

    def _next(self, wait_s: float | None) -> signal.Signals | None:
        """The next of SIGNALS; None where the time is over, or another signal came."""
        assert self._heard is not None
        while select.select([self._heard], [], [], wait_s)[0]:
            number = os.read(self._heard, 1)[0]
            if number in SIGNALS:
                return signal.Signals(number)
            if wait_s is not None:
                break
        return None

    def _end(self, why: str) -> None:
        self._say(f"{why}; to go on: {self.command()}")
        os._exit(TRY_AGAIN)

    @staticmethod
    def _say(line: str) -> None:
        """One process says it for all of its node."""
        local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
        with suppress(OSError):  # a terminal that is closed
            os.write(2, f"{line}\n".encode() if local == "0" else b"")

    @staticmethod
    def _in_child() -> None:
        """A loader's worker, which inherits the pipe: it ends with its run."""
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


STOP = Stop()
