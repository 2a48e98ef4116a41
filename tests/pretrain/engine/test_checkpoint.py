"""Checkpoints: the one before stays whole until the next is, whatever happens to the writing."""

import errno
import logging
import os
import re
import resource
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from pretrain.engine import launch
from pretrain.engine.atomic_files import AtomicFiles, AtomicRunner
from pretrain.engine.checkpoint import AtomicCheckpoint
from pretrain.engine.stopping import STOP
from pretrain.engine.watchdog import Watchdog
from results.record.files import NotWritten, remove_partials
from tests.helpers import toy_training as toy

pytestmark = pytest.mark.slow

NO_ROOM = os.strerror(errno.ENOSPC)
HOOKS = [{"type": "Diary"}, {"type": "PlainCheckpoint"}]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file())


def checkpoints(folder):
    return [name for name in names(folder) if name.endswith(".pth")]


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"interval": 1, "by_epoch": True, "max_keep_ckpts": 1}, ["epoch_3.pth"]),
        ({"interval": 2, "by_epoch": True}, ["epoch_2.pth", "epoch_3.pth"]),
        ({"interval": 4, "by_epoch": False}, ["iter_12.pth", "iter_15.pth"]),
        ({"interval": 7, "by_epoch": False, "max_keep_ckpts": 3},
         ["iter_14.pth", "iter_15.pth", "iter_7.pth"]),
    ],
)  # fmt: skip
def test_what_is_kept(values, left, tmp_path):
    cfg = toy.config(tmp_path)
    cfg.default_hooks.checkpoint.update(values)
    toy.train(cfg)
    assert checkpoints(tmp_path) == left
    for name in left:
        content = torch.load(tmp_path / name, weights_only=True)
        number = int(name.split("_")[1][:-4])
        iterations = number * toy.EPOCH_LENGTH if name.startswith("epoch") else number
        assert content["meta"]["iter"] == content["meta"]["noted"] == iterations
        assert content["meta"]["epoch"] == iterations // toy.EPOCH_LENGTH
    last = (tmp_path / "last_checkpoint").read_text()
    assert Path(last) == tmp_path / max(left, key=lambda name: (tmp_path / name).stat().st_mtime_ns)


def test_nothing_is_removed_before_the_next_is_there(tmp_path, monkeypatch):
    """At each removal and each renaming, last_checkpoint names a file that loads."""
    seen = []

    def watch(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            if (tmp_path / "last_checkpoint").exists():
                last = Path((tmp_path / "last_checkpoint").read_text())
                torch.load(last, weights_only=True)
                seen.append((name, Path(args[-1]).name, last.name))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    watch("unlink")
    watch("replace")
    cfg = toy.config(tmp_path, **{"train_cfg.max_epochs": 1})
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, by_epoch=False, interval=2)
    toy.train(cfg)
    steps = [step for step in seen if not step[1].endswith(".tmp")]
    assert steps == [
        ("replace", "iter_4.pth", "iter_2.pth"),
        ("replace", "last_checkpoint", "iter_2.pth"),
        ("unlink", "iter_2.pth", "iter_4.pth"),
        ("replace", "iter_5.pth", "iter_4.pth"),
        ("replace", "last_checkpoint", "iter_4.pth"),
        ("unlink", "iter_4.pth", "iter_5.pth"),
    ]


def test_the_best_is_kept_and_survives_a_resume(tmp_path):
    cfg = toy.config(tmp_path, **{"train_cfg.val_interval": 1})
    cfg.default_hooks.checkpoint.update(save_best="a/score", by_epoch=True)
    cfg.custom_hooks = [*HOOKS, {"type": "Death", "after": 12}]
    toy.SCORES[:] = [{"a/score": 0.4}, {}]
    toy.train(cfg)
    best = torch.load(tmp_path / "best_a_score.pth", weights_only=True)
    assert best["meta"]["iter"] == 5 and "optimizer" not in best
    toy.SCORES[:] = [{"a/score": 0.3}, {"a/score": 0.6}]
    cfg.update(custom_hooks=HOOKS, resume=True, load_from=str(tmp_path / "epoch_2.pth"))
    toy.train(cfg)  # epoch 2 is validated again: 0.3
    assert torch.load(tmp_path / "best_a_score.pth", weights_only=True)["meta"]["iter"] == 15
    assert checkpoints(tmp_path) == ["best_a_score.pth", "epoch_2.pth", "epoch_3.pth"]


