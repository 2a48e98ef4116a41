"""A file of another kind or program is called by its name, by every command that reads one."""

import argparse
import re
import zipfile
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from safetensors.torch import save_file

from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.file_kinds import other_kind
from pretrain.engine.resume import checkpoint_to_resume
from pretrain.engine.run_folder import read_meta
from pretrain.engine.stored_tensors import read_stored
from pretrain.export import export_checkpoint, import_torchvision
from tests.helpers import toy_training

TENSORS = {"a": torch.zeros(20)}
TAKEN_OFF = {"meta": {"mmengine_version": "0.10.7"}, "state_dict": TENSORS}  # as when published
MMDET2 = {"meta": {"mmdet_version": "2.28.2", "buffer": HistoryBuffer()}, "state_dict": TENSORS}


def stock_mmengine(path):
    """As stock mmengine saves in the middle of a run, its log buffers with it."""
    cfg = toy_training.config(path.parent / "stock", custom_hooks=[], default_scope="mmengine")
    cfg.default_hooks.checkpoint = {"type": "CheckpointHook"}
    cfg.experiment_name = f"kinds{next(toy_training.COUNT)}"
    cfg.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 1}
    runner = Runner.from_cfg(cfg)
    runner.train()
    (path.parent / "stock" / "epoch_1.pth").rename(path)


def saved(content, old=False):
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=not old)


def text(words):
    return lambda path: path.write_bytes(words)


def zip_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/readme.txt", "hello")


def torch_script(path):
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), path)


KINDS = {  # what is made, and what every reader calls it
    "stock mmengine": (
        stock_mmengine,
        f"a checkpoint of mmengine {re.escape(mmengine.__version__)} that this project",
    ),
    "mmdetection 2": (saved(MMDET2), r"a checkpoint of mmdetection 2\.28\.2 that this project"),
    "old format": (saved(MMDET2, True), r"a checkpoint of mmdetection 2\.28\.2 that this project"),
    "text": (text(b"version https://git-lfs.github.com/spec/v1\n"), "a text that begins with 'ver"),
    "page": (text(b"<html>\x1b[1m"), "of an unknown kind"),
    "json": (text(b'{      "a": 1}'), "a text that begins with '{  "),
    "empty": (text(b""), "an empty file"),
    "zip": (zip_archive, "a zip archive that torch.save did not write"),
    "TorchScript": (torch_script, "a TorchScript archive"),
}


def evaluated(path):
    from transfer.stored_detector import check_config

    check_config(path, None)


READERS = {
    "read": read_stored,
    "export": lambda path: export_checkpoint(path, path.parent / "out"),
    "torchvision": lambda path: import_torchvision(path, "resnet_tiny", path.parent / "out"),
    "resume": lambda path: checkpoint_to_resume(path.parent, str(path), "{}", 1),
    "evaluate": evaluated,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of every kind, under the name that a checkpoint would have."""
    made = {}
    for kind, (make, _) in KINDS.items():
        made[kind] = tmp_path_factory.mktemp("kind") / "epoch_1.pth"
        make(made[kind])
    return made


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_called_by_its_name(files, kind, reader):
    with pytest.raises(ValueError) as error:
        READERS[reader](files[kind])
    message = str(error.value)
    assert message.startswith(f"{files[kind]} is ") and "copy it again" not in message
    assert re.search(KINDS[kind][1], message), message
    assert message.isprintable()  # no escape codes of torch's


@pytest.mark.parametrize("reader", ["export", "resume", "evaluate"])
def test_plain_tensors_of_others_are_no_checkpoint_of_ours(tmp_path, reader):
    path = tmp_path / "epoch_1.pth"
    for content, words in (
        (TAKEN_OFF, "is a checkpoint of mmengine 0.10.7 that this project did not write"),
        (TENSORS, "is no checkpoint that this project wrote"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError) as error:
            READERS[reader](path)
        assert str(error.value).startswith(f"{path} {words}"), error.value


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),  # a whole model
        ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    ],
)
def test_what_is_refused_in_a_file_is_named(tmp_path, content, name):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError) as error:
        read_stored(tmp_path / "a.pth")
    assert str(error.value) == (
        f"{tmp_path}/a.pth holds a {name}, and only tensors and plain values are read, so that "
        "nothing in a file is run"
    )


def test_safetensors_and_checkpoints_in_each_others_place(tmp_path):
    save_file(TENSORS, tmp_path / "epoch_1.pth")
    for read in READERS.values():
        with pytest.raises(ValueError, match=r"epoch_1\.pth is a safetensors file; expected "):
            read(tmp_path / "epoch_1.pth")
    saved(TENSORS)(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"is a file of torch\.save; .* pretrain\.export checkp"):
        load_backbone(build_encoder("resnet_tiny"), tmp_path / "b.safetensors")
    text(b"version https://git-lfs")(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="a text that begins with 'version https://git-lfs'"):
        load_backbone(build_encoder("resnet_tiny"), tmp_path / "b.safetensors")


@pytest.mark.parametrize("old", [False, True])
def test_a_file_that_is_cut_short_is_damaged_and_nothing_else(tmp_path, old):
    path = tmp_path / "a.pth"
    saved({"a": torch.zeros(1000)}, old)(path)
    whole = path.read_bytes()
    for length in (len(whole) - 300, len(whole) // 2, 100):
        path.write_bytes(whole[:length])
        assert other_kind(path) is None
        with pytest.raises(ValueError, match=r"a\.pth is damaged \(.*\); copy it again") as error:
            read_stored(path)
        assert str(error.value).isprintable()


def test_our_own_checkpoint_of_another_training_is_not_called_anothers(tmp_path):
    meta = {"iter": 1, "world_size": 1, "config_text": "{}", "mmengine_version": "0.10.7"}
    torch.save({"meta": meta, "state_dict": {}}, tmp_path / "epoch_1.pth")
    assert read_meta(Path(tmp_path / "epoch_1.pth")) == meta
    with pytest.raises(ValueError, match=r"is a checkpoint of another training: it carries no "):
        export_checkpoint(tmp_path / "epoch_1.pth", tmp_path / "b.safetensors")
