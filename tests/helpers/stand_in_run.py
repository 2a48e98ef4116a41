"""A module for ``pretrain.engine.start`` that does as it is told, without torch."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from pretrain.engine.stopping import SIGNALS, STOP
from tests.helpers.places import ROOT

MODULE = "tests.helpers.stand_in_run"


class Started:
    """``python -m pretrain.engine.start WORDS``; signals are set as a shell has them."""

    def __init__(self, *words: str, mask=(), ignored=(), **environment: str) -> None:
        def as_in_a_shell():
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "PORT", "NNODES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pretrain.engine.start", *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=as_in_a_shell, start_new_session=True,
            env={**clean, "PYTHONPATH": str(ROOT), "GOES_ON_WITH": "the command ", **environment},
        )  # fmt: skip

    def ready(self, processes: int = 1) -> list[int]:
        """The ids of the module's processes."""
        return [int(self.process.stdout.readline().split()[1]) for _ in range(processes)]

    def end(self) -> tuple[int, str]:
        """Exit status, and what was printed to stderr."""
        _, printed = self.process.communicate(timeout=300)
        return self.process.returncode, printed


def hang() -> None:
    while True:  # in C, where Python's handlers do not run
        ctypes.CDLL(None).sleep(1000)


def main(how: str, rank: int) -> None:
    STOP.saves = how.startswith("saves")
    told = " ".join(f"{name}={os.environ.get(name)}" for name in ("RANK", "WORLD_SIZE"))
    os.write(1, f"ready {os.getpid()} {told} {sys.argv[2:]}\n".encode())
    if how in ("hangs", "saves and hangs"):
        hang()
    if how in ("saves", "saves, told twice"):
        while not STOP.told:
            time.sleep(0.01)
        if how == "saves, told twice":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        sys.exit(75)
    if how == "error":
        sys.exit("error: a clean one" if rank == 0 else 1)
    if how == "one fails" and rank == 1:
        sys.exit(3)
    if how == "dies" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("one fails", "dies"):
        time.sleep(0.5)
        sys.exit(7)


if __name__ == "__main__":
    main(sys.argv[1], int(os.environ.get("RANK", "0")))
