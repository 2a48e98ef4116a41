"""``python -m pretrain.engine.start [N] MODULE ARGUMENTS``: ``python -m MODULE ...``, but safe.

A signal to stop ends it with 75 from its first moment on; an error is one line, where it has one.
With N, that many processes of this node run it, with torchrun's variables. One that fails ends the
others, signals are passed on, and the exit status is theirs. If this process is killed, they end
too. Several nodes: NNODES, NODE_RANK and MASTER_ADDR in the environment, and PORT, 29500 without
it; on a node alone any free port is taken.

torch's own launcher does not do that: it ends with 1 where its processes end with 75, adds a
traceback to their errors, and leaves them behind when it is killed itself.
"""

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from typing import NoReturn

from pretrain.engine.stopping import (
    SIGNALS,
    STOP,
    TRY_AGAIN,
    collective_timeout_s,
    end_with_the_parent,
)

GRACE_S = 30.0  # for the others to end by themselves, once one has ended badly, or less
PORT = "29500"  # of several nodes


def main(words: list[str]) -> NoReturn:
    """Runs MODULE with its arguments; before them perhaps the number of processes."""
    if words[0].isdecimal():
        sys.exit(run_processes(int(words[0]), words[1:]))
    STOP.listen()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a store warns of each process that ends
    sys.argv[:] = words
    code: int | str | None = 0
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        code = "".join(traceback.format_exception(error)).rstrip()
    leave(code or 0)


def leave(code: int | str) -> NoReturn:
    """End at once, as with ``sys.exit``: threads of torch's and workers could hold it up, or abort.

    Args:
        code: exit status; or what to print, before status 1.
    """
    for number in SIGNALS:  # the status stands
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # nobody reads any more
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")  # at once, beside other processes
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def run_processes(processes: int, words: list[str]) -> int:
    """Run MODULE with its arguments in processes of this node.

    Args:
        processes: how many.
        words: MODULE and its arguments.

    Returns:
        The exit status.
    """
    signals = {n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN} | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    nodes, node = int(os.environ.get("NNODES", "1")), int(os.environ.get("NODE_RANK", "0"))
    try:
        return Processes(words, environments(processes, nodes, node)).wait(signals)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


class Processes:
    """The processes of this node.

    Args:
        words: MODULE and its arguments, of each.
        environments: of each, by its rank.

    Raises:
        ValueError: COLLECTIVE_TIMEOUT holds no number of seconds.
    """

    def __init__(self, words: list[str], environments: dict[int, dict[str, str]]) -> None:
        self.told = False
        self.status = 0
        self._kill_at = float("inf")
        self._longest_s = collective_timeout_s()
        with_this = end_with_the_parent()

        def in_child() -> None:
            with_this()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

        command = [sys.executable, "-m", "pretrain.engine.start", *words]
        self._alive = {
            rank: subprocess.Popen(command, env=environment, preexec_fn=in_child)
            for rank, environment in environments.items()
        }

    def wait(self, signals: set[signal.Signals]) -> int:
        """The exit status of all, once none lives any more.

        Args:
            signals: that are blocked here, and passed on.
        """
        while self._alive:
            wait_s = min(self._kill_at - time.monotonic(), 3600.0)
            told = signal.sigtimedwait(signals, max(0.0, wait_s))
            if told and told.si_signo != signal.SIGCHLD:
                self.told = True
                self._send(told.si_signo)
                self._kill_in(self._longest_s + GRACE_S)
            elif time.monotonic() >= self._kill_at:
                self._kill_at = float("inf")
                self._send(signal.SIGKILL)
            for rank, process in list(self._alive.items()):
                if (status := process.poll()) is not None:
                    del self._alive[rank]
                    self._ended(rank, status)
        return self.status

    def _send(self, number: int) -> None:
        for process in self._alive.values():
            process.send_signal(number)

    def _kill_in(self, seconds: float) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)

    def _ended(self, rank: int, status: int) -> None:
        if status == 0 or self.status:
            return
        self.status = status if status > 0 else TRY_AGAIN if self.told else 1
        self._kill_in(min(GRACE_S, self._longest_s))
        if status < 0 and not self.told:
            name = signal.Signals(-status).name
            print(
                f"error: rank {rank} on {socket.gethostname()} was killed by {name}, so the run "
                "ends. Start it again with --resume, to go on from its last checkpoint",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            self._send(signal.SIGKILL)


def environments(processes: int, nodes: int, node: int) -> dict[int, dict[str, str]]:
    """The variables of the processes of this node, by rank.

    Raises:
        ValueError: the port is in use.
    """
    port = int(os.environ.get("PORT") or (PORT if nodes > 1 else 0))
    if node == 0:
        try:
            with socket.create_server(("", port)) as server:
                port = server.getsockname()[1]
        except OSError as error:
            raise ValueError(
                f"PORT is {port}, where nobody can listen on this node ({error.strerror}): name "
                "another one, or leave PORT out on one node"
            ) from error
    common = {
        "OMP_NUM_THREADS": "1",  # as torchrun has it
        "MASTER_ADDR": "127.0.0.1",
        **os.environ,
        "WORLD_SIZE": str(processes * nodes),
        "MASTER_PORT": str(port),
    }
    return {
        node * processes + local: common
        | {"RANK": str(node * processes + local), "LOCAL_RANK": str(local)}
        for local in range(processes)
    }


if __name__ == "__main__":
    main(sys.argv[1:])
