"""Frozen features: what they are, the files that keep them, and labelled images."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder
from pretrain.images.decode import UnreadableImage
from pretrain.images.labelled_images import LabelledImages, centre_crop, decode_once
from pretrain.readout import features, stage_features
from pretrain.readout.frozen_encoder import FrozenEncoder, chosen_stages, write_random_backbone
from pretrain.readout.stage_features import MANIFEST, StageFeatures
from results.figures.tsne import read_features
from tests.helpers.labelled import COLOURS, SIDE, write_colours


def cached(colours, backbone, folder, split="val", **changes):
    given = {"image_size": SIDE, "resize": SIDE, "batch_size": 5} | changes
    return StageFeatures(str(colours), split, str(backbone), str(folder), **given)


# ---- the frozen encoder


def test_features_are_global_averages_of_every_stage(backbone):
    """Worked out apart: normalise, run the encoder in eval mode, average over the pixels."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    frozen = FrozenEncoder(str(backbone))
    found = frozen({"image": images, "label": torch.zeros(3)})["features"]
    encoder = build_encoder("resnet_tiny").eval()
    load_backbone(encoder, backbone)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images.permute(0, 2, 3, 1) / 255 - mean) / std
    maps = encoder(normalised.permute(0, 3, 1, 2))
    assert list(found) == ["res2", "res3", "res4", "res5"]
    for pooled, stage in zip(found.values(), maps, strict=True):
        assert not pooled.requires_grad
        expected = stage.flatten(2).sum(dim=2) / stage[0, 0].numel()
        assert torch.allclose(pooled, expected, atol=1e-5)


def test_presnet_has_six_stages(tmp_path):
    write_random_backbone("presnet_tiny", 0, tmp_path / "b.safetensors")
    assert list(FrozenEncoder(str(tmp_path / "b.safetensors")).channels) == [
        "res2", "res3", "res4", "res5", "res6", "res7",
    ]  # fmt: skip


def test_stages_are_chosen_by_name_in_the_encoder_s_order():
    encoder = build_encoder("resnet_tiny")
    assert chosen_stages(encoder, "last") == ("res5",)
    assert chosen_stages(encoder, ["res4", "res2"]) == ("res2", "res4")
    assert chosen_stages(encoder, "res3") == ("res3",)
    for wrong in ("res6", []):
        with pytest.raises(ValueError, match="resnet_tiny has res2, res3, res4, res5"):
            chosen_stages(encoder, wrong)


def test_random_weights_follow_the_seed_and_leave_the_generator_alone(tmp_path):
    torch.manual_seed(5)
    first = write_random_backbone("resnet_tiny", 1, tmp_path / "a.safetensors").weights_sha256
    drawn = torch.rand(1)
    assert first == write_random_backbone("resnet_tiny", 1, tmp_path / "b").weights_sha256
    assert first != write_random_backbone("resnet_tiny", 2, tmp_path / "c").weights_sha256
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


# ---- cached features


def test_cached_features_are_those_of_the_images_bit_for_bit(colours, backbone, tmp_path):
    found = cached(colours, backbone, tmp_path)
    images = LabelledImages(str(colours), "val", SIDE, SIDE)
    frozen = FrozenEncoder(str(backbone))
    batches = [frozen(batch) for batch in DataLoader(images, batch_size=5)]
    for stage in found.stages:
        fresh = torch.cat([batch["features"][stage] for batch in batches]).numpy()
        assert (found.arrays[stage] == fresh).all() and found.arrays[stage].dtype == np.float32
    assert found.labels.tolist() == torch.cat([batch["label"] for batch in batches]).tolist()
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and found.classes == tuple(COLOURS)


def test_a_batch_is_the_samples_of_its_keys(colours, backbone, tmp_path):
    found = cached(colours, backbone, tmp_path)
    batch = found.__getitems__([3, 0, 12 + 7])  # the last one's epoch is 1
    for row, index in enumerate((3, 0, 7)):
        assert batch["label"][row] == found.labels[index]
        for stage, values in batch["features"].items():
            assert (values[row].numpy() == found.arrays[stage][index]).all()
            assert torch.equal(found[index]["features"][stage], values[row])