def test_a_best_metric_that_is_not_measured_is_named(tmp_path):
    cfg = toy.config(tmp_path, **{"train_cfg.val_interval": 1})
    cfg.default_hooks.checkpoint.update(save_best="coco/segm_mAP")
    toy.SCORES[:] = []
    with pytest.raises(ValueError, match=r"save_best is 'coco/segm_mAP', .* gives score"):
        toy.train(cfg)


def test_a_disk_that_gets_full_takes_nothing_with_it(tmp_path):
    """The system refuses to write beyond a size, as it does on a full disk or a quota."""
    cfg = toy.config(tmp_path)
    cfg.custom_hooks = [*HOOKS, {"type": "Death", "after": 3}]
    toy.train(cfg)
    left = ["iter_2.pth", "iter_3.pth", "last_checkpoint"]
    before = {name: (tmp_path / name).read_bytes() for name in left}
    cfg.update(custom_hooks=HOOKS, resume=True, load_from=str(tmp_path / "iter_3.pth"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["iter_3.pth"]) - 1000, hard))
    try:
        with pytest.raises(NotWritten) as error:
            toy.train(cfg)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for words in (f"cannot write {tmp_path}/iter_4.pth: File too large", "it takes 0.0 MiB",
                  f"MiB are free in {tmp_path}. Make room there"):  # fmt: skip
        assert words in str(error.value)
    assert "--resume" not in str(error.value), "it does not know what there is"
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert checkpoints(tmp_path) == left[:2]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def fill_up(monkeypatch, name):
    """The disk has no room for files of this name."""
    real = os.fsync

    def full(descriptor):
        if name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)


def test_the_error_of_a_full_disk(tmp_path, monkeypatch):
    """What is free is told without the part that was written: of 9 MiB all."""

    def usage(folder):
        used = sum(path.stat().st_size for path in Path(folder).iterdir())
        return SimpleNamespace(free=9 * 2**20 - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    fill_up(monkeypatch, "epoch_1.pth")
    with pytest.raises(
        NotWritten, match=r"No space left on device; it takes 3\.0 MiB, 9\.0 MiB are free"
    ):
        AtomicFiles().put(bytes(3 * 2**20), tmp_path / "epoch_1.pth")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("iter_1.pth", r"\. No checkpoint was saved before it\.$"),
        ("iter_3.pth", r"\. The last good checkpoint is .*/iter_2\.pth: .* --resume"),
        ("last_checkpoint", r"\. The last good checkpoint is .*/iter_1\.pth: .* --resume"),
        (".py", r"what was there before is whole$"),  # mmengine writes the config
    ],
)
def test_a_run_on_a_full_disk_ends_with_one_true_line(name, advice, tmp_path, monkeypatch, capfd):
    cfg = toy.config(tmp_path)
    cfg.experiment_name = f"full{next(toy.COUNT)}"
    fill_up(monkeypatch, name)
    with pytest.raises(SystemExit, match=rf"^error: cannot write {tmp_path}/\S*{name}: ") as error:
        launch.train(cfg, Watchdog(0, 1, 600))
    assert re.search(advice, error.value.code), error.value.code
    assert error.value.code.count("--resume") == advice.count("--resume")
    assert "Traceback" not in capfd.readouterr().err


def test_a_log_that_cannot_be_written_is_told_of_once(tmp_path, capfd):
    cfg = toy.config(tmp_path, log_level="INFO")
    cfg.experiment_name = f"log{next(toy.COUNT)}"
    runner = AtomicRunner.from_cfg(cfg)
    (handler,) = (h for h in runner.logger.handlers if isinstance(h, logging.FileHandler))
    capfd.readouterr()
    with suppress(OSError), Path("/dev/full").open("w") as handler.stream:
        for _ in range(17):
            runner.logger.info("a line")
    told = capfd.readouterr().err
    assert told == f"warning: cannot write {handler.baseFilename}: [Errno 28] {NO_ROOM}\n"


