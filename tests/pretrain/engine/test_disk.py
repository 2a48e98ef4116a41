"""Full and read-only disks, folders in use, data that go away: told, and nothing is lost."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pretrain.engine.atomic_files import AtomicFiles
from pretrain.engine.launch import argument_parser
from pretrain.engine.launch import main as launch
from pretrain.engine.refresh import VARIABLE, refresh_tables
from pretrain.engine.run_folder import lock_folder
from pretrain.train import NAMES, prepare
from results.__main__ import main as write_tables
from results.record.files import NotWritten, write_atomically
from results.record.run_record import RunRecord
from tests.helpers.places import ROOT
from tests.helpers.run_records import make_record
from tests.reliability.files import meanings
from transfer import splits
from transfer.data.splits import check_split
from transfer.scenes.datasets import write_coco


def mounted(*arguments):
    """Whether this process may mount, and has."""
    return not subprocess.run(["mount", *map(str, arguments)], stderr=subprocess.DEVNULL).returncode


@contextmanager
def little_room(folder, room):
    """A disk of so many bytes; for a user who may not mount one, no file may be larger."""
    folder.mkdir(exist_ok=True)
    if mounted("-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder):
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder):
    """The folder as it is; root, whom no permission stops, gets it as a read-only mount."""
    if mounted("--bind", folder, folder):
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    elif os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
    else:
        pytest.skip("the right to mount, or another user than root")


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- no room, no right ---------------------------------------------------------------------------


def test_a_full_disk_keeps_the_record_that_was_there(tmp_path):
    disk = tmp_path / "disk"
    with little_room(disk, 32768):
        make_record(seed=1).write(disk)
        before = contents(disk)
        with pytest.raises(NotWritten, match=r"cannot write .*record\.json: .* free in .*disk\."):
            make_record(seed=2, artifacts={"notes": ["x" * 4000] * 10}).write(disk)
        assert contents(disk) == before and RunRecord.read(disk / "record.json").seed == 1


def test_a_split_that_does_not_fit_leaves_the_older_one(coco, tmp_path, capsys):
    disk = tmp_path / "disk"
    annotations = coco / "annotations/instances_train2017.json"
    command = [str(annotations), "--seed", "0", "--out", str(disk / "split.json"), "--size"]
    with little_room(disk, 16384):
        assert splits.main([*command, "2"]) == 0
        before = contents(disk)
        assert splits.main([*command, "16"]) == 1
        assert contents(disk) == before
        check_split(annotations, 2, 0, disk / "split.json")
    assert capsys.readouterr().err.startswith("error: ")


def test_a_read_only_folder_is_named_and_left_as_it_is(coco, tmp_path, capsys):
    annotations = coco / "annotations/instances_train2017.json"
    command = [str(annotations), "--seed", "0", "--out", str(tmp_path / "split.json"), "--size"]
    assert splits.main([*command, "2"]) == 0
    before = contents(tmp_path)
    with read_only(tmp_path):
        assert splits.main([*command, "3"]) == 1
        assert contents(tmp_path) == before
    told = capsys.readouterr().err
    assert str(tmp_path) in told and ("Read-only" in told or "Permission" in told)


def test_a_work_folder_that_cannot_be_written_to_is_named(tmp_path):
    with read_only(tmp_path), pytest.raises(ValueError, match=r"choose another --work-dir"):
        lock_folder(tmp_path / "run")


def test_tables_that_do_not_fit_are_named_and_the_older_ones_whole(tmp_path):
    out = tmp_path / "out"
    make_record().write(tmp_path / "runs/loco")
    with little_room(out, 16384):
        with pytest.raises(NotWritten, match=f"^cannot write {out}/"):
            write_tables([str(tmp_path / "runs"), "--out", str(out)])
        assert meanings(out)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_tables_that_cannot_be_written_are_no_fault_of_the_run(
    fault, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(VARIABLE, "1")
    runs, out = tmp_path / "runs", tmp_path / "runs/tables"
    make_record().write(runs / "loco")
    out.mkdir()
    before = contents(runs)
    with little_room(out, 8192) if fault == "full" else read_only(out):
        refresh_tables(runs / "loco")
    assert f"python -m results {runs} --out {out}" in capsys.readouterr().out
    assert contents(runs) == before


# ---- who is in the folder ------------------------------------------------------------------------


def arguments(coco, folder, *more):
    options = ["--cfg-options", f"data_root={coco}/train2017", "global_batch_size=4"]
    given = ["configs/demo/pretrain_loco.py", "--work-dir", str(folder), *more, *options]
    return argument_parser("").parse_args(given)


def test_a_second_run_in_a_folder_is_refused_and_touches_nothing(coco, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with lock_folder(tmp_path):
        write_atomically(tmp_path / "last_checkpoint", b"iter_3.pth")
        (tmp_path / ".iter_4.pth.1-01234567.tmp").touch()  # the first one's, being written
        before = contents(tmp_path)
        with pytest.raises(SystemExit, match=f"another run is at work in {tmp_path}; wait for it"):
            launch("", prepare, NAMES, arguments(coco, tmp_path, "--resume"))
        assert contents(tmp_path) == before


def test_a_lock_whose_owner_was_killed_keeps_nobody_out(tmp_path):
    holder = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{holder}; print('held', flush=True); input()"]
    with subprocess.Popen(
        [*command, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.read(4) == b"held"
        with pytest.raises(ValueError, match="another run is at work"):
            lock_folder(tmp_path)
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / ".lock").exists()
    lock_folder(tmp_path).close()


# ---- data that go away ---------------------------------------------------------------------------


@pytest.mark.slow
def test_images_that_vanish_end_a_pretraining_and_leave_its_checkpoint(
    tmp_path, monkeypatch, capfd
):
    write_coco(tmp_path / "coco", train=12, val=2, size=(64, 64), seed=0)
    folder, put = tmp_path / "run", AtomicFiles.put

    def put_and_vanish(self, content, path):
        put(self, content, path)
        if Path(path).name == "iter_2.pth":
            shutil.move(tmp_path / "coco/train2017", tmp_path / "elsewhere")

    monkeypatch.setattr(AtomicFiles, "put", put_and_vanish)
    args = arguments(tmp_path / "coco", folder)
    saves = ("default_hooks.checkpoint.by_epoch", "default_hooks.checkpoint.interval")
    args.cfg_options |= {"epochs": "99"} | dict(zip(saves, ("False", "2"), strict=True))
    with pytest.raises(SystemExit) as stop:
        launch("", prepare, NAMES, args)
    told = f"{stop.value.code}{capfd.readouterr().err}"
    assert "has vanished since; put it back" in told and "max_unreadable_share" not in told
    assert "The last good checkpoint is" in told and "Traceback" not in told
    assert (folder / "last_checkpoint").exists() and not (folder / "record.json").exists()
