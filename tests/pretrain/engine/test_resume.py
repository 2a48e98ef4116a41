"""A run that was broken off ends as if it had not been; real kills: tests/reliability."""

import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler

from pretrain.engine.random_state import SeededSamples, seed_everything
from pretrain.engine.resume import checkpoint_to_resume, refuse_another, refuse_existing
from pretrain.engine.run_folder import last_good, newest_whole
from pretrain.engine.same_config import config_text, differences
from pretrain.engine.sampler import EpochKeySampler, ResumableBatches
from pretrain.engine.train_loop import resumable
from tests.helpers import toy_training as toy
from tests.helpers.run_records import make_record

# ---- order and randomness ------------------------------------------------------------------------


def test_the_order_is_mmengines_with_the_epoch_in_it():
    keys, indices = (cls(range(10), seed=4) for cls in (EpochKeySampler, DefaultSampler))
    for epoch in (0, 7):
        keys.set_epoch(epoch)
        indices.set_epoch(epoch)
        assert list(keys) == [10 * epoch + index for index in indices]


class Shapes:
    """Nine images, of which every third is upright."""

    def __len__(self):
        return 9

    def get_data_info(self, key):
        return {"width": 4, "height": 8 if key % 3 == 0 else 2}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_entered_at_a_batch_goes_on_as_the_whole_one(grouped, drop_last):
    from mmdet.utils import register_all_modules

    register_all_modules()
    batches = {"type": "AspectRatioBatchSampler"} if grouped else None
    sampler = EpochKeySampler(Shapes(), seed=0)
    whole = list(ResumableBatches(sampler, 2, drop_last, batches))
    if grouped:
        full = [[key % 3 == 0 for key in batch] for batch in whole[:3]]
        assert all(len(set(batch)) == 1 for batch in full)
    assert len(whole) == (4 if drop_last else 5)
    for start in range(len(whole) + 1):
        entered = ResumableBatches(sampler, 2, drop_last, batches)
        entered.start = start
        assert list(entered) == list(islice(whole, start, None))
        assert len(entered) == len(whole)


def drawn():
    import random

    return (random.random(), np.random.rand(), float(torch.rand(())))


def test_equal_places_give_equal_numbers_and_others_others():
    places = [(0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0)]
    numbers = []
    for place in places:
        seed_everything(*place)
        numbers.append(drawn())
        drawn()
        seed_everything(*place)
        assert drawn() == numbers[-1]
    assert len({value for triple in numbers for value in triple}) == 3 * len(places)


class Batches(toy.NoisyNumbers):
    """torch's loader asks a dataset that has this method for a whole batch."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_a_dataset_that_gives_whole_batches_is_seeded_and_indexed_too():
    toy.DATASETS.register_module(module=Batches, force=True)
    dataset = SeededSamples({"type": "Batches"}, seed=0)
    first, same, other = (dataset.__getitems__(keys) for keys in ([13, 2], [13, 2], [23, 2]))
    assert [sample["x"][0] for sample in first] == [3, 2]
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(first, same, strict=True))
    assert other[0]["x"][0] == 3 and not torch.equal(first[0]["x"], other[0]["x"])
    assert not hasattr(SeededSamples({"type": "NoisyNumbers"}, seed=0), "__getitems__")
    assert dataset.metainfo == {"name": "noise"}


def test_a_sampler_of_unknown_order_is_refused():
    with pytest.raises(ValueError, match=r"sampler is InfiniteSampler; .* DefaultSampler"):
        resumable({"sampler": {"type": "InfiniteSampler"}, "dataset": {}}, seed=0)


# ---- broken off at an iteration, in this process -------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return toy.train(toy.config(tmp_path_factory.mktemp("undisturbed")))


def test_samples_differ_from_epoch_to_epoch(undisturbed):
    seen = [sample for _, _, batch in undisturbed[1].batches for sample in batch]
    assert sorted(sample[0] for sample in seen) == sorted([*range(toy.SAMPLES)] * toy.EPOCHS)
    assert len({sample[1] for sample in seen}) == toy.SAMPLES * toy.EPOCHS


@pytest.mark.parametrize(
    ("after", "workers"),
    [(3, 2), (5, 0), (10, 0), (14, 0)],  # in an epoch, at its end, before a validation
)
def test_a_continued_run_is_the_undisturbed_one(undisturbed, after, workers, tmp_path):
    death = [{"type": "Diary"}, {"type": "PlainCheckpoint"}, {"type": "Death", "after": after}]
    loading = {"train_dataloader.num_workers": workers}
    loading["train_dataloader.persistent_workers"] = workers > 0
    loading["default_hooks.checkpoint.interval"] = after
    broken, first = toy.train(toy.config(tmp_path, custom_hooks=death, **loading))
    assert broken.iter == after - 1
    torch.manual_seed(99)  # whatever happened in between
    last = str(tmp_path / f"iter_{after}.pth")
    cfg = toy.config(tmp_path, resume=True, load_from=last, **loading)
    runner, second = toy.train(cfg)
    whole, diary = undisturbed
    assert toy.state(runner) == toy.state(whole)
    assert first.batches + second.batches == diary.batches
    assert first.rates + second.rates == diary.rates
    assert first.validated + second.validated == diary.validated == [10, 15]


def test_a_number_of_iterations_ends_in_an_epoch(undisturbed, tmp_path):
    length = {"train_cfg.max_iters": 13, "train_cfg.max_epochs": 0}
    cfg = toy.config(tmp_path, **length)
    runner, diary = toy.train(cfg)
    assert diary.batches == undisturbed[1].batches[:13] and diary.validated == [10, 13]
    last = {"resume": True, "load_from": str(tmp_path / "iter_13.pth")}
    again, nothing = toy.train(toy.config(tmp_path, **length, **last))
    assert nothing.batches == [] and nothing.validated == [13]
    assert toy.state(again) == toy.state(runner)


# ---- is it that run's checkpoint -----------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with iter_14.pth and iter_15.pth of the toy."""
    cfg = toy.config(tmp_path_factory.mktemp("checkpoints"))
    toy.train(cfg)
    return Path(cfg.work_dir), config_text(cfg)


