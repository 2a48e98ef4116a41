"""The backbone file: exact, strict, and readable by others."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50

from pretrain.backbone_file import (
    IMAGENET_MEAN,
    Provenance,
    load_backbone,
    read_provenance,
    write_backbone,
)
from pretrain.encoders import build_encoder
from results.record.protocol import SUPERVISED
from tests.helpers.provenance import provenance


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "backbone.safetensors"
    torch.manual_seed(0)
    write_backbone(build_encoder("resnet_tiny"), path, provenance())
    return path


def rewrite(path, change):
    """Save the file again with changed tensors and the same metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def test_round_trip(file):
    torch.manual_seed(0)
    expected = build_encoder("resnet_tiny").state_dict()
    torch.manual_seed(1)
    encoder = build_encoder("resnet_tiny")
    found = load_backbone(encoder, file)
    assert all(torch.equal(v, expected[k]) for k, v in encoder.state_dict().items())
    assert (found.method, found.epochs, found.seed) == ("loco", 3, 7)
    assert found.mean == IMAGENET_MEAN and len(found.weights_sha256) == 64
    assert read_provenance(file) == found


def test_a_file_of_format_version_1_says_nothing_of_settings(file):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    del metadata["settings"]
    tensors = load_file(file)
    save_file(tensors, file, metadata | {"format_version": "1"})
    assert read_provenance(file).settings == {}
    load_backbone(build_encoder("resnet_tiny"), file)
    save_file(tensors, file, metadata | {"format_version": "4"})
    with pytest.raises(ValueError, match="settings missing"):
        read_provenance(file)
    save_file(tensors, file, metadata | {"format_version": "4", "settings": "{}"})
    with pytest.raises(ValueError, match=r"version 4; this release reads .* up to version 3"):
        read_provenance(file)


@pytest.mark.slow
def test_torchvision_takes_it_as_it_is(tmp_path):
    encoder = build_encoder("resnet50")
    write_backbone(encoder, tmp_path / "b.safetensors", provenance("resnet50"))
    model = resnet50()
    fc = {k: v for k, v in model.state_dict().items() if k.startswith("fc.")}
    model.load_state_dict({**load_file(tmp_path / "b.safetensors"), **fc})
    assert torch.equal(model.layer2[1].conv3.weight, encoder.layer2[1].conv3.weight)


def test_a_file_that_only_says_so_is_not_supervised(tmp_path, monkeypatch):
    """Nor one of an earlier version, which asked nobody."""
    path = tmp_path / "b.safetensors"
    encoder = build_encoder("resnet_tiny")
    says = Provenance.from_elsewhere("supervised", "resnet_tiny", dataset="imagenet1k")
    write_backbone(encoder, path, says)
    again = r"`python -m pretrain\.export torchvision resnet50-19c8e357\.pth --out"
    for digest in ("", "5" * 64):
        write_backbone(encoder, path, replace(says, source_sha256=digest))
        for read in (read_provenance, lambda path: load_backbone(encoder, path)):
            with pytest.raises(ValueError, match=f"not that it was made from a file .*{again}"):
                read(path)
    monkeypatch.setitem(SUPERVISED, "resnet_tiny", "55555555")
    assert read_provenance(path).source_sha256 == "5" * 64


def test_every_wrong_tensor_is_listed_and_nothing_is_loaded(file):
    def change(tensors):
        tensors["layer1.0.conv1.weights"] = tensors.pop("layer1.0.conv1.weight")
        tensors["bn1.bias"] = tensors["bn1.bias"][:3].clone()

    rewrite(file, change)
    encoder = build_encoder("resnet_tiny")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_backbone(encoder, file)
    text = str(error.value)
    assert "missing: layer1.0.conv1.weight" in text
    assert "unexpected: layer1.0.conv1.weights" in text
    assert "shape of bn1.bias: found (3,), expected (16,)" in text
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_changed_weights_are_noticed(file):
    rewrite(file, lambda tensors: tensors["bn1.bias"].add_(1))
    with pytest.raises(ValueError, match="sha256 differs"):
        load_backbone(build_encoder("resnet_tiny"), file)


def test_another_encoder_is_refused(file):
    with pytest.raises(ValueError, match=r"holds the weights of resnet_tiny, .* asks for resnet50"):
        load_backbone(build_encoder("resnet50"), file)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="cut short"):
        load_backbone(build_encoder("resnet_tiny"), file)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="without provenance"):
        read_provenance(tmp_path / "a.safetensors")


def test_a_missing_file_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tools/pretrain\.sh CONFIG") as error:
        read_provenance(tmp_path / "none.safetensors")
    assert "--" not in str(error.value)  # readers name it by options of their own


@pytest.mark.parametrize(
    "name_and_value",
    [
        ("dataset", "x" * 4097),
        ("deviations", ("x" * 4097,)),
        ("deviations", ("x",) * 101),
        ("settings", {"a": [1] * 1001}),
        ("settings", {"a": [[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]}),
        ("settings", {"x" * 4097: 1}),
    ],
)
def test_what_no_run_record_could_hold_is_refused_at_the_start_of_a_transfer(file, name_and_value):
    name, value = name_and_value
    with pytest.raises(ValueError, match=f"{name} in its provenance is"):
        Provenance.of(vars(provenance()) | {name: value}, file)
