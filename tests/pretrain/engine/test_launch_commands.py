"""The same run in one process and in two, on one node and on two, and by Slurm."""

import csv
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pretrain.engine import processes
from pretrain.engine.processes import first_node, join_processes, meet, read_slurm_environment
from results.record.run_record import RunRecord
from tests.helpers.places import ROOT
from tools.trainer_of import trainer_of

STAND_IN = """#!/usr/bin/env bash
# srun on this machine alone: as many processes as --ntasks says, with Slurm's names for them
printf '%s\\n' "$@" >"$SRUN_SEEN"
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && tasks=${1#*=}
    shift
done
export SLURM_NTASKS=$tasks SLURM_JOB_ID=$JOB SLURM_JOB_NODELIST='elsewhere[1-2]'
export SLURM_STEP_NODELIST=localhost
for ((task = 0; task < tasks; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
    started+=($!)
done
for process in "${started[@]}"; do wait "$process" || exit $?; done
"""
OPTIONS = [
    "--cfg-options", "epochs=2", "warmup_epochs=1", "global_batch_size=8",
    "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False",
    "train_dataloader.dataset.augmentation.size=32", "custom_hooks.0.interval=1",
    "env_cfg.dist_cfg.backend=gloo",
]  # fmt: skip


def free_port(first: int = 20000) -> int:
    """The first port from ``first`` on that nobody listens at."""
    for port in range(first + os.getpid() % 5000, first + 10000):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError("no free port")


