"""The processes of one node, which get torchrun's variables.

One that fails ends the others, signals are passed on, and the exit
status is theirs: 75 where they were told to stop. If this process is killed, they end too. Several
nodes: NNODES, NODE_RANK and MASTER_ADDR in the environment, and PORT, 29500 without it; on a node
alone any free port is taken.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable

from pretrain.engine.parent_death import end_with_the_parent
from pretrain.engine.stop_signals import SIGNALS, TRY_AGAIN
from pretrain.engine.timeout import collective_timeout_s

START = "pretrain.engine.start"
GRACE_S = 30.0  # for the others to end by themselves, once one has ended badly, or less
PORT = "29500"  # of several nodes


class Ranks:
    """The processes of this node.

    Args:
        command: of each.
        environments: of each, by its rank.
        signals: that are blocked here, and passed on.

    Raises:
        ValueError: COLLECTIVE_TIMEOUT holds no number of seconds.
    """

    def __init__(
        self, command: list[str], environments: dict[int, dict[str, str]], signals: Iterable[int]
    ) -> None:
        self.signals = set(signals)
        self.told = False
        self.status = 0
        self._until = float("inf")
        self._longest_s = collective_timeout_s()
        with_this = end_with_the_parent(os.getpid())

        def in_child() -> None:
            with_this()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

        self._alive = {
            rank: subprocess.Popen(command, env=environment, preexec_fn=in_child)
            for rank, environment in environments.items()
        }

    def wait(self) -> int:
        """The exit status of all, once none lives any more."""
        while self._alive:
            wait_s = min(self._until - time.monotonic(), 3600.0)
            told = signal.sigtimedwait(self.signals, max(0.0, wait_s))
            if told and told.si_signo != signal.SIGCHLD:
                self.told = True
                self._send(told.si_signo, self._longest_s + GRACE_S)
            elif time.monotonic() >= self._until:
                self._until = float("inf")
                self._send(signal.SIGKILL, self._until)
            for rank, process in list(self._alive.items()):
                if (status := process.poll()) is not None:
                    del self._alive[rank]
                    self._ended(rank, status)
        return self.status

    def _send(self, number: int, longest_s: float) -> None:
        self._until = min(self._until, time.monotonic() + longest_s)
        for process in self._alive.values():
            process.send_signal(number)

    def _ended(self, rank: int, status: int) -> None:
        if status == 0 or self.status:
            return
        self.status = status if status > 0 else TRY_AGAIN if self.told else 1
        self._until = min(self._until, time.monotonic() + min(GRACE_S, self._longest_s))
        if status < 0 and not self.told:
            print(
                f"error: rank {rank} on {socket.gethostname()} was killed by "
                f"{signal.Signals(-status).name}, so the run ends; the same command with --resume "
                "continues from its last checkpoint, if it had saved one",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            self._send(signal.SIGKILL, 0.0)


def environments(processes: int, nodes: int, node: int) -> dict[int, dict[str, str]]:
    """The variables of the processes of this node, by rank.

    Raises:
        ValueError: the port is in use.
    """
    given = os.environ.get("PORT")
    port = given or (PORT if nodes > 1 else "0")
    if node == 0:
        with socket.create_server(("", 0)) if port == "0" else _bound(int(port)) as server:
            port = str(server.getsockname()[1])
    common = {
        "OMP_NUM_THREADS": "1",  # as torchrun has it
        **os.environ,
        "WORLD_SIZE": str(processes * nodes),
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "MASTER_PORT": port,
    }
    return {
        node * processes + local: common
        | {"RANK": str(node * processes + local), "LOCAL_RANK": str(local)}
        for local in range(processes)
    }


def _bound(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise ValueError(
            f"PORT is {port}, where nobody can listen on this node ({error.strerror}): name "
            "another one, or leave PORT out on one node"
        ) from error


def run_ranks(processes: int, words: list[str]) -> int:
    """Run MODULE and its arguments.

    Args:
        processes: of this node.
        words: MODULE and its arguments.

    Returns:
        The exit status.
    """
    passed_on = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    awaited = [*passed_on, signal.SIGCHLD]
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    nodes, node = int(os.environ.get("NNODES", "1")), int(os.environ.get("NODE_RANK", "0"))
    command = [sys.executable, "-m", START, *words]
    try:
        return Ranks(command, environments(processes, nodes, node), awaited).wait()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
