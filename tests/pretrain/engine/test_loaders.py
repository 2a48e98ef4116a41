"""A loader's worker that dies or finds no shared memory is told in one line."""

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import time

import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from pretrain.engine.launch import config_text
from pretrain.engine.loaders import guard_workers, leave_signals_to_the_run, worker_fault

NO_ROOM = "unable to write to file </torch_1_2>: No space left on device (28)"


class Unsendable:
    """As a tensor whose storage does not fit into /dev/shm, when it is handed over."""

    def __reduce__(self):
        raise RuntimeError(NO_ROOM)


class Samples(torch.utils.data.Dataset):
    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.how in ("KILL", "BUS", "STOP"):
            os.kill(os.getpid(), signal.Signals[f"SIG{self.how}"])
        if self.how == "hangs":
            time.sleep(600)
        if self.how == "exits":
            os._exit(3)
        if self.how == "raises":
            raise RuntimeError(NO_ROOM)
        if self.how == "another fault":
            raise RuntimeError("a fault of the data set's own")
        return Unsendable() if self.how == "cannot be sent" else torch.zeros(1)


def collate(samples):
    return samples


def fault(how):
    loader = DataLoader(
        Samples(how), num_workers=1, collate_fn=collate, worker_init_fn=leave_signals_to_the_run,
        timeout=0.9 if how in ("STOP", "hangs") else 0,
    )  # fmt: skip
    with pytest.raises(RuntimeError) as raised:
        list(loader)
    handler = signal.getsignal(signal.SIGCHLD)  # torch sets it once
    told = worker_fault(raised.value)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()  # torch would wait for it, and tell the next test of it
        worker.join()
    del raised, loader
    gc.collect()
    signal.signal(signal.SIGCHLD, handler)
    return told


def test_a_signal_to_all_leaves_the_workers_to_the_run():
    """Ctrl-C, a scheduler and a closed terminal reach them too."""
    loader = DataLoader(Samples(""), num_workers=1, worker_init_fn=leave_signals_to_the_run)
    batches = iter(loader)
    next(batches)
    for number in ("TERM", "INT", "HUP"):
        subprocess.run(["kill", f"-{number}", str(batches._workers[0].pid)], check=True)
    assert len(list(batches)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("KILL", r"loader worker \(process \d+\) is killed by signal: Killed; .* fewer workers"),
        (
            "STOP",
            r"no batch within 0\.9 of COLLECTIVE_TIMEOUT: loader worker \(process \d+\) is",
        ),
        ("hangs", r"no batch within .*: the loader's workers are too slow or hang; set COLLECTIVE"),
        ("exits", r"loader worker \(process \d+\) exited unexpectedly.*; .*num_workers=N"),
    ],
)
def test_a_worker_that_dies_or_hangs_is_named(how, words):
    assert re.match(words, fault(how))


@pytest.mark.parametrize("how", ["BUS", "raises", "cannot be sent"])
def test_shared_memory_that_is_used_up_is_named_with_what_helps(how):
    """The last one is where torch prints a traceback, leaves the batch out and waits for ever."""
    told = fault(how)
    assert re.match(
        r"(a loader worker|loader worker \(process \d+\)) found no room in /dev/shm", told
    )
    assert "train_dataloader.num_workers=N" in told and "--shm-size" in told and "\n" not in told


def test_another_fault_is_no_fault_of_the_worker():
    assert fault("another fault") == ""


def test_guards_are_no_part_of_what_a_run_computes(monkeypatch):
    monkeypatch.setenv("COLLECTIVE_TIMEOUT", "100")
    loaders = {"train_dataloader": {"num_workers": 2}, "val_dataloader": {"num_workers": 0}}
    cfg = Config(loaders)
    before = config_text(cfg)
    for name in loaders:
        guard_workers(cfg[name])
    assert cfg.train_dataloader.timeout == 90.0 and "timeout" not in cfg.val_dataloader
    assert config_text(cfg) == before