def start(script, *arguments, cwd=ROOT, **environment) -> subprocess.Popen:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") and name not in ("NNODES", "NODE_RANK", "MASTER_ADDR")
    }
    return subprocess.Popen(
        ["bash", os.path.relpath(ROOT / f"tools/{script}.sh", cwd), *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**clean, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def finish(*started: subprocess.Popen) -> str:
    logs = [process.communicate(timeout=900)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(logs)
    return "\n".join(logs)


def losses(work_dir: Path) -> list[list[float]]:
    with (work_dir / "losses.csv").open() as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


# ---- a run from end to end -----------------------------------------------------------------------

CONFIG = "configs/demo/pretrain_loco.py"
ON_CPU = pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="a machine without GPUs",
)


@pytest.fixture(scope="module")
def options(coco):
    return [*OPTIONS, f"data_root={coco}/train2017"]


@pytest.fixture(scope="module")
def one_process(options, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("one")
    finish(start("pretrain", CONFIG, 1, "--work-dir", work_dir, *options))
    return work_dir


def check_equal(work_dir: Path, one_process: Path) -> None:
    """The same photographs and views in another order: float32 sums, 6 printed decimals.

    The first loss is of the same weights; a step later roundings have passed an optimizer.
    """
    expected, found = losses(one_process), losses(work_dir)
    assert len(found) == len(expected) == 4  # 2 epochs of 16 photographs in batches of 8
    assert found[0] == pytest.approx(expected[0], abs=2e-5)
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs == pytest.approx(ours, rel=2e-4)
    record = RunRecord.read(work_dir / "record.json")
    assert (record.world_size, record.global_batch_size) == (2, 8)
    assert record.norm == "SyncBatchNorm over 2 processes"


@ON_CPU
def test_two_processes_of_one_node(options, one_process, tmp_path):
    """Beside another job that listens at the usual port: theirs is a free one."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # there is one
            other.bind(("", 29500))
            other.listen()
        finish(start("pretrain", CONFIG, 2, "--work-dir", tmp_path, *options))
    check_equal(tmp_path, one_process)


@ON_CPU
def test_two_nodes_of_one_process(options, one_process, tmp_path):
    nodes = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "PORT": str(free_port())}
    finish(
        *(
            start("pretrain", CONFIG, 1, "--work-dir", tmp_path, *options, **nodes, NODE_RANK=rank)
            for rank in "01"
        )
    )
    check_equal(tmp_path, one_process)


@pytest.fixture
def slurm(tmp_path):
    """Environment with the stand-in for srun, which writes its arguments to SRUN_SEEN."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(STAND_IN)
    srun.chmod(0o755)
    return {
        "PATH": f"{srun.parent}:{os.environ['PATH']}",
        "SRUN_SEEN": str(tmp_path / "seen"),
        "JOB": str(free_port() - 20000),
    }


@ON_CPU
def test_slurm(options, one_process, slurm, tmp_path):
    environment = {**slurm, "GPUS": "2", "CPUS_PER_TASK": "3", "GRES": "none",
                   "SRUN_ARGS": "--time=1:00 --exclude=a,b"}  # fmt: skip
    work_dir = tmp_path / "run"
    log = finish(
        start("slurm_train", "cpu", "loco", CONFIG, "--work-dir", work_dir, *options, **environment)
    )
    check_equal(work_dir, one_process)
    assert Path(slurm["SRUN_SEEN"]).read_text().splitlines() == [
        "--partition=cpu", "--job-name=loco", "--gres=none", "--ntasks=2", "--ntasks-per-node=2",
        "--cpus-per-task=3", "--kill-on-bad-exit=1", "--time=1:00", "--exclude=a,b",
        sys.executable, "-m", "pretrain.engine.start", "pretrain.train", CONFIG,
        "--launcher", "slurm", "--work-dir", str(work_dir), *options,
    ], log  # fmt: skip


# ---- the caller's folder counts ------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """Somebody's folder: a config with code of its own, and names that this project has too."""
    folder = tmp_path / "my project"
    for name in ("results", "pretrain", "transfer", "tests"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('not the checkout's')")
    modules = Config.fromfile(ROOT / CONFIG).custom_imports.imports
    (folder / "mine.py").write_text(
        f"_base_ = [{str(ROOT / CONFIG)!r}]\n"
        f"custom_imports = {{'imports': {[*modules, 'own_part']}}}\n"
    )
    (folder / "own_part.py").write_text("print('own part')")
    return folder


IGNORED_BY_OLD_PYTHONS = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.11 or later"
)


@pytest.mark.slow
@IGNORED_BY_OLD_PYTHONS
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=ON_CPU)])
def test_paths_are_relative_to_the_callers_folder(processes, project, options, coco, slurm):
    (project / "images").symlink_to(coco / "train2017")
    here = [*(o for o in options if not o.startswith(("data_root", "epochs", "warmup")))]
    here += ["epochs=1", "warmup_epochs=0", "data_root=images"]
    place = {"cwd": project, "REFRESH_TABLES": "1", "PORT": str(free_port())}
    log = finish(start("pretrain", "mine.py", processes, "--work-dir", "out/a", *here, **place))
    record = RunRecord.read(project / "out/a/record.json")
    assert (record.config, record.world_size) == ("mine.py", processes) and "own part" in log
    assert (project / "out/tables/report.html").is_file(), log
    if processes == 2:
        slurm |= {"GPUS": "2", "GRES": "none", "REFRESH_TABLES": "0", "cwd": project}
        finish(start("slurm_train", "cpu", "loco", "mine.py", *here, **slurm))
        assert (project / "work_dirs/mine_1ep/record.json").is_file()
    assert not {"out", "images"} & {path.name for path in ROOT.iterdir()}


def test_the_checkouts_own_python_is_found_from_everywhere(tmp_path):
    """Launchers of a checkout without .venv name the command that makes it, as it must be typed."""
    tools = tmp_path / "check out" / "tools"
    tools.mkdir(parents=True)
    for name in ("launch.sh", "pretrain.sh", "slurm_train.sh"):
        shutil.copy(ROOT / "tools" / name, tools)
    setup = f"{tools}/setup.sh".replace(" ", "\\ ")
    expected = f"error: no {tools.parent}/.venv/bin/python; run: bash {setup}\n"
    for command in (["pretrain.sh", CONFIG, "1"], ["slurm_train.sh", "gpu", "name", CONFIG]):
        done = subprocess.run(
            ["bash", f"check out/tools/{command[0]}", *command[1:]],
            cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (2, expected)


# ---- what the launchers say to bad input ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {}, "no CONFIG; usage: CONFIG [N] [args]"),
        (["--resume"], {}, "no CONFIG; usage: CONFIG [N] [args]"),
        ([CONFIG, "0"], {}, "0 processes; expected 1 or more"),
        ([CONFIG, "1"], {"NNODES": "two"}, "NNODES is 'two'; expected the number of nodes"),
        ([CONFIG, "1"], {"NNODES": "2"}, "NNODES is 2; set MASTER_ADDR to the first node's"),
        ([CONFIG, "1"], {"NNODES": "2", "NODE_RANK": "0"}, "NNODES is 2; set MASTER_ADDR"),
        (
            [CONFIG, "1"],
            {"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"},
            "NODE_RANK is '2' of 2 nodes; expected 0 to 1",
        ),
        *(
            ([CONFIG, "2"], {"PORT": port}, f"PORT is '{port}'; expected a number, 1 to 65535")
            for port in ("http", "", "0", "-1", "65536", "70000", "99999999999999999999", "080")
        ),
        (
            [CONFIG, "1"],
            {"PYTHON": "/no/python"},
            "no /no/python; run: bash /",
        ),
    ],
)
def test_the_launcher_names_what_is_wrong(arguments, environment, words):
    process = start("pretrain", *arguments, **environment)
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and log.startswith("error: ") and words in log, log


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["gpu", "name"], {}, "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [args]"),
        (["gpu", "name", CONFIG], {"GPUS": "many"}, "GPUS is 'many'"),
        (["gpu", "name", CONFIG], {"GPUS": "12"}, "GPUS_PER_NODE is '8', GPUS is 12"),
        (["gpu", "name", CONFIG], {"CPUS_PER_TASK": "all"}, "CPUS_PER_TASK is 'all'"),
        (["gpu", "name", "no.py"], {}, f"no config at no.py; the configs are under {ROOT}/configs"),
        (["gpu", "name", CONFIG], {"PATH": os.environ["PATH"]}, "no srun on this machine"),
    ],
)
def test_the_slurm_launcher_names_what_is_wrong(arguments, environment, words, slurm):
    process = start("slurm_train", *arguments, **{**slurm, **environment})
    log, _ = process.communicate(timeout=300)
    assert process.returncode and words in log, log
    assert not Path(slurm["SRUN_SEEN"]).exists(), "nothing is queued"


