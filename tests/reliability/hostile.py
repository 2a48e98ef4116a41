"""Hostile inputs for every reader: each gives a right result or an error that explains itself.

A fault is: another error than ValueError or FileNotFoundError, or one that does not name the file;
a result that breaks what its target promises; a payload that was run; more memory than a GiB; a
process that dies or does not come back. Hypothesis makes the input small that shows it.
"""

import faulthandler
import io
import json
import os
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.reliability.mutations import CANARY, canary
from tests.reliability.targets import TARGETS, Read
from tools.setup.machine import ROOT

SECONDS = 60.0  # that one input may take, on a busy machine too
MEMORY = 1 << 30  # bytes that one input may take
LONGEST = 20_000  # characters of an error


def attack(name: str, folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Give a reader hostile inputs in this process, which ends if one hangs.

    Args:
        name: of a target.
        folder: empty; it has the smallest input in it that showed a fault.
        count: of the inputs.
        seed: the same inputs for the same seed.

    Returns:
        ``inputs``, how many there were; ``fault``, what one of them showed, else empty;
        ``peak``, the most bytes that the reader took beyond what it began with.
    """
    os.environ[CANARY] = str(folder / "canary")
    scratch = folder / "files"
    scratch.mkdir(parents=True)
    spoil, read = TARGETS[name].open(scratch)
    inputs, fault = 0, ""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck), print_blob=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )  # fmt: skip
    @hypothesis.given(st.randoms(use_true_random=False))
    def look(random: Random) -> None:
        nonlocal inputs, fault
        inputs += 1
        path = spoil(random)
        with limits(folder / "hang.txt"):
            found = what_is_wrong(read, path, scratch)
        fault = found or fault
        assert not found

    before = memory_from_here()
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            look()
        except AssertionError:
            assert fault
    return {"inputs": inputs, "fault": fault, "peak": memory("VmHWM") - before}


def what_is_wrong(read: Read, path: Path, scratch: Path) -> str:
    """How an input was met that was neither read nor refused as it should be; else empty."""
    try:
        read(path)
    except (ValueError, FileNotFoundError) as error:
        if str(scratch) not in str(error):
            return f"names no file: {shown(error)}"
        if len(str(error)) > LONGEST or len(str(error).replace(str(path), "")) < 20:
            return f"says too much or too little: {shown(error)}"
    except SystemExit as error:  # argparse's
        return "" if error.code == 2 else f"exit {error.code}"
    except BaseException as error:
        return shown(error)
    finally:
        run = Path(canary()).exists()
        shutil.rmtree(canary(), ignore_errors=True)
    return "a payload was run" if run else ""


def shown(error: BaseException) -> str:
    """Type, place in this project and message."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f for f in frames if Path(f.filename).is_relative_to(ROOT) and ".venv" not in f.filename
    ]
    where = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else "?"
    return ascii(f"{type(error).__name__} at {where}: {str(error)[:300]}")[1:-1]


@contextmanager
def limits(hang: Path) -> Iterator[None]:
    """Limited memory and time; a process that takes longer writes where it was, and ends."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with hang.open("w") as file:
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + MEMORY, before[1]))
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            resource.setrlimit(resource.RLIMIT_AS, before)


def memory_from_here() -> int:
    """Bytes in use; the peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


# ---- the campaign --------------------------------------------------------------------------------


def attack_into(result: Path, name: str, folder: Path, count: int, seed: int) -> None:
    """The same in a process of its own, whose output goes to a file."""
    with (folder.with_suffix(".log")).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    result.write_text(json.dumps(attack(name, folder, count, seed)))


def campaign(count: int, seed: int, chosen: Sequence[str] = ()) -> dict[str, Any]:
    """As many inputs to each reader, a reader to a process, as many processes as cores.

    Returns:
        ``inputs``; ``readers``, their number by reader; ``crashes``, ``hangs`` and ``unexplained``,
        each a list of objects with ``reader``, ``error`` and ``file``, the folder of the input;
        ``peak_memory_mib``, the most that a reader took; ``seed`` and ``seconds``.
    """
    begun, names = time.monotonic(), sorted(chosen or TARGETS)
    base = Path(tempfile.mkdtemp(prefix="hostile-"))
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.reliability.targets"])
    found: dict[str, list[dict[str, Any]]] = {"crashes": [], "hangs": [], "unexplained": []}
    read: dict[str, int] = {}
    peak = 0

    def run(name: str) -> None:
        nonlocal peak
        folder, result = base / name.replace(" ", "_"), base / f"{name}.json"
        arguments = (result, name, folder, -(-count // len(names)), seed)
        process = context.Process(target=attack_into, args=arguments)
        process.start()
        process.join()
        told = {"inputs": 0, "fault": "", "peak": 0}
        if process.exitcode == 0:
            told = json.loads(result.read_text())
        hang = folder / "hang.txt"
        kind, error = "unexplained", told["fault"]
        if process.exitcode:
            kind = "hangs" if hang.is_file() and hang.stat().st_size else "crashes"
            error = f"the process ended with {process.exitcode}"
        if error:
            found[kind].append({"reader": name, "error": error, "file": str(folder)})
        read[name], peak = told["inputs"], max(peak, told["peak"])
        print(f"{name}: {told['inputs']} inputs {error}", flush=True)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(run, names))
    if not any(found.values()):
        shutil.rmtree(base)
    return {
        "inputs": sum(read.values()),
        "readers": dict(sorted(read.items())),
        **found,
        "peak_memory_mib": round(peak / 2**20, 1),
        "seed": seed,
        "seconds": round(time.monotonic() - begun, 1),
    }