def copy(folder, target):
    for path in folder.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())


def test_the_last_checkpoint_is_found_in_a_folder_that_was_moved(checkpoints, tmp_path):
    folder, text = checkpoints
    copy(folder, tmp_path)
    found = checkpoint_to_resume(tmp_path, "last_checkpoint", text, 1)
    assert found == tmp_path / "iter_15.pth"
    assert checkpoint_to_resume(tmp_path / "none", "last_checkpoint", text, 1) is None


def test_another_config_is_refused_by_name(checkpoints):
    folder, text = checkpoints
    other = json.loads(text)
    other["optim_wrapper"]["optimizer"]["lr"] = 0.2
    other["param_scheduler"][1]["gamma"] = 0.3
    other["new"] = [1, 2]
    with pytest.raises(ValueError, match="of another config; set these back") as error:
        checkpoint_to_resume(folder, "last_checkpoint", json.dumps(other), 1)
    assert error.value.args[0].splitlines()[1:] == [
        "  new: nothing in the checkpoint, [1, 2] now",
        "  optim_wrapper.optimizer.lr: 0.1 in the checkpoint, 0.2 now",
        "  param_scheduler.1.gamma: 0.5 in the checkpoint, 0.3 now",
    ]


def test_circumstances_are_no_part_of_a_config():
    there, here = toy.config("a"), toy.config("b", log_level="INFO")
    here.default_hooks.checkpoint.interval = 7
    here.train_dataloader.num_workers = 4
    here.train_dataloader.persistent_workers = True
    assert differences(json.loads(config_text(there)), json.loads(config_text(here))) == []
    here.train_dataloader.batch_size = 5
    assert differences(json.loads(config_text(there)), json.loads(config_text(here)))


@pytest.mark.parametrize("name", ["detector.pth", "best_coco_box_ap.pth"])
def test_weights_alone_are_not_continued_from(checkpoints, tmp_path, name):
    """mmengine would go on from them with a fresh optimizer and schedule, and not say so."""
    folder, text = checkpoints
    copy(folder, tmp_path)
    content = torch.load(tmp_path / "iter_15.pth", weights_only=True)
    torch.save({k: content[k] for k in ("meta", "state_dict", "message_hub")}, tmp_path / name)
    with pytest.raises(ValueError, match=r"without the optimizer's state; .*iter_15\.pth is whole"):
        checkpoint_to_resume(tmp_path, str(tmp_path / name), text, 1)


def test_another_number_of_processes_is_refused(checkpoints):
    folder, text = checkpoints
    with pytest.raises(ValueError, match=r"written by 1 processes, this run has 2, .* start 1"):
        checkpoint_to_resume(folder, "last_checkpoint", text, 2)


