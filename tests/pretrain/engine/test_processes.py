"""The processes of a run find each other, or are told who does not come."""

import os
import socket
import threading
import time

import pytest
import torch
import torch.distributed as dist

from pretrain.engine import processes
from pretrain.engine.processes import first_node, join_processes, meet, read_slurm_environment
from tests.helpers.two_processes import free_port, in_two_processes

# ---- Slurm ---------------------------------------------------------------------------------------

TASK = {"SLURM_PROCID": "5", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "4012345",
        "SLURM_JOB_NODELIST": "gpu[07-09,12],cpu1"}  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """An environment without any launcher's variables, restored afterwards."""
    names = [*processes.SLURM_NAMES, "MASTER_ADDR", "MASTER_PORT"]
    values = {k: v for k, v in os.environ.items() if k not in names and "SLURM_" not in k}
    monkeypatch.setattr(os, "environ", values)
    return values


def test_slurms_names_become_torchs(environment):
    environment.update(TASK)
    read_slurm_environment()
    expected = {"RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07",
                "MASTER_PORT": "22345"}  # fmt: skip
    assert expected.items() <= environment.items()
    environment.update(MASTER_ADDR="10.0.0.1", MASTER_PORT="29500", SLURM_STEP_NODELIST="gpu09")
    read_slurm_environment()
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("10.0.0.1", "29500")
    del environment["MASTER_PORT"]
    environment["PORT"] = "29600"
    read_slurm_environment()
    assert environment["MASTER_PORT"] == "29600"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SLURM_PROCID", "16", "expected a number, 0 to 15"),
        ("SLURM_PROCID", "-1", "expected a number, 0 to 15"),
        ("SLURM_NTASKS", "0", "expected a number, 1 to"),
        ("SLURM_NTASKS", "", "expected a number, 1 to"),
        ("SLURM_LOCALID", "1.5", "expected a number, 0 to 15"),
        ("SLURM_JOB_ID", "abc", "expected a number, 0 to"),
        ("MASTER_PORT", "70000", "expected a number, 1 to 65535"),
        ("PORT", "0", "expected a number, 1 to 65535"),
        ("SLURM_JOB_NODELIST", "gpu[1-2", "expected nodes as srun lists them"),
        ("SLURM_STEP_NODELIST", "gpu[]", "expected nodes as srun lists them"),
        ("SLURM_STEP_NODELIST", "a b", "expected nodes as srun lists them"),
    ],
)
def test_a_variable_that_srun_would_not_set_is_named(name, value, words, environment):
    environment.update(TASK | {name: value})
    with pytest.raises(ValueError) as told:
        read_slurm_environment()
    assert str(told.value).startswith(f"{name} is '{value}'; {words}")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("gpu[3,5-8]", "gpu3"),
        ("rack[2-3]-node[011-014]-ib,x", "rack2-node011-ib"),
        ("login-1.site.org,gpu[1-2]", "login-1.site.org"),
    ],
)
def test_the_first_node_of_slurms_notation(nodes, first):
    assert first_node(nodes) == first


# ---- a group -------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs")
@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_two_processes_join_in_a_group(launcher, tmp_path):
    def work(rank):
        if launcher == "slurm":
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
            for name in names:
                del os.environ[name]
            os.environ.update(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS="2",
                              SLURM_JOB_NODELIST="localhost")  # fmt: skip
        watchdog = join_processes(launcher)
        total = torch.tensor(10 + rank)
        dist.all_reduce(total)
        print(watchdog.world_size, watchdog.rank, total.item())

    logs = in_two_processes(work, tmp_path, meet=False)
    assert logs == ["2 0 21\n", "2 1 21\n"]


def test_a_process_that_no_launcher_started_is_told_so(environment):
    alone = join_processes("none")
    alone.stop()
    assert alone.world_size == 1
    words = "--launcher pytorch, but RANK, WORLD_SIZE, LOCAL_RANK is not set, so torchrun did not"
    with pytest.raises(ValueError, match=words):
        join_processes("pytorch")
    with pytest.raises(ValueError, match=r"SLURM_PROCID.* is not set.*tools/slurm_train\.sh"):
        join_processes("slurm")
    environment.update(TASK)
    del environment["SLURM_JOB_NODELIST"]
    with pytest.raises(ValueError, match="SLURM_JOB_NODELIST is not set"):
        join_processes("slurm")


def test_more_processes_than_gpus_are_refused(environment, monkeypatch):
    environment.update(RANK="2", WORLD_SIZE="4", LOCAL_RANK="2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"process 3 .* sees 2 GPUs.*at most 2 processes"):
        join_processes("pytorch")


# ---- who does not come ---------------------------------------------------------------------------


@pytest.fixture
def place(environment):
    """Where a meeting may take place."""
    environment.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    return f"127.0.0.1:{environment['MASTER_PORT']}"


def told(*arguments):
    with pytest.raises(ValueError) as fault:
        meet(*arguments)
    (line,) = str(fault.value).splitlines()
    return line


@pytest.mark.slow
def test_who_does_not_come_is_named_in_the_stated_time(place):
    begun = time.monotonic()
    line = told(0, 4, 1.0)
    assert line.startswith(f"no rank 1, 2, 3 of 4 processes at {place} within 1 s;")
    assert "COLLECTIVE_TIMEOUT=SECONDS" in line and time.monotonic() - begun >= 1


@pytest.mark.slow
def test_those_that_have_come_are_told_by_the_first(place):
    """Which leaves: they would otherwise be told of a connection that is closed."""
    found = {}
    first = threading.Thread(target=lambda: found.update(first=told(0, 3, 1.0)))
    first.start()
    found["second"] = told(1, 3, 60.0)
    first.join()
    assert found["first"].startswith("no rank 2 of 3 processes at ")
    assert found["second"].startswith("no rank 2 of 3 processes at ")


def test_rank_0_that_does_not_come_is_named(place):
    assert told(1, 2, 1.0).startswith(f"rank 0 does not answer at {place} ")


@pytest.mark.parametrize("address", ["no-such-host.invalid", "a..b", "-", ""])
def test_an_address_that_cannot_be_resolved_is_named_at_once(address, place, environment):
    environment["MASTER_ADDR"] = address
    line = told(1, 2, 1000.0)
    assert line.startswith(f"MASTER_ADDR is {address!r}, which this node cannot resolve")


def test_a_port_in_use_is_named(place):
    port = int(place.partition(":")[2])
    with socket.create_server(("", port)):
        line = told(0, 2, 1000.0)
    assert line.startswith(f"rank 0 cannot listen at MASTER_PORT {port}") and "SLURM_PROCID" in line


@pytest.mark.slow
def test_two_processes_of_one_rank_are_named(place):
    threads = [threading.Thread(target=told, args=(rank, 3, 3.0)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    assert told(1, 3, 60.0).startswith("two processes have RANK (Slurm: SLURM_PROCID) 1; ")
    for thread in threads:
        thread.join()
