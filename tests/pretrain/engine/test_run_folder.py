"""Which checkpoint is the newest, and what may be said of it."""

import os

import pytest
import torch

from pretrain.engine.resume import checkpoint_to_resume, refuse_existing
from pretrain.engine.run_folder import last_good, newest_whole
from tests.helpers.forbidden import forbid


def saved_at(folder, **iterations):
    """Checkpoints by name without ending; later iterations with the older file times."""
    for name, iteration in iterations.items():
        meta = {"iter": iteration, "world_size": 1, "config_text": "{}"}
        path = folder / f"{name}.pth"
        torch.save({"meta": meta, "state_dict": {"a": torch.ones(3)}}, path)
        os.utime(path, (1e9 - iteration, 1e9 - iteration))


def damage(path):
    path.write_bytes(path.read_bytes()[:-40])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_the_pointer_the_newest_whole_one_counts(tmp_path):
    """Epochs of 4: epoch_3 is iteration 12, after iter_9 and before iter_14."""
    saved_at(tmp_path, iter_9=9, epoch_3=12, iter_14=14)
    before = contents(tmp_path)
    for newest in ("iter_14", "epoch_3", "iter_9"):
        path = tmp_path / f"{newest}.pth"
        assert checkpoint_to_resume(tmp_path, "last_checkpoint", "{}", 1) == path
        with pytest.raises(ValueError, match=rf"holds an unfinished run.* {path}: .* --resume"):
            refuse_existing(tmp_path)
        damage(path)
    assert newest_whole(tmp_path) is None
    for attempt in (
        lambda: checkpoint_to_resume(tmp_path, "last_checkpoint", "{}", 1),
        lambda: refuse_existing(tmp_path),
    ):
        with pytest.raises(ValueError, match=r"no checkpoint in .* is whole; start anew in"):
            attempt()
    assert contents(tmp_path).keys() == before.keys()


def test_a_damaged_checkpoint_is_never_called_good(tmp_path):
    """The time of a file says nothing: a copy has any. Nor does the pointer."""
    assert last_good(tmp_path) == "No checkpoint was saved before it."
    saved_at(tmp_path, epoch_1=3, epoch_2=6, epoch_10=30)
    (tmp_path / "last_checkpoint").write_text("epoch_10.pth")
    good = f"The last good checkpoint is {tmp_path}/epoch_10.pth: the same command with --resume"
    assert last_good(tmp_path).startswith(good)
    damage(tmp_path / "epoch_10.pth")
    told = last_good(tmp_path)
    assert f"{tmp_path}/epoch_10.pth is damaged" in told and "last good" not in told
    assert told.endswith(f"with the same command and --resume {tmp_path}/epoch_2.pth.")
    (tmp_path / "last_checkpoint").write_text("")
    assert "names no file" in last_good(tmp_path) and "epoch_2.pth" in last_good(tmp_path)
    damage(tmp_path / "epoch_2.pth"), damage(tmp_path / "epoch_1.pth")
    assert "--resume" not in last_good(tmp_path) and "another --work-dir" in last_good(tmp_path)


@pytest.mark.parametrize("name", ["epoch_2.pth", "last_checkpoint"])
def test_what_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, name):
    """Nor is an older one recommended in its place."""
    saved_at(tmp_path, epoch_1=3, epoch_2=6)
    (tmp_path / "last_checkpoint").write_text("epoch_2.pth")
    forbid(monkeypatch, tmp_path / name)
    told = f"{tmp_path / name} may not be read by this user; permit it: chmod u+r {tmp_path / name}"
    assert last_good(tmp_path) == f"{told}."
    with pytest.raises(PermissionError) as error:
        checkpoint_to_resume(tmp_path, "last_checkpoint", "{}", 1)
    assert str(error.value) == told
    with pytest.raises(ValueError, match=r"holds an unfinished run\. .* chmod u"):
        refuse_existing(tmp_path)
