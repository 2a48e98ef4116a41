"""A process that dies or hangs ends the whole run within a stated time, and is named.

A process that waits in a collective cannot tell why another one does not come. So a thread of every
process asks the others what they are doing, once its own main thread has made no progress for
``COLLECTIVE_TIMEOUT`` seconds: one that was killed or stopped does not answer, one that hangs
elsewhere says where. torch's own timeouts end a collective, but name nobody, and ``faulthandler``'s
timer runs on while a job is suspended.

The time is for one iteration of training, with the loading of its batch and the saving after it.
Before the first iteration and in a validation one process may work while others wait: they wait
PATIENCE times as long, as long as all answer.
"""

import json
import os
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple

import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from pretrain.engine.stopping import STOP, TRY_AGAIN, VARIABLE, collective_timeout_s

PATIENCE = 6
BEATS = 20  # looks at the others within the time, or more
ANSWER_BEATS = 8  # without an answer, after which a process counts as dead or stopped
CODE = Path(__file__).resolve().parents[2]
TORCH_DISTRIBUTED = str(Path(dist.__file__).parent)
# Keys of the store: how often somebody has asked; the signal and the exit status that are for all;
# how many have ended with that status; how many have said why.
ASKED, TOLD, STATUS, ENDED, SAID = "asked", "told", "status", "ended", "said"


class Sign(NamedTuple):
    """What a process answers."""

    asked: int  # which question it answers
    step: int  # counts what its main thread has begun
    doing: str
    place: str  # of its main thread in the source
    waiting: bool  # for other processes
    host: str


class Watchdog:
    """Two threads of one process: one answers the others, one looks at its own progress.

    Args:
        rank: of this process.
        world_size: how many there are; more than one meet at MASTER_ADDR and MASTER_PORT.
        timeout_s: the longest that an iteration may take.
    """

    running: "Watchdog | None" = None  # that of this process, once it has started

    def __init__(self, rank: int, world_size: int, timeout_s: float) -> None:
        self.rank, self.world_size = rank, world_size
        self.timeout_s, self.beat_s = timeout_s, min(1.0, timeout_s / BEATS)
        self._step = 0
        self._over = threading.Event()
        self.begin("the start", slow=True)

    def start(self) -> None:
        """Watch from now on."""
        Watchdog.running = self
        threading.Thread(target=self._watch_this_process, name="watchdog", daemon=True).start()
        if self.world_size > 1:
            store = (connect(),)  # before the others can have gone
            threading.Thread(target=self._answer, args=store, name="answers", daemon=True).start()

    def begin(self, doing: str, slow: bool = False) -> None:
        """The main thread has made progress.

        Args:
            doing: what it begins.
            slow: others may have to wait for it: only the time that it waits itself counts.
        """
        self._doing, self._slow = doing, slow
        self._since, self._timeouts = time.monotonic(), 0
        self._step += 1

    def stop(self) -> None:
        """This process has done its part."""
        self._over.set()

    def end_all(self, status: int) -> None:
        """Let the other processes end with this exit status, and wait until they have."""
        self.stop()
        if self.world_size == 1:
            return
        with suppress(RuntimeError):  # the store has gone: they notice
            store = connect()
            store.set(STATUS, str(status))
            until = time.monotonic() + ANSWER_BEATS * self.beat_s
            while store.add(ENDED, 0) < self.world_size - 1 and time.monotonic() < until:
                time.sleep(self.beat_s / 4)

    def here(self) -> str:
        """Which process this is, before what it has to say; "" where there are no others."""
        return f"rank {self.rank} on {socket.gethostname()}: " if self.world_size > 1 else ""

    def missing(self) -> str:
        """In words, which processes do not answer; "" where all do."""
        return self._ask()[1]

    def _answer(self, store: Store) -> None:
        answered = 0
        with suppress(RuntimeError):  # the store's process has ended, or died: others notice
            store.set(str(self.rank), json.dumps(self._sign(0)))  # its host, for later
            while not self._over.wait(self.beat_s):
                if (asked := store.add(ASKED, 0)) > answered:
                    store.set(str(self.rank), json.dumps(self._sign(asked)))
                    answered = asked
                if STOP.told:
                    store.set(TOLD, str(int(STOP.told)))
                elif store.check([TOLD]):
                    STOP.told = Signals(int(store.get(TOLD)))
                if store.check([STATUS]):
                    status = int(store.get(STATUS))
                    store.add(ENDED, 1)
                    os._exit(status)

    def _ask(self) -> tuple[dict[int, Sign], str]:
        """What all that live are doing, by rank; and in words, who does not answer."""
        if self.world_size == 1:
            return {0: self._sign(0)}, ""
        found: list[tuple[dict[int, Sign], str]] = []

        def ask() -> None:
            with suppress(RuntimeError):  # the store has gone
                found.append(self._collect())

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()  # a store whose process was stopped would hold this one up for ever
        asking.join((ANSWER_BEATS + 2) * self.beat_s)
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        gone = f"{place}, where the processes meet (rank 0's node), gives no answer"
        return found[0] if found else ({}, gone)

    def _collect(self) -> tuple[dict[int, Sign], str]:
        signs: dict[int, Sign] = {}
        store = connect()
        asked = store.add(ASKED, 1)
        until = time.monotonic() + ANSWER_BEATS * self.beat_s
        silent = list(range(self.world_size))
        while silent and time.monotonic() < until:
            time.sleep(self.beat_s / 4)
            signs |= {
                rank: Sign(*json.loads(store.get(str(rank))))
                for rank in silent
                if store.check([str(rank)])
            }
            silent = [rank for rank in silent if rank not in signs or signs[rank].asked < asked]
        names = [name(rank, signs.pop(rank, None)) for rank in silent]
        words = "no answer from {}: it died, was stopped, or its node is lost"
        return signs, words.format(", ".join(names)) if names else ""

    def _sign(self, asked: int) -> Sign:
        main = threading.main_thread().ident or 0
        frames = traceback.extract_stack(sys._current_frames()[main])
        waiting = any(frame.filename.startswith(TORCH_DISTRIBUTED) for frame in frames)
        own = [frame for frame in frames if is_ours(frame.filename)]
        inner = (own or frames)[-1]
        place = f"{os.path.relpath(inner.filename, CODE)}:{inner.lineno} ({inner.name})"
        return Sign(asked, self._step, self._doing, place, waiting, socket.gethostname())

    def _watch_this_process(self) -> None:
        last = time.monotonic()
        while not self._over.wait(self.beat_s):
            now = time.monotonic()
            suspended = now - last > ANSWER_BEATS * self.beat_s  # the whole job was
            if suspended or (self._slow and not self._sign(0).waiting):
                self._since, self._timeouts = now, 0
            last = now
            if now - self._since > self.timeout_s * (self._timeouts + 1):
                self._timeouts += 1
                self._accuse(self._timeouts, self._step)

    def _accuse(self, timeouts: int, step: int) -> None:
        """End the run, unless the main thread makes progress after all, or is to be waited for."""
        signs, silent = self._ask()
        if step != self._step or (self._slow and timeouts < PATIENCE and not silent):
            return
        with suppress(RuntimeError):  # the store has gone: say so
            if signs and self.world_size > 1 and connect().add(SAID, 1) > 1:
                return  # another one says it, and ends this process
        with suppress(OSError):  # a terminal that is closed
            sys.stderr.write(
                f"error: no progress in {timeouts * self.timeout_s:g} s: "
                f"{silent or hanging(signs)}. The run ends; start it again with --resume, and with "
                f"{VARIABLE}=SECONDS (now {self.timeout_s:g}) if {self._doing} needs more time\n"
            )
            sys.stderr.flush()
        status = TRY_AGAIN if STOP.told else 1
        if signs:
            self.end_all(status)
        os._exit(status)