@pytest.mark.parametrize("fault", ["truncated", "a bit", "empty", "text", "gone"])
def test_a_damaged_checkpoint_is_named_with_the_one_to_continue_from(checkpoints, tmp_path, fault):
    folder, text = checkpoints
    copy(folder, tmp_path)
    last = tmp_path / "iter_15.pth"
    whole = last.read_bytes()
    place = len(whole) // 2
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    if fault == "gone":
        last.unlink()
    else:
        new = {"truncated": whole[:-300], "a bit": flipped, "empty": b"", "text": b"PK no"}[fault]
        last.write_bytes(new)
    kind = FileNotFoundError if fault == "gone" else ValueError
    with pytest.raises(
        kind, match=r"iter_15\.pth.*; .*iter_14\.pth is whole \(iteration 14\)"
    ) as e:
        checkpoint_to_resume(tmp_path, "last_checkpoint", text, 1)
    path = str(e.value).rsplit("--resume ", 1)[1]
    assert checkpoint_to_resume(tmp_path, path, text, 1) == tmp_path / "iter_14.pth"


def test_a_checkpoint_that_would_run_code_is_refused(checkpoints, tmp_path):
    text = checkpoints[1]

    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"meta": {"iter": Payload()}}, tmp_path / "iter_3.pth")
    with pytest.raises(ValueError, match="only tensors and plain values are read"):
        checkpoint_to_resume(tmp_path, str(tmp_path / "iter_3.pth"), text, 1)
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_of_another_program_is_refused(checkpoints, tmp_path):
    torch.save({"meta": {"iter": 3}}, tmp_path / "iter_3.pth")
    with pytest.raises(ValueError, match="does not say config_text, world_size"):
        checkpoint_to_resume(tmp_path, str(tmp_path / "iter_3.pth"), checkpoints[1], 1)


# ---- which one is the newest, and what may be said of it -----------------------------------------


def saved_at(folder, **iterations):
    """Checkpoints by name without ending; later iterations with the older file times."""
    for name, iteration in iterations.items():
        meta = {"iter": iteration, "world_size": 1, "config_text": "{}"}
        path = folder / f"{name}.pth"
        torch.save({"meta": meta, "state_dict": {"a": torch.ones(3)}}, path)
        os.utime(path, (1e9 - iteration, 1e9 - iteration))


def damage(path):
    path.write_bytes(path.read_bytes()[:-40])


def forbid(monkeypatch, path):
    """As for a user who may not read the file; root may read all."""
    real = Path.open

    def open_(self, mode="r", *args, **kwargs):
        if self == path and "r" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_)


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


def test_a_record_that_cannot_be_read_is_named_with_what_to_do(tmp_path):
    """The advice works: with a checkpoint to end from, without one, of a newer code."""
    record = tmp_path / "record.json"
    record.write_text('{"kind": "pre')
    with pytest.raises(ValueError, match=r"not a JSON file .*; start anew in another --work-dir$"):
        refuse_another(record, "{}")
    saved_at(tmp_path, epoch_1=3)
    with pytest.raises(ValueError, match=f"not a JSON file .*anew .*: mv {record} {record}.damage"):
        refuse_another(record, "{}")
    record.write_text('{"schema_version": 99}')
    with pytest.raises(ValueError, match=r"newer than .*; update loco-transfer$"):
        refuse_another(record, "{}")


def test_a_record_with_an_older_hash_is_of_its_checkpoints_run(tmp_path):
    """Before the images' fingerprint stood in the config, the checkpoint had it beside."""
    make_record(config_hash="0" * 64).write(tmp_path)
    meta = {"iter": 3, "world_size": 1, "config_text": '{"seed": 0, "data_root": "there"}'}
    meta["provenance"] = {"dataset_fingerprint": "f" * 64}
    torch.save({"meta": meta}, tmp_path / "epoch_1.pth")
    now = {"seed": 0, "data_root": "here", "dataset": {"fingerprint": "f" * 64}}
    refuse_another(tmp_path / "record.json", json.dumps(now))
    assert checkpoint_to_resume(tmp_path, "last_checkpoint", json.dumps(now), 1)
    now["dataset"]["fingerprint"] = "e" * 64
    with pytest.raises(ValueError, match=r"another config; .*\n  dataset\.fingerprint: f"):
        refuse_another(tmp_path / "record.json", json.dumps(now))