def test_features_are_computed_once_for_weights_images_and_crop(
    colours, backbone, tmp_path, monkeypatch
):
    folder, calls = tmp_path / "features", []
    compute = stage_features._compute
    monkeypatch.setattr(
        stage_features, "_compute", lambda *a: (calls.append(a[0].stages), compute(*a))
    )
    cached(colours, backbone, folder)
    cached(colours, backbone, folder)
    assert len(calls) == 1
    write_random_backbone("resnet_tiny", 7, tmp_path / "other.safetensors")
    cached(colours, tmp_path / "other.safetensors", folder)
    cached(colours, backbone, folder)
    cached(colours, backbone, folder, resize=SIDE + 4)
    cached(colours, backbone, folder, stages="last")
    assert len(calls) == 5
    (folder / MANIFEST).unlink()  # as a run leaves it that was killed before the end
    cached(colours, backbone, folder, stages="last")
    assert len(calls) == 6
    assert json.loads((folder / MANIFEST).read_text())["stages"] == ["res5"]


def test_a_disk_too_small_is_told_before_anything_is_written(
    colours, backbone, tmp_path, monkeypatch
):
    class Usage:
        free = 100

    monkeypatch.setattr(stage_features.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(ValueError, match=r"features of 12 images at res2, .* need 1 MiB.*has 0"):
        cached(colours, backbone, tmp_path / "features")
    assert not (tmp_path / "features").exists()


# ---- labelled images


def test_the_test_transform_is_torchvision_s(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / split / name / "1.png")
    found = LabelledImages(str(tmp_path), "val", image_size=28, resize=32)[1]
    image = v2.functional.pil_to_tensor(Image.fromarray(pixels))
    expected = v2.functional.center_crop(v2.functional.resize(image, [32], antialias=True), [28])
    assert torch.equal(found["image"], expected) and found["label"] == 1
    with pytest.raises(ValueError, match="crop of 33 px from images of 32 px"):
        centre_crop(33, 32)


def test_augmentation_follows_seed_epoch_and_image_alone(colours):
    images = LabelledImages(str(colours), "train", SIDE, SIDE, augment=True, seed=3)
    key = 36 * 2 + 5
    first = images[key]
    torch.manual_seed(1), np.random.seed(1)
    again = LabelledImages(str(colours), "train", SIDE, SIDE, augment=True, seed=3)[key]
    assert torch.equal(first["image"], again["image"]) and first["label"] == again["label"] == 0
    others = [
        images[5],
        images[key + 1],
        LabelledImages(str(colours), "train", SIDE, SIDE, True)[key],
    ]
    assert not any(torch.equal(first["image"], other["image"]) for other in others)
    assert first["image"].shape == (3, SIDE, SIDE) and first["image"].dtype == torch.uint8


def test_crops_cover_what_torchvision_s_do(tmp_path):
    """Mean and spread of the crops' places, flips too, read off an image of its own coordinates."""
    grid = np.stack(np.meshgrid(np.arange(64) * 4, np.arange(64) * 4, indexing="ij"), axis=-1)
    pixels = np.dstack([grid, np.zeros((64, 64))]).astype(np.uint8)
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "train" / "a" / "1.png")
    ours = LabelledImages(str(tmp_path), "train", 16, 16, augment=True)
    theirs = v2.Compose([v2.RandomResizedCrop(16, antialias=True), v2.RandomHorizontalFlip()])
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    torch.manual_seed(0)
    statistics = []
    for crops in ([ours[k]["image"] for k in range(600)], [theirs(image) for _ in range(600)]):
        crop = torch.stack(crops).double()
        slope = crop[:, 1, :, -1].mean(dim=1) - crop[:, 1, :, 0].mean(dim=1)  # < 0: flipped
        height = crop[:, 0, -1].mean(dim=1) - crop[:, 0, 0].mean(dim=1)
        statistics.append(
            [(slope < 0).double().mean() * 100, slope.abs().mean(), height.mean(),
             crop[:, 0].mean(), height.std()]
        )  # fmt: skip
    ours_found, theirs_found = np.array(statistics)
    np.testing.assert_allclose(ours_found, theirs_found, atol=8)


