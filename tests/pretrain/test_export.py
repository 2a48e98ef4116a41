"""The backbone file: exact, strict, and readable by others."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50

from pretrain.encoders import build_encoder
from pretrain.export import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Provenance,
    export_checkpoint,
    import_torchvision,
    load_backbone,
    read_provenance,
    write_backbone,
)
from results.record.protocol import SUPERVISED
from results.tables.backbone import backbone_deviations


def provenance(encoder="resnet_tiny", method="loco"):
    return Provenance(
        method=method, encoder=encoder, epochs=3, dataset="drawn", dataset_fingerprint="f" * 64,
        deviations=(), config_hash="c" * 64, git_commit="abc", seed=7,
        mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip


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


def test_torchvision_takes_it_as_it_is(tmp_path):
    encoder = build_encoder("resnet50")
    write_backbone(encoder, tmp_path / "b.safetensors", provenance("resnet50"))
    model = resnet50()
    fc = {k: v for k, v in model.state_dict().items() if k.startswith("fc.")}
    model.load_state_dict({**load_file(tmp_path / "b.safetensors"), **fc})
    assert torch.equal(model.layer2[1].conv3.weight, encoder.layer2[1].conv3.weight)


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
    run = {"method": "loco", "encoder": "resnet50", "backbone": backbone}
    assert backbone_deviations(run) == tuple(f"backbone: {text}" for text in deviations)


@pytest.mark.parametrize("text", ["{}", "[", "[]", '{"train_cfg": {"max_epochs": "800"}}'])
def test_a_checkpoint_of_a_run_of_unknown_length_is_refused(tmp_path, text):
    says = {k: v for k, v in vars(provenance()).items() if k != "weights_sha256"}
    torch.save({"meta": {"provenance": says, "config_text": text}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth.* its run was to have"):
        export_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")


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
