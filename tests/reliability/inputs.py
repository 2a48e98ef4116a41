"""Hostile inputs for every reader: each gives a valid result or an error that explains itself.

usage: PYTHONPATH=tools python -m reliability.inputs [--count N] [--seed N] [--reader NAME]

A valid input is spoilt (``mutations.py``) and read in a process of its own, whose memory is
limited. A finding is: another error than ValueError or FileNotFoundError, or one that does not name
the file; a result that breaks the reader's promise; a process that dies or does not come back; a
payload that was run. The input of every finding is kept. One seed makes the same inputs each time.
"""

import argparse
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO, Any

from tqdm import tqdm

from tests.reliability.mutations import CANARY
from tools.setup.machine import ROOT

OURS = tuple(str(ROOT / name) + os.sep for name in ("pretrain", "transfer", "results", "tools"))
EXPLAINED = (ValueError, FileNotFoundError)
SECONDS = 20.0  # that one input may take
IMPORTING = 120.0  # seconds that a process may take to begin
MEMORY = 1 << 30  # bytes that one input may take
CHUNK = 100  # inputs from one start of a reader to the next
KEPT = 3  # inputs of one finding
LONGEST = 20_000  # characters of an error


def readers() -> dict[str, Any]:
    """Every reader by name. Imports all that they need."""
    from tests.reliability import pretrain_readers, results_readers, transfer_readers

    return {**results_readers.READERS, **pretrain_readers.READERS, **transfer_readers.READERS}


# ---- the process that reads ----------------------------------------------------------------------


def read_in_this_process(commands: IO[str], answers: IO[str], folder: Path) -> None:
    """Read inputs for as long as commands come, a JSON object a line; answer with such lines."""
    sys.path.insert(0, str(ROOT))
    warnings.simplefilter("ignore")
    threading.stack_size(1 << 18)  # a thread's stack counts as its process's memory
    known = readers()
    canary = Path(os.environ[CANARY])

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer(ready=True, shares={name: reader.share for name, reader in known.items()})
    for line in commands:
        task = json.loads(line)
        scratch = folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        reader = known[task["reader"]](scratch)
        before = _memory_from_here()
        for index in range(task["start"], task["stop"]):
            answer(at=index)
            path = reader.spoil(Random(f"{task['seed']} {task['reader']} {index}"))
            with _limited_memory():
                fault = _fault(reader, path, scratch)
            if canary.exists():
                shutil.rmtree(canary, ignore_errors=True)
                fault = "a payload was run"
            if fault:
                answer(fault=fault, index=index)
                commands.readline()  # the input has been kept
        answer(done=True, peak=_status("VmHWM") - before)


def _fault(reader: Any, path: Path, scratch: Path) -> str | None:
    """What is wrong with how an input was met; None: it was read or refused as it should be."""
    try:
        reader.read(path)
    except EXPLAINED as error:
        message = str(error)
        if str(scratch) not in message:
            return f"names no file: {_shown(error)}"
        if len(message) > LONGEST or len(message.replace(str(path), "")) < 20:
            return f"says too much or too little ({len(message)} characters): {_shown(error)}"
        return None
    except SystemExit as error:  # argparse's
        return None if error.code == 2 else f"exit {error.code}"
    except BaseException as error:
        return _shown(error)
    return None


def _shown(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(OURS)]
    place = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}"
    return ascii(f"{type(error).__name__} at {place}: {str(error)[:300]}")[1:-1]


