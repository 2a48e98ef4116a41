"""A run goes on from its own checkpoints alone, and never over another's results."""

import json
from pathlib import Path

import pytest
import torch

from pretrain.engine.resume import checkpoint_to_resume, refuse_another
from pretrain.engine.same_config import config_text
from tests.helpers import toy_training as toy
from tests.helpers.run_records import make_record


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


def test_a_record_that_cannot_be_read_is_named_with_what_to_do(tmp_path):
    """The advice works: with a checkpoint to end from, without one, of a newer code."""
    record = tmp_path / "record.json"
    record.write_text('{"kind": "pre')
    with pytest.raises(ValueError, match=r"not a JSON file .*; start anew in another --work-dir$"):
        refuse_another(record, "{}")
    meta = {"iter": 3, "world_size": 1, "config_text": "{}"}
    torch.save({"meta": meta}, tmp_path / "epoch_1.pth")
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