@pytest.mark.parametrize(
    ("config", "module"),
    [
        ("configs/pretrain/loco_r50.py", "pretrain.train"),
        ("configs/linear/loco_r50.py", "pretrain.readout.linear_probe"),
        ("configs/ablations/table5_l2_1e2.py", "pretrain.train"),
        ("configs/mask_rcnn_loco_r50_frozen.py", "transfer.train"),
        ("configs/demo/mask_rcnn_loco_cityscapes.py", "transfer.train"),
    ],
)
def test_every_kind_of_config_finds_its_trainer(config, module):
    assert trainer_of(config) == module


# ---- the processes find each other ---------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SLURM_PROCID", "16", "expected a number, 0 to 15 (SLURM_NTASKS is 16)"),
        ("SLURM_PROCID", "-1", "expected a number, 0 to 15 (SLURM_NTASKS is 16)"),
        ("SLURM_PROCID", "five", "expected a number, 0 to 15"),
        ("SLURM_NTASKS", "1", "SLURM_PROCID is '5'; expected a number, 0 to 0"),
        ("SLURM_NTASKS", "0", "expected a number, 1 to"),
        ("SLURM_NTASKS", "", "expected a number, 1 to"),
        ("SLURM_LOCALID", "1.5", "expected a number, 0 to 15"),
        ("SLURM_JOB_ID", "abc", "expected a number, 0 to"),
        ("MASTER_PORT", "70000", "expected a number, 1 to 65535"),
        ("PORT", "70000", "expected a number, 1 to 65535"),
        ("PORT", "0", "expected a number, 1 to 65535"),
        ("SLURM_JOB_NODELIST", "[", "expected nodes as srun lists them"),
        ("SLURM_JOB_NODELIST", "gpu[", "expected nodes as srun lists them"),
        ("SLURM_JOB_NODELIST", "gpu[1-2", "expected nodes as srun lists them"),
        ("SLURM_STEP_NODELIST", "gpu[]", "expected nodes as srun lists them"),
        ("SLURM_STEP_NODELIST", ",", "expected nodes as srun lists them"),
        ("SLURM_STEP_NODELIST", "a b", "expected nodes as srun lists them"),
    ],
)
def test_a_variable_that_srun_would_not_set_is_named(name, value, words, environment):
    environment.update(TASK | {name: value})
    with pytest.raises(ValueError) as told:
        read_slurm_environment()
    (line,) = str(told.value).splitlines()
    assert words in line and line.startswith(words[:10] if "PROCID is" in words else f"{name} is ")
    assert value in line