@contextmanager
def _limited_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _memory_from_here() -> int:
    """Bytes in use; the peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


# ---- the process that watches --------------------------------------------------------------------


@dataclass
class Task:
    """Inputs of one reader, from one index to another."""

    reader: str
    start: int
    stop: int


@dataclass
class Findings:
    """What was found, each kind of fault once, with how often and where its inputs are."""

    folder: Path
    found: dict[str, dict[tuple[str, str], dict[str, Any]]] = field(
        default_factory=lambda: {"crashes": {}, "hangs": {}, "unexplained": {}}
    )

    def add(self, kind: str, reader: str, index: int, error: str, scratch: Path) -> None:
        """Note a fault and keep the first inputs that showed it."""
        key = reader, error.partition(": ")[0]  # what and where, not on which values
        known = self.found[kind].setdefault(
            key, {"reader": reader, "error": error, "file": "", "times": 0}
        )
        known["times"] += 1
        if known["times"] <= KEPT:
            kept = self.folder / f"{reader}-{index}".replace(" ", "_")
            shutil.copytree(scratch, kept, symlinks=True, dirs_exist_ok=True)
            known["file"] = known["file"] or str(kept)


class Worker:
    """A process that reads, and when it last said something."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, CANARY: str(folder / "canary"), "OMP_NUM_THREADS": "1"}
        environment |= {"MALLOC_ARENA_MAX": "1", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = str(ROOT / "tools")
        with (folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.reliability.inputs", "--worker", str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                env=environment, cwd=ROOT,
            )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.to, self.of = self.process.stdin, self.process.stdout
        self.part = b""  # of a line
        self.task: Task | None = None
        self.heard = time.monotonic() + IMPORTING

    def tell(self, content: dict[str, Any]) -> None:
        """Send a line, if anyone is there to read it."""
        try:
            self.to.write(json.dumps(content).encode() + b"\n")
        except BrokenPipeError:
            return

    def hear(self) -> list[dict[str, Any]]:
        """What has come, at least a part of a line; nothing where the process has ended."""
        content = os.read(self.of.fileno(), 1 << 16)
        if not content:
            return []
        *lines, self.part = (self.part + content).split(b"\n")
        return [json.loads(line) for line in lines] or [{}]

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.to.close()
        self.of.close()


class Campaign:
    """Inputs handed out to workers; those that die or hang are replaced."""

    def __init__(self, seed: int, folder: Path, workers: int, progress: bool) -> None:
        self.seed, self.folder, self.progress = seed, folder, progress
        self.findings = Findings(folder / "kept")
        self.read: Counter[str] = Counter()
        self.peak = 0
        self.selector = selectors.DefaultSelector()
        self.workers = [self._start(number) for number in range(workers)]

    def run(self, count: int, chosen: Iterable[str]) -> None:
        """Read so many inputs, shared among the readers."""
        shares = self._shares(set(chosen))
        whole = sum(shares.values())
        self.todo = [
            Task(name, start, min(start + CHUNK, wanted))
            for name, share in shares.items()
            for wanted in [max(1, round(count * share / whole))]
            for start in range(0, wanted, CHUNK)
        ]
        Random(self.seed).shuffle(self.todo)  # the remaining time is then an honest guess
        total = sum(task.stop - task.start for task in self.todo)
        with tqdm(total=total, unit="input", disable=not self.progress, mininterval=2) as self.bar:
            for worker in self.workers:
                self._next(worker)
            while any(worker.task for worker in self.workers):
                self._listen()

    def close(self) -> None:
        """End every worker."""
        for worker in self.workers:
            worker.end()

    def _start(self, number: int) -> Worker:
        worker = Worker(self.folder / f"worker{number}")
        self.selector.register(worker.of, selectors.EVENT_READ, number)
        return worker

    def _shares(self, chosen: set[str]) -> dict[str, float]:
        answers: list[dict[str, Any]] = []
        while not any(answers):
            answers = self.workers[0].hear()
            if not answers:
                log = self.workers[0].folder / "log.txt"
                raise RuntimeError(f"the readers cannot be imported:\n{log.read_text()}")
        shares: dict[str, float] = answers[0]["shares"]
        if unknown := chosen - shares.keys():
            known = ", ".join(shares)
            raise ValueError(f"no reader {', '.join(sorted(unknown))}; expected some of {known}")
        return {name: share for name, share in shares.items() if not chosen or name in chosen}

    def _next(self, worker: Worker) -> None:
        worker.task = self.todo.pop() if self.todo else None
        worker.heard = max(worker.heard, time.monotonic())
        if worker.task:
            worker.tell({**vars(worker.task), "seed": self.seed})

    def _listen(self) -> None:
        for key, _ in self.selector.select(timeout=1):
            number: int = key.data
            answers = self.workers[number].hear()
            for answer in answers:
                self._hear(self.workers[number], answer)
            if not answers:
                code = self.workers[number].process.wait()
                self._replace(number, "crashes", f"the process ended with {code}")
        for number, worker in enumerate(self.workers):
            if worker.task and time.monotonic() - worker.heard > SECONDS:
                self._replace(number, "hangs", f"nothing for {SECONDS:g} s")

    def _hear(self, worker: Worker, answer: dict[str, Any]) -> None:
        if worker.task is None:
            return
        worker.heard = time.monotonic()
        if "at" in answer:
            worker.task.start = answer["at"]
            self.read[worker.task.reader] += 1
            self.bar.update()
        elif "fault" in answer:
            scratch = worker.folder / "scratch"
            name, index = worker.task.reader, answer["index"]
            self.findings.add("unexplained", name, index, answer["fault"], scratch)
            worker.tell({})
        elif "done" in answer:
            self.peak = max(self.peak, answer["peak"])
            self._next(worker)

    def _replace(self, number: int, kind: str, error: str) -> None:
        worker = self.workers[number]
        if task := worker.task:
            scratch = worker.folder / "scratch"
            self.findings.add(kind, task.reader, task.start, error, scratch)
            if task.start + 1 < task.stop:
                self.todo.append(Task(task.reader, task.start + 1, task.stop))
        self.selector.unregister(worker.of)
        worker.end()
        self.workers[number] = self._start(number)
        self._next(self.workers[number])


def run(
    count: int,
    seed: int,
    progress: bool = True,
    chosen: Iterable[str] = (),
    keep: Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Read hostile inputs.

    Args:
        count: how many, over all readers.
        seed: of all that is drawn.
        progress: show a bar with the remaining time on stderr.
        chosen: names of readers; all by default.
        keep: folder for the inputs of what was found; a temporary one by default, which is left
            where something was.
        workers: processes; one a core by default.

    Returns:
        ``inputs``; ``readers``, their number by reader; ``crashes``, ``hangs`` and ``unexplained``,
        each a list of objects with ``reader``, ``error``, ``file`` and ``times``;
        ``peak_memory_mib``, the most that a reader took beyond what it began with; ``seed`` and
        ``seconds``.
    """
    started = time.monotonic()
    folder = keep or Path(tempfile.mkdtemp(prefix="hostile-"))
    cores = len(os.sched_getaffinity(0))
    campaign = Campaign(seed, folder, workers or cores, progress)
    try:
        campaign.run(count, chosen)
    finally:
        campaign.close()
    found = {kind: list(faults.values()) for kind, faults in campaign.findings.found.items()}
    for number in range(len(campaign.workers)):
        shutil.rmtree(folder / f"worker{number}", ignore_errors=True)
    if keep is None and not any(found.values()):
        shutil.rmtree(folder)
    return {
        "inputs": sum(campaign.read.values()),
        "readers": dict(sorted(campaign.read.items())),
        **found,
        "peak_memory_mib": round(campaign.peak / 2**20, 1),
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    """The command; exit status 1 where something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50_000, help="inputs over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for inputs that found something")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what readers print goes to the log
        read_in_this_process(sys.stdin, answers, args.worker)
        return 0
    try:
        result = run(
            args.count, args.seed, chosen=args.reader, keep=args.keep, workers=args.workers
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return int(any(result[kind] for kind in ("crashes", "hangs", "unexplained")))


if __name__ == "__main__":
    sys.exit(main())
