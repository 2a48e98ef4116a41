"""A process that dies or hangs ends the whole run within a stated time, and is named.

A collective waits for all processes, so one that does not come stops the others without a word.
Therefore a thread of every process tells the others, every second or sooner, what its main
thread is doing; another looks at what they tell once its own main thread has not come on for long.
A process that was killed or stopped tells nothing, one that hangs elsewhere tells where. A run of
one process is judged alike, but for the others; a loader's worker that was stopped is named too.

``COLLECTIVE_TIMEOUT`` in the environment is the longest that an iteration of training may take, in
seconds, with the loading of its batch and the saving after it; without it 600. Before the first
iteration and in a validation one process may work while others wait: PATIENCE times as long, as
long as it gives signs of life.
"""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from pretrain.engine.loaders import stuck_workers
from pretrain.engine.stop_signals import STOP, TRY_AGAIN
from pretrain.engine.timeout import VARIABLE, collective_timeout_s

PATIENCE = 6
BEATS = 20  # signs of life within the time, or more
SILENT_BEATS = 8  # without a sign, after which a process counts as dead or stopped
LEFT, GONE = "left", "gone"  # in the store: the exit status of all; how many have followed it
TOLD = "told"  # in the store: that one of them was told to stop
CODE = Path(__file__).resolve().parents[2]
OURS = re.compile(f"{re.escape(str(CODE))}/(?!.*site-packages/)")
LOADER = "/torch/utils/data/dataloader.py"
WAITS_IN = f"{Path(dist.__file__).parent}{os.sep}"


class Sign(NamedTuple):
    """What a process tells of itself."""

    beat: int
    step: int  # counts what its main thread has begun
    doing: str
    place: str  # of its main thread in the source
    waiting: bool  # for other processes
    host: str