def test_a_broken_file_is_named(colours, tmp_path):
    root = write_colours(tmp_path / "broken", train=1, val=1)
    (root / "val/green/00.png").write_bytes(b"no image")
    images = LabelledImages(str(root), "val", SIDE, SIDE)
    with pytest.raises(ValueError, match=r"green/00.png cannot be decoded .*replace or remove"):
        images[1]


def spoil(root):
    """Broken in the middle only, which a header does not tell; a text; a strip."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(root / "val/blue/00.png")
    whole = (root / "val/blue/00.png").read_bytes()
    middle = len(whole) // 2
    cut = whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 99])
    (root / "val/blue/00.png").write_bytes(cut + whole[middle + 99 :])
    (root / "val/green/00.png").write_bytes(b"no image")
    Image.new("L", (1, 200)).save(root / "val/red/00.png")
    names = [re.escape(f"{root}/val/{colour}/00.png") for colour in ("blue", "green", "red")]
    return r"3 images cannot be decoded: {} \(.*\), {} \(.*\), {} \(1 x 200 pixels, a".format(
        *names
    )


def test_all_broken_files_are_named_before_they_are_needed(tmp_path):
    root = write_colours(tmp_path / "broken", train=1, val=1)
    images = LabelledImages(str(root), "val", SIDE, SIDE).images
    decode_once((images, range(3)), (images, range(3)))
    words = spoil(root)
    with pytest.raises(UnreadableImage, match=words):
        decode_once((images, range(3)))
    with pytest.raises(UnreadableImage, match=r"1 images cannot be decoded: .*/green/00\.png"):
        decode_once((images, [1]))
    (root / "val/red/00.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"red/00.png was listed, and has vanished since"):
        decode_once((images, range(3)))


# ---- the feature file


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["features", *map(str, arguments)])
    features.main()


def test_the_command_writes_what_the_t_sne_reads(colours, backbone, tmp_path, monkeypatch, capsys):
    out = tmp_path / "f.npz"
    sizes = ["--image-size", SIDE, "--resize", SIDE]
    call(
        monkeypatch, "--backbone", backbone, "--data", colours, "--out", out, "--classes", 2, *sizes
    )
    assert f"{out}: 8 images, 512 features each, from res5" in capsys.readouterr().out
    found = read_features(out)
    whole = cached(colours, backbone, tmp_path / "cache")
    np.testing.assert_allclose(found.features, whole.arrays["res5"][:8], rtol=1e-5, atol=1e-6)
    assert found.classes == ("blue",) * 4 + ("green",) * 4
    assert (found.title, found.encoder, found.stage) == ("Random Init", "resnet_tiny", "res5")
    with np.load(out, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_broken_images_end_in_one_line_before_any_is_embedded(backbone, tmp_path, monkeypatch):
    words = spoil(root := write_colours(tmp_path / "broken", train=1, val=1))
    monkeypatch.setattr(features, "embed", None)
    with pytest.raises(SystemExit, match=f"error: {words}"):
        call(monkeypatch, "--backbone", backbone, "--data", root, "--out", tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--classes", "1", "show no clusters"),
        ("--stage", "res9", "stages res9"),
        ("--data", "none", "no folder none/val"),
        ("--backbone", "none", "no backbone file at none"),
    ],
)
def test_mistakes_end_in_one_line(option, value, words, colours, backbone, tmp_path, monkeypatch):
    given = {"--backbone": backbone, "--data": colours, "--out": tmp_path / "f.npz"} | {
        option: value
    }
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        call(monkeypatch, *[part for pair in given.items() for part in pair])
    assert not (tmp_path / "f.npz").exists()