def test_the_port_of_a_slurm_job_can_be_chosen(environment):
    environment.update(TASK | {"PORT": "29600"})
    read_slurm_environment()
    assert environment["MASTER_PORT"] == "29600"


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


# ---- the processes meet --------------------------------------------------------------------------


@pytest.fixture
def meeting(environment):
    """Where a meeting may take place."""
    environment.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    return environment


def told(*arguments):
    begun = time.monotonic()
    with pytest.raises(ValueError) as fault:
        meet(*arguments)
    (line,) = str(fault.value).splitlines()
    return line, time.monotonic() - begun


def test_who_does_not_come_is_named_in_the_stated_time(meeting):
    line, seconds = told(0, 4, 1.0)
    place = f"127.0.0.1:{meeting['MASTER_PORT']}"
    assert line.startswith(f"no rank 1, 2, 3 of 4 processes at {place} within 1 s;")
    assert "COLLECTIVE_TIMEOUT=SECONDS" in line and seconds >= 1


def test_those_that_have_come_are_told_by_the_first(meeting):
    """Which leaves: they would otherwise be told of a connection that is closed."""
    found = {}
    first = threading.Thread(target=lambda: found.update(first=told(0, 3, 1.0)[0]))
    first.start()
    found["second"] = told(1, 3, 60.0)[0]
    first.join()
    assert found["first"].startswith("no rank 2 of 3 processes at ")
    assert found["second"].startswith("no rank 2 of 3 processes at ")


def test_rank_0_that_does_not_come_is_named(meeting):
    line, _ = told(1, 2, 1.0)
    assert line.startswith(
        f"rank 0 does not answer at 127.0.0.1:{meeting['MASTER_PORT']} within 1 s"
    )


@pytest.mark.parametrize("address", ["no-such-host.invalid", "a..b", "-", ""])
def test_an_address_that_cannot_be_resolved_is_named_at_once(address, meeting):
    meeting["MASTER_ADDR"] = address
    line, _ = told(1, 2, 1000.0)
    assert line.startswith(f"MASTER_ADDR is {address!r}, which this node cannot resolve")


def test_a_port_in_use_is_named(meeting):
    with socket.create_server(("", int(meeting["MASTER_PORT"]))):
        line, _ = told(0, 2, 1000.0)
    assert line.startswith(f"rank 0 cannot listen at MASTER_PORT {meeting['MASTER_PORT']}")
    assert "SLURM_PROCID" in line


def test_two_processes_of_one_rank_are_named(meeting):
    host = threading.Thread(target=told, args=(0, 3, 4.0))
    host.start()
    other = threading.Thread(target=told, args=(1, 3, 60.0))
    other.start()
    time.sleep(1.0)
    line, _ = told(1, 3, 60.0)
    assert line.startswith("two processes have RANK (Slurm: SLURM_PROCID) 1; ")
    host.join()
    other.join()


def test_a_port_that_was_named_and_is_in_use_is_refused(tmp_path):
    with socket.create_server(("", 0)) as other:
        port = str(other.getsockname()[1])
        process = start("pretrain", CONFIG, 2, "--work-dir", tmp_path, PORT=port)
        log, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and log.count("\n") == 1
    assert log.startswith(f"error: PORT is {port}, where nobody can listen on this node")


@ON_CPU
def test_a_clean_error_of_two_processes_is_one_line(tmp_path):
    process = start(
        "pretrain", CONFIG, 2, "--work-dir", tmp_path, "--cfg-options", "data_root=none"
    )
    log, _ = process.communicate(timeout=900)
    assert process.returncode == 1
    assert log.count("\n") == 1 and log.startswith("error: ") and "none" in log, log