def test_the_config_of_the_last_start_stays_until_the_next_is_written(tmp_path, monkeypatch):
    """mmengine empties the file, then puts the text into shape."""
    cfg = toy.config(tmp_path)
    cfg.experiment_name = "whole"
    runner = AtomicRunner.from_cfg(cfg)
    (path,) = tmp_path.glob("*.py")
    written = Config.fromfile(path)
    assert written.to_dict() == runner.cfg.to_dict()

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Config, "pretty_text", property(killed))
    with pytest.raises(KeyboardInterrupt):
        runner.dump_config()
    assert Config.fromfile(path).to_dict() == written.to_dict()


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    kept = ["losses.csv", ".lock", "a.tmp", ".notes.tmp"]
    for name in [*kept, ".epoch_3.pth.4711-0123abcd.tmp", ".last_checkpoint.1-ffffffff.tmp"]:
        (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_a_loop_that_would_not_continue_there_is_refused(tmp_path):
    cfg = toy.config(tmp_path, **{"train_cfg.type": "EpochBasedTrainLoop"})
    with pytest.raises(ValueError, match=r"set train_cfg\.type to ResumableLoop"):
        toy.train(cfg)


def test_a_checkpoint_with_other_tensors_is_refused(tmp_path):
    cfg = toy.config(tmp_path)
    cfg.custom_hooks = [*HOOKS, {"type": "Death", "after": 1}]
    toy.train(cfg)
    content = torch.load(tmp_path / "iter_1.pth", weights_only=True)
    content["state_dict"]["lime.weight"] = content["state_dict"].pop("line.weight")
    torch.save(content, tmp_path / "iter_1.pth")
    cfg.update(custom_hooks=HOOKS, resume=True, load_from=str(tmp_path / "iter_1.pth"))
    with pytest.raises(ValueError, match=r"same tensors: 2 are in .*lime\.weight, line\.weight"):
        toy.train(cfg)


@pytest.fixture
def told():
    """SIGTERM is noted as a started run does; what was told is forgotten afterwards."""
    before = signal.signal(signal.SIGTERM, STOP._note)
    yield
    signal.signal(signal.SIGTERM, before)
    STOP.told, STOP.saves = None, False


@pytest.mark.usefixtures("told")
def test_on_sigterm_it_finishes_the_iteration_saves_and_says_try_again(tmp_path):
    cfg = toy.config(tmp_path)
    cfg.default_hooks.checkpoint.update(by_epoch=True)
    cfg.custom_hooks = [*HOOKS, {"type": "Signal", "after": 7}]
    with pytest.raises(SystemExit) as leaving:
        toy.train(cfg)
    assert leaving.value.code == 75
    assert checkpoints(tmp_path) == ["epoch_1.pth", "iter_7.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_7.pth")


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(("interval", "left"), [(5, "iter_10.pth"), (4, "iter_11.pth")])
def test_in_a_validation_it_stops_at_once_if_all_is_saved(interval, left, tmp_path):
    """Of 15 iterations, validated after 10 (and 15): nothing is lost, nothing saved too early."""
    cfg = toy.config(tmp_path)
    cfg.default_hooks.checkpoint.interval = interval
    cfg.custom_hooks = [*HOOKS, {"type": "SignalInValidation"}]
    with pytest.raises(SystemExit) as leaving:
        toy.train(cfg)
    assert leaving.value.code == 75
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / left)


def test_text_in_a_checkpoint_is_not_executed(tmp_path):
    """mmengine would read meta.config as a Python file."""
    cfg = toy.config(tmp_path)
    cfg.custom_hooks = [*HOOKS, {"type": "Death", "after": 14}]
    toy.train(cfg)
    content = torch.load(tmp_path / "iter_14.pth", weights_only=True)
    content["meta"]["config"] = f"open({str(tmp_path / 'owned')!r}, 'w')"
    torch.save(content, tmp_path / "iter_14.pth")
    cfg.update(custom_hooks=HOOKS, resume=True, load_from=str(tmp_path / "iter_14.pth"))
    toy.train(cfg)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("values", [{"interval": 0}, {"max_keep_ckpts": 0}])
def test_numbers_that_mean_nothing_are_refused(values):
    with pytest.raises(ValueError, match="both must be at least 1"):
        AtomicCheckpoint(**values)
