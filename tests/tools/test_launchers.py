"""The launchers: one process and two compute the same run, and bad input is named at once."""

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from pretrain.engine.run_folder import read_meta
from results.record.run_record import RunRecord
from tests.helpers.commands import CONFIG, ON_CPU, OPTIONS, finish, start
from tests.helpers.places import ROOT
from tools.trainer_of import trainer_of

pytestmark = pytest.mark.slow

# ---- a run from end to end -----------------------------------------------------------------------


def losses(work_dir: Path) -> list[list[float]]:
    with (work_dir / "losses.csv").open() as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


@ON_CPU
def test_two_processes_in_the_callers_folder_equal_one(coco, tmp_path):
    """Somebody's folder: a config with code of its own, and names that this project has too.

    Both have the same photographs and views in another order: float32 sums, 6 printed decimals. The
    first loss is of the same weights; a step later roundings have passed an optimizer.
    """
    one = start("pretrain", CONFIG, 1, "--work-dir", tmp_path / "one", *OPTIONS,
                f"data_root={coco}/train2017")  # fmt: skip
    project = tmp_path / "my project"
    for name in ("results", "pretrain", "transfer", "tests"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("raise SystemExit('not the checkout's')")
    modules = Config.fromfile(ROOT / CONFIG).custom_imports.imports
    (project / "mine.py").write_text(
        f"_base_ = [{str(ROOT / CONFIG)!r}]\n"
        f"custom_imports = {{'imports': {[*modules, 'own_part']}}}\n"
    )
    (project / "own_part.py").write_text("print('own part')")
    (project / "images").symlink_to(coco / "train2017")
    two = start("pretrain", "mine.py", 2, "--work-dir", "out/a", *OPTIONS, "data_root=images",
                cwd=project, REFRESH_TABLES="1")  # fmt: skip
    log = finish(two)
    finish(one)
    expected, found = losses(tmp_path / "one"), losses(project / "out/a")
    assert len(found) == len(expected) == 4  # 2 epochs of 16 photographs in batches of 8
    assert found[0] == pytest.approx(expected[0], abs=2e-5)
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs == pytest.approx(ours, rel=2e-4)
    record = RunRecord.read(project / "out/a/record.json")
    assert (record.config, record.world_size, record.global_batch_size) == ("mine.py", 2, 8)
    assert record.norm == "SyncBatchNorm over 2 processes" and "own part" in log
    report = (project / "out/tables/report.html").read_text()
    assert "LoCo" in report and "data:image/png;base64," in report
    assert not {"out", "images"} & {path.name for path in ROOT.iterdir()}


@ON_CPU
def test_a_training_is_told_to_stop_goes_on_and_loses_a_process(coco, tmp_path):
    """Ctrl-C reaches every process; what was printed is typed; then one process is stopped."""
    work_dir = tmp_path / "a run"
    arguments = [
        CONFIG, "2", "--work-dir", str(work_dir), *OPTIONS, "epochs=1000",
        f"data_root={coco}/train2017", "default_hooks.checkpoint.by_epoch=False",
    ]  # fmt: skip

    def reach(process, iteration):
        last = work_dir / "last_checkpoint"
        while not last.exists() or int(last.read_text().split("_")[-1][:-4]) <= iteration:
            assert process.poll() is None, finish(process)
            time.sleep(0.05)
        return Path(last.read_text())

    run = start("pretrain", *arguments)
    reach(run, 0)
    os.killpg(run.pid, signal.SIGINT)
    printed = finish(run, 75)
    (said,) = (line for line in printed.splitlines() if "to go on: " in line)
    last = Path((work_dir / "last_checkpoint").read_text())
    saved = read_meta(last)["iter"]
    assert f"stopped by SIGINT after iteration {saved}, which is saved" in said
    assert "Traceback" not in printed
    typed = said.partition("to go on: ")[2]
    assert shlex.split(typed) == ["bash", "tools/pretrain.sh", *arguments, "--resume"]

    run = start("pretrain", *shlex.split(typed)[2:], COLLECTIVE_TIMEOUT="8")
    reach(run, saved)
    victim = process_of_rank(run.pid, 1)
    os.kill(victim, signal.SIGSTOP)
    printed = finish(run, 1)
    assert f"continues from {last}" in printed
    assert re.search(r"\nerror: no progress in 8 s: no answer from rank 1 on \S+: it ", printed)
    last = Path((work_dir / "last_checkpoint").read_text())
    assert read_meta(last)["iter"] == int(last.stem.removeprefix("iter_"))


def process_of_rank(launcher: int, rank: int) -> int:
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"{launcher} has no child of rank {rank}")


# ---- what the launchers say to bad input ---------------------------------------------------------


def test_the_checkouts_own_python_is_found_from_everywhere(tmp_path):
    """Launchers of a checkout without .venv name the command that makes it, as it must be typed."""
    tools = tmp_path / "check out" / "tools"
    tools.mkdir(parents=True)
    for name in ("environment.sh", "launch.sh", "pretrain.sh", "slurm_train.sh"):
        shutil.copy(ROOT / "tools" / name, tools)
    setup = f"{tools}/setup.sh".replace(" ", "\\ ")
    expected = f"error: no {tools.parent}/.venv/bin/python; run: bash {setup}\n"
    for command in (["pretrain.sh", CONFIG, "1"], ["slurm_train.sh", "gpu", "name", CONFIG]):
        done = subprocess.run(
            ["bash", f"check out/tools/{command[0]}", *command[1:]],
            cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (2, expected)


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
            for port in ("http", "", "0", "-1", "65536", "99999999999999999999", "080")
        ),
        ([CONFIG, "1"], {"PYTHON": "/no/python"}, "no /no/python; run: bash /"),
    ],
)
def test_the_launcher_names_what_is_wrong(arguments, environment, words):
    log = finish(start("pretrain", *arguments, **environment), 2)
    assert log.startswith("error: ") and words in log


@pytest.fixture
def slurm(tmp_path):
    """Environment with a stand-in for srun, which writes its arguments to SRUN_SEEN."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/usr/bin/env bash\nprintf \'%s\\n\' "$@" >"$SRUN_SEEN"\n')
    srun.chmod(0o755)
    return {"PATH": f"{srun.parent}:{os.environ['PATH']}", "SRUN_SEEN": str(tmp_path / "seen")}


def test_what_srun_is_given(slurm):
    finish(
        start("slurm_train", "cpu", "loco", CONFIG, "--work-dir", "a b", **slurm, GPUS="2",
              CPUS_PER_TASK="3", GRES="none", SRUN_ARGS="--time=1:00 --exclude=a,b")
    )  # fmt: skip
    assert Path(slurm["SRUN_SEEN"]).read_text().splitlines() == [
        "--partition=cpu", "--job-name=loco", "--gres=none", "--ntasks=2", "--ntasks-per-node=2",
        "--cpus-per-task=3", "--kill-on-bad-exit=1", "--time=1:00", "--exclude=a,b",
        sys.executable, "-m", "pretrain.engine.start", "pretrain.train", CONFIG,
        "--launcher", "slurm", "--work-dir", "a b",
    ]  # fmt: skip


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