class Watchdog:
    """Two threads of one process: one tells and listens, the other judges.

    Args:
        store: that all processes reach; no other thread may use this object. None: there is one.
        rank: of this process.
        world_size: how many there are.
        timeout_s: the longest that an iteration may take.
    """

    running: "Watchdog | None" = None  # that of this process, once it has started

    def __init__(self, store: Store | None, rank: int, world_size: int, timeout_s: float) -> None:
        self.store, self.rank, self.world_size = store, rank, world_size
        self.timeout_s, self.beat_s = timeout_s, min(1.0, timeout_s / BEATS)
        self._main = threading.main_thread().ident
        self._step, self._doing, self._slow = 0, "the start", True
        self._asked = self._looking = False
        self._leaving: int | None = None
        self._over = threading.Event()
        self._begun = self._alone_since = self._answered = time.monotonic()
        self._seen: dict[int, tuple[Sign | None, float]] = {}  # by rank: the last, when it came
        self._stuck, self._stuck_since = "", 0.0

    @classmethod
    def of_this_process(cls) -> "Watchdog":
        """With a connection of its own to where the processes have met, if there are others."""
        if "MASTER_PORT" not in os.environ:
            return cls(None, 0, 1, collective_timeout_s())
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=60))
        return cls(
            PrefixStore("watchdog", store),
            int(os.environ["RANK"]),
            int(os.environ["WORLD_SIZE"]),
            collective_timeout_s(),
        )

    def start(self) -> None:
        """Watch from now on."""
        Watchdog.running = self
        for thread in (self._tell_and_listen, self._judge):
            threading.Thread(target=thread, name=thread.__name__, daemon=True).start()

    def begin(self, doing: str, slow: bool = False) -> None:
        """The main thread has come on.

        Args:
            doing: what it begins.
            slow: others may have to wait for it: time counts while it waits itself, and more of it.
        """
        self._doing, self._slow = doing, slow
        self._begun = time.monotonic()
        self._step += 1

    def stop(self) -> None:
        """This process has done its part."""
        self._over.set()

    def end_all(self, status: int) -> None:
        """Let every process end with the exit status that this one ends with, and wait for it."""
        if self.world_size == 1:
            return
        self._leaving = status
        self._over.wait((SILENT_BEATS + 1) * self.beat_s)

    def here(self) -> str:
        """Which process this is, before what it has to say; "" where there are no others."""
        return f"rank {self.rank} on {socket.gethostname()}: " if self.world_size > 1 else ""

    def missing(self) -> str:
        """In words, which processes give no sign of life, after looking long enough to know."""
        if self.world_size == 1:
            return ""
        self._asked = True
        time.sleep((SILENT_BEATS + 1) * self.beat_s)
        return self._silent()

    def _tell_and_listen(self) -> None:
        beat = 0
        while not self._over.wait(self.beat_s):
            beat += 1
            sign = self._sign(beat)
            if self.store is None:
                continue
            try:
                self._exchange(self.store, sign)
            except RuntimeError:  # who holds the store has ended, or died: that shows in the end
                return
            self._answered = time.monotonic()

    def _exchange(self, store: Store, sign: Sign) -> None:
        store.set(str(self.rank), json.dumps(sign))
        look = self._asked or self._waited()[0] > self.timeout_s / 2
        if look and not self._looking:
            self._seen = dict.fromkeys(range(self.world_size), (None, time.monotonic()))
        self._looking = look
        if look:
            self._listen(store)
        if STOP.told:
            store.set(TOLD, str(int(STOP.told)))
        elif store.check([TOLD]):
            STOP.told = signal.Signals(int(store.get(TOLD)))
        if self._leaving is not None:
            store.set(LEFT, str(self._leaving))
            if store.add(GONE, 0) == self.world_size - 1:
                self.stop()
        elif store.check([LEFT]):
            status = int(store.get(LEFT))
            store.add(GONE, 1)
            os._exit(status)

    def _listen(self, store: Store) -> None:
        ranks = [rank for rank in self._seen if store.check([str(rank)])]
        for rank, text in zip(ranks, store.multi_get(list(map(str, ranks))), strict=True):
            heard = Sign(*json.loads(text))
            if heard != self._seen[rank][0]:
                self._seen[rank] = heard, time.monotonic()

    def _sign(self, beat: int) -> Sign:
        frames = traceback.extract_stack(sys._current_frames()[self._main or 0])
        waiting = any(frame.filename.startswith(WAITS_IN) for frame in frames)
        if not waiting:
            self._alone_since = time.monotonic()
        own = [frame for frame in frames if OURS.match(frame.filename)]
        inner = (own or frames)[-1]
        name = os.path.relpath(inner.filename, CODE)
        place = f"{name}:{inner.lineno} ({inner.name})"
        if any(frame.filename.endswith(LOADER) for frame in frames):
            place += ", waiting for its loader's workers"
        return Sign(beat, self._step, self._doing, place, waiting, socket.gethostname())

    def _waited(self) -> tuple[float, float]:
        """Seconds since this process came on, and how many it may take."""
        since = max(self._begun, self._alone_since) if self._slow else self._begun
        longest = self.timeout_s * (PATIENCE if self._slow else 1)
        return time.monotonic() - since, longest

    def _judge(self) -> None:
        """To the end of the process: a worker that is stopped holds up that too."""
        last = time.monotonic()
        while True:
            time.sleep(self.beat_s)
            if time.monotonic() - last > SILENT_BEATS * self.beat_s:  # the whole job was stopped
                self._begun = time.monotonic()
            last = time.monotonic()
            if (stuck := stuck_workers()) != self._stuck:
                self._stuck, self._stuck_since = stuck, last
            waited_s, longest_s = self._waited()
            if self._stuck and last - max(self._begun, self._stuck_since) > self.timeout_s:
                self._end(self.timeout_s, self.here() + self._stuck)
            elif self._over.is_set():
                continue
            elif waited_s > longest_s:
                self._accuse(longest_s)
            elif waited_s > self.timeout_s and self._silent():
                self._accuse(self.timeout_s)

    def _accuse(self, waited_s: float) -> None:
        """End this process, unless it comes on after all; the first of those that live says why."""
        first = next(rank for rank in range(self.world_size) if self._lives(rank))
        step = self._step
        if first != self.rank and self._over.wait((SILENT_BEATS + 1) * self.beat_s):
            return
        if step != self._step:
            return
        said = first == self.rank or self._lives(first)  # else it has said so and ended
        self._end(waited_s, (self._silent() or self._hanging()) if said else "")

    def _end(self, waited_s: float, words: str) -> None:
        """As a fault, unless the run was told to stop anyhow."""
        line = (
            f"error: no progress in {waited_s:g} s: {words}. The run ends; start it again with "
            f"--resume. If {self._doing} needs more time: set {VARIABLE}=SECONDS (now "
            f"{self.timeout_s:g})\n"
        )
        with suppress(OSError):  # a terminal that is closed
            sys.stderr.write(line if words else "")
            sys.stderr.flush()
        os._exit(TRY_AGAIN if STOP.told else 1)

    def _lives(self, rank: int) -> bool:
        """Whether this process has heard of it lately; of nobody where the store is silent."""
        if rank == self.rank or rank not in self._seen:
            return rank == self.rank
        return time.monotonic() - self._seen[rank][1] < SILENT_BEATS * self.beat_s

    def _silent(self) -> str:
        if self.world_size == 1:
            return ""
        age_s = time.monotonic() - self._answered
        if age_s > SILENT_BEATS * self.beat_s:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            return f"{place}, where the processes meet (rank 0's node), gives no answer"
        return "; ".join(
            f"{self._name(rank)} gives no sign of life: it died, was stopped, or its node is lost"
            for rank in range(self.world_size)
            if not self._lives(rank)
        )

    def _hanging(self) -> str:
        """Who lags behind, or does not wait while others do; all where that does not tell."""
        if self.world_size == 1:
            self._seen = {0: (self._sign(0), 0.0)}
        signs = {rank: sign for rank, (sign, _) in self._seen.items() if sign is not None}
        least = min(sign.step for sign in signs.values())
        suspects = {rank: sign for rank, sign in signs.items() if sign.step == least}
        if len(suspects) == len(signs) and any(sign.waiting for sign in signs.values()):
            suspects = {rank: sign for rank, sign in signs.items() if not sign.waiting} or signs
        told = [
            f"{self._name(rank)} is in {sign.doing}, at {sign.place}"
            for rank, sign in suspects.items()
        ]
        others = [sign for rank, sign in signs.items() if rank not in suspects]
        if others:
            told.append(f"the others wait in {others[0].doing}, at {others[0].place}")
        return "; ".join(told)

    def _name(self, rank: int) -> str:
        if self.world_size == 1:
            return "the process"
        sign, _ = self._seen[rank]
        return f"rank {rank} on {sign.host}" if sign else f"rank {rank}, which has not come,"


@HOOKS.register_module()
class Progress(Hook):
    """Tells the watchdog what the main thread begins."""

    priority = "VERY_HIGH"  # what other hooks do after an iteration counts as after it

    @property
    def watchdog(self) -> Watchdog:
        """That of this process; one that never started watches nothing."""
        return Watchdog.running or Watchdog(None, 0, 1, collective_timeout_s())

    def before_train(self, runner: Runner) -> None:
        self._first = True

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.watchdog.begin(f"iteration {runner.iter + 1}", slow=self._first)  # it may compile
        self._first = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.watchdog.begin(f"what follows iteration {runner.iter + 1}")

    def before_val_epoch(self, runner: Runner) -> None:
        self.watchdog.begin("validation", slow=True)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        last = batch_idx + 1 >= len(runner.val_dataloader)  # then the metric takes its time
        self.watchdog.begin("validation", slow=last or self.watchdog.world_size > 1)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        self.watchdog.begin("what follows validation", slow=True)

    def after_train(self, runner: Runner) -> None:
        self.watchdog.begin("the end of the run", slow=True)