def connect() -> Store:
    """A connection of one thread to where the processes have met."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=60))
    return PrefixStore("watchdog", store)


def is_ours(file: str) -> bool:
    """Whether a source file is this checkout's, and not of its virtual environment."""
    return Path(file).is_relative_to(CODE) and "site-packages" not in file


def name(rank: int, sign: Sign | None) -> str:
    """A process in a message."""
    return f"rank {rank}, which has not come" if sign is None else f"rank {rank} on {sign.host}"


def hanging(signs: dict[int, Sign]) -> str:
    """Who lags behind, or does not wait while others do; all where that does not tell.

    Args:
        signs: by rank, of all processes.
    """
    least = min(sign.step for sign in signs.values())
    suspects = {rank: sign for rank, sign in signs.items() if sign.step == least}
    if len(suspects) == len(signs):
        suspects = {rank: sign for rank, sign in signs.items() if not sign.waiting} or signs
    told = [
        (name(rank, sign) if len(signs) > 1 else "the process")
        + f" is in {sign.doing}, at {sign.place}"
        for rank, sign in suspects.items()
    ]
    others = [sign for rank, sign in signs.items() if rank not in suspects]
    if others:
        told.append(f"the others wait in {others[0].doing}, at {others[0].place}")
    return "; ".join(told)


@HOOKS.register_module()
class Progress(Hook):
    """Tells the watchdog what the main thread begins."""

    priority = "VERY_HIGH"  # what other hooks do after an iteration counts as after it
    _first = True

    @property
    def watchdog(self) -> Watchdog:
        """That of this process; one that never started watches nothing."""
        return Watchdog.running or Watchdog(0, 1, collective_timeout_s())

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.watchdog.begin(f"iteration {runner.iter + 1}", slow=self._first)  # it may compile
        self._first = False

    def before_val_epoch(self, runner: Runner) -> None:
        self.watchdog.begin("validation", slow=True)

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None,
        mode: str = "train",
    ) -> None:  # fmt: skip
        if mode == "train":
            self.watchdog.begin(f"what follows iteration {runner.iter + 1}")
        else:
            last = batch_idx + 1 >= len(runner.val_dataloader)  # then the metric takes its time
            self.watchdog.begin("validation", slow=last or self.watchdog.world_size > 1)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        self.watchdog.begin("what follows validation", slow=True)

    def after_train(self, runner: Runner) -> None:
        self.watchdog.begin("the end of the run", slow=True)
