"""Backbone files out of checkpoints and of torchvision's weights."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from torchvision.models import resnet50

from pretrain.backbone_file import (
    load_backbone,
    read_provenance,
)
from pretrain.encoders import build_encoder
from pretrain.export import export_checkpoint, import_torchvision
from results.record.protocol import SUPERVISED
from results.tables.backbone import backbone_deviations
from tests.helpers.provenance import provenance


@pytest.mark.slow
@pytest.mark.parametrize("old", [True, False])
def test_torchvisions_supervised_weights_come_in(tmp_path, old, monkeypatch):
    tensors = resnet50().state_dict()
    if old:  # resnet50-19c8e357.pth is from before num_batches_tracked
        tensors = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "resnet50.pth")
    digest = hashlib.sha256((tmp_path / "resnet50.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(SUPERVISED, "resnet50", digest[:8])
    import_torchvision(tmp_path / "resnet50.pth", "resnet50", tmp_path / "b.safetensors")
    assert read_provenance(tmp_path / "b.safetensors").source_sha256 == digest
    encoder = build_encoder("resnet50")
    assert load_backbone(encoder, tmp_path / "b.safetensors").method == "supervised"
    assert torch.equal(encoder.layer3[5].conv2.weight, tensors["layer3.5.conv2.weight"])


def test_no_other_weights_become_supervised(tmp_path, monkeypatch):
    """torch.hub's rule: the digits in a published name begin the sha256 of the file."""
    assert SUPERVISED == {"resnet50": "19c8e357"}  # resnet50-19c8e357.pth
    source, out = tmp_path / "resnet50-19c8e357.pth", tmp_path / "b.safetensors"
    torch.save(resnet50().state_dict(), source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for encoder in ("resnet50", "resnet_tiny"):
        with pytest.raises(ValueError) as error:
            import_torchvision(source, encoder, out)
        assert str(error.value) == (
            f"{source} has sha256 {digest[:8]}... and is to be weights of {encoder}; only "
            "torchvision's resnet50-19c8e357.pth, with that sha256, may be called supervised"
        )
    monkeypatch.setitem(SUPERVISED, "resnet_tiny", digest[:8])
    with pytest.raises(ValueError, match=r"tensors in .* are not this encoder's"):
        import_torchvision(source, "resnet_tiny", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("epochs", "planned", "deviations"),
    [
        (100, 800, ("100 of 800 epochs, learning rate not decayed",)),
        (0, 3, ("0 of 3 epochs, learning rate not decayed",)),  # iter_N.pth of the first
        (799, 800, ("799 of 800 epochs, learning rate not decayed",)),
        (100, 100, ()),
    ],
)
def test_a_checkpoint_from_the_middle_of_a_run_is_no_shorter_run(
    tmp_path, epochs, planned, deviations
):
    """Also one of an earlier version, which did not say so itself; nor does it fill a cell."""
    encoder = build_encoder("resnet_tiny")
    says = {k: v for k, v in vars(provenance()).items() if k not in ("weights_sha256",)}
    says |= {"epochs": epochs, "dataset": "imagenet1k"}
    text = json.dumps({"train_cfg": {"max_epochs": planned}})
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    old = {k: v for k, v in says.items() if k != "source_sha256"} | {"format_version": 2}
    for stored in (says, old):
        meta = {"provenance": stored, "config_text": text}
        torch.save({"meta": meta, "state_dict": state}, tmp_path / "a.pth")
        export_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
        found = load_backbone(build_encoder("resnet_tiny"), tmp_path / "b.safetensors")
        assert (found.epochs, found.deviations) == (epochs, deviations)
    backbone = {"provenance": vars(found) | {"deviations": list(found.deviations)}}
    run = SimpleNamespace(method="loco", encoder="resnet50", backbone=backbone)
    assert backbone_deviations(run) == tuple(f"backbone: {text}" for text in deviations)


@pytest.mark.parametrize("text", ["{}", "[", "[]", '{"train_cfg": {"max_epochs": "800"}}'])
def test_a_checkpoint_of_a_run_of_unknown_length_is_refused(tmp_path, text):
    says = {k: v for k, v in vars(provenance()).items() if k != "weights_sha256"}
    torch.save({"meta": {"provenance": says, "config_text": text}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth.* its run was to have"):
        export_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
