"""Checkpoints from strangers: nothing in them is run or unpacked without end."""

import pickle
import zipfile

import pytest
import torch

from pretrain.encoders import build_encoder
from pretrain.engine.resume import checkpoint_to_resume
from pretrain.engine.run_folder import LAST, read_meta
from pretrain.engine.stored_tensors import read_stored
from pretrain.export import export_checkpoint, import_torchvision
from tests.reliability.mutations import Payload


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("read", [read_stored, export_checkpoint, import_torchvision])
def test_a_payload_in_a_checkpoint_is_never_run(tmp_path, read, old):
    made, file = tmp_path / "made", tmp_path / "epoch_1.pth"
    content = {"meta": {"provenance": Payload(made)}, "state_dict": {}}
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    more = {
        read_stored: (), export_checkpoint: (tmp_path / "x",),
        import_torchvision: ("resnet_tiny", tmp_path / "x"),
    }[read]  # fmt: skip
    with pytest.raises(ValueError, match=r"epoch_1\.pth holds a posix\.mkdir, and only tensors"):
        read(file, *more)
    assert not made.exists()
    with pytest.raises(FileExistsError):  # the payload itself works: it is run here
        made.mkdir()
        pickle.loads(pickle.dumps(Payload(made)))


def test_a_packed_checkpoint_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as source, zipfile.ZipFile(
        tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED
    ) as bomb:  # fmt: skip
        for name in source.namelist():
            bomb.writestr(name, source.read(name) if "data/" not in name else bytes(64 << 20))
    assert (tmp_path / "bomb.pth").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="its entries are packed"):
        read_stored(tmp_path / "bomb.pth")


def test_values_that_hold_each_other_are_counted_not_printed(tmp_path):
    laughs = ["ha"] * 10
    for _ in range(30):
        laughs = [laughs] * 10  # 10^31 of them, in some KiB
    knot = {}
    knot["knot"] = knot
    for content in ({"meta": laughs}, knot):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match="holds itself, or more than"):
            read_stored(tmp_path / "a.pth")


def test_a_payload_in_what_a_run_resumes_from_is_not_run(tmp_path):
    meta = {"iter": 1, "world_size": 1, "config_text": Payload(tmp_path / "made")}
    torch.save({"meta": meta}, tmp_path / "epoch_1.pth")
    (tmp_path / LAST).write_text("epoch_1.pth")
    with pytest.raises(ValueError, match=r"epoch_1\.pth holds a posix\.mkdir"):
        checkpoint_to_resume(tmp_path, LAST, "{}", 1)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config_text": "{"}, "carries a config that is no JSON"),
        ({"config_text": "[" * 100_000}, "carries a config that is no JSON"),
        ({"config_text": "[]"}, "carries a list, expected a config"),
        ({"world_size": "1"}, "does not say world_size"),
        ({"iter": None}, "does not say iter"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_checked(tmp_path, changes, message):
    meta = {"iter": 1, "world_size": 1, "config_text": "{}"} | changes
    torch.save({"meta": meta}, tmp_path / "epoch_1.pth")
    (tmp_path / LAST).write_text("epoch_1.pth")
    with pytest.raises(ValueError, match=message):
        checkpoint_to_resume(tmp_path, LAST, "{}", 1)


def test_a_packed_checkpoint_is_refused_before_its_checksums(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(64 << 20))
    with pytest.raises(ValueError, match="its entries are packed"):
        read_meta(tmp_path / "a.pth")


def test_every_encoder_of_a_stranger_is_known_or_refused(tmp_path):
    torch.save({"meta": {"provenance": {"encoder": "os.system"}}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: provenance with other keys than ours"):
        export_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="unknown encoder"):
        build_encoder("os.system")
