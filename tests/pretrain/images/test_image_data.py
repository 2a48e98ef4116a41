"""Lists of images, odd and broken files, decoding at a reduced scale, and samples by their keys."""

import errno
import hashlib
import logging
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pretrain.images.augment import View
from pretrain.images.colour import Colour
from pretrain.images.decode import UnreadableImage, decode, open_image, reduction
from pretrain.images.image_lists import ImageList, fingerprint, list_images
from pretrain.images.two_views import TwoViewImages
from pretrain.images.unreadable import UnreadableImages
from pretrain.model import TwoViewPreprocessor


def photograph(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    """Smooth, as photographs are, so that a JPEG keeps it to a few levels."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (20 + seed) + c) * np.cos(y / 25 - c) for c in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def folder(root: Path, images: int = 6) -> Path:
    root.mkdir(exist_ok=True)
    for number in range(images):
        photograph(seed=number).save(root / f"{number}.jpg", quality=95)
    return root


def dataset(root: Path, **options) -> TwoViewImages:
    return TwoViewImages(str(root), "x", {"size": 16}, **options)


# --- lists ---


def test_class_folders_a_flat_folder_and_a_list_hold_the_same(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/two words.JPEG", "b/1.png", "a.webp", "notes.md"):
        (tmp_path / name).write_bytes(b"12345")
    names = ["a.webp", "b/1.png", "b/two words.JPEG"]
    assert list_images(tmp_path) == (names, "1 of other kinds (.md)")
    lines = tmp_path / "some.txt"
    lines.write_text(f"# the blue ones\nb/two words.JPEG\n\n  {tmp_path / 'a.webp'}\n")
    assert list_images(lines) == (["b/two words.JPEG", str(tmp_path / "a.webp")], "")
    listed = ImageList.read(lines)
    assert [listed.path(k).read_bytes() for k in range(2)] == [b"12345"] * 2
    assert "2 images" in listed.describe() and listed.fingerprint in listed.describe()


def test_the_fingerprint_is_sha256_of_names_and_sizes(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/ü.jpg").write_bytes(b"123")
    (tmp_path / "a.jpg").write_bytes(b"")
    expected = hashlib.sha256("a.jpg\0000\nb/ü.jpg\0003\n".encode()).hexdigest()
    assert ImageList.read(tmp_path).fingerprint == expected
    assert fingerprint(tmp_path, ["a.jpg", "b/ü.jpg"]) == expected
    (tmp_path / "a.jpg").write_bytes(b"1")
    assert ImageList.read(tmp_path).fingerprint != expected


def test_names_that_are_not_utf8(tmp_path):
    name = b"caf\xe9.jpg"
    (tmp_path / os.fsdecode(name)).write_bytes(b"1")
    listed = ImageList.read(tmp_path)
    assert listed.fingerprint == hashlib.sha256(name + b"\x001\n").hexdigest()
    assert listed.path(0).is_file()


def test_linked_folders_are_entered_once(tmp_path):
    elsewhere = folder(tmp_path / "elsewhere", images=2)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/class").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(tmp_path / "data")
    assert list_images(tmp_path / "data")[0] == ["class/0.jpg", "class/1.jpg"]


@pytest.mark.parametrize(
    ("lines", "error", "words"),
    [
        ("0.jpg\n1.jpg 3\n", FileNotFoundError, "1 of 2 images are not there: 1.jpg 3, "),
        ("0.jpg\n1.jpg\n0.jpg\n", ValueError, "names 1 images more than once, such as 0.jpg"),
        ("# nothing\n\n", FileNotFoundError, "holds no image; expected the path of one on every"),
    ],
)  # fmt: skip
def test_bad_lists_are_named(tmp_path, lines, error, words):
    (folder(tmp_path) / "list.txt").write_text(lines)
    with pytest.raises(error, match=words):
        ImageList.read(tmp_path / "list.txt")


def test_dangling_links_and_other_files_are_refused(tmp_path):
    (folder(tmp_path) / "7.jpg").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"1 of 7 images are not there: 7.jpg"):
        ImageList.read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"or a \.txt file that lists images"):
        ImageList.read(tmp_path / "0.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="another user than root")
def test_files_and_folders_that_may_not_be_read(tmp_path):
    (folder(tmp_path / "a") / "0.jpg").chmod(0)
    with pytest.raises(ValueError, match="1 of 6 images may not be read"):
        ImageList.read(tmp_path)
    (tmp_path / "a").chmod(0)
    with pytest.raises(ValueError, match=r"a may not be read"):
        ImageList.read(tmp_path)
    (tmp_path / "a").chmod(0o700)


# --- decoding ---


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return decode(image)


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def test_odd_formats_give_the_picture(tmp_path):
    photo = photograph()
    rgb, grey = np.asarray(photo), np.asarray(photo.convert("L"))
    assert np.array_equal(pixels(saved(photo, tmp_path / "a.jpg", format="PNG")), rgb)
    assert np.array_equal(
        pixels(saved(photo.convert("L"), tmp_path / "b.png")), np.dstack([grey] * 3)
    )
    paletted = photo.quantize(64)
    colours = np.asarray(paletted.convert("RGB"))
    assert np.array_equal(pixels(saved(paletted, tmp_path / "c.png")), colours)
    transparent = saved(paletted, tmp_path / "d.png", transparency=bytes(range(64)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(pixels(transparent), colours)
    photo.putalpha(7)
    assert np.array_equal(pixels(saved(photo, tmp_path / "e.png")), rgb)
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 13)
    assert np.array_equal(pixels(saved(deep, tmp_path / "f.png")), np.dstack([grey] * 3))
    one = Image.new("RGB", (1, 1), (1, 2, 3))
    assert pixels(saved(one, tmp_path / "g.png")).tolist() == [[[1, 2, 3]]]


def test_cmyk_and_exif(tmp_path):
    photo = photograph()
    cmyk = pixels(saved(photo.convert("CMYK"), tmp_path / "a.jpg", quality=98)).astype(int)
    assert np.abs(cmyk - np.asarray(photo)).mean() < 4
    turned = Image.Exif()
    turned[0x0112] = 6  # show it turned by 90 degrees
    lying = pixels(saved(photo, tmp_path / "b.jpg", exif=turned, quality=98)).astype(int)
    assert np.abs(lying - np.asarray(photo)).mean() < 4  # it is not


def broken(tmp_path: Path) -> dict[str, bytes]:
    whole = saved(photograph(), tmp_path / "whole.jpg").read_bytes()
    png = saved(photograph(), tmp_path / "whole.png").read_bytes()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    pieces = saved(noise, tmp_path / "noise.png").read_bytes()
    second = pieces.index(b"IDAT", pieces.index(b"IDAT") + 4)
    return {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": png[: len(png) // 2],
        "header.jpg": whole[:30],
        "piece.png": pieces[:second] + b"\0" + pieces[second + 1 :],
        "empty.jpg": b"",
        "text.jpg": b"not an image at all",
        "flipped.png": png[:100] + bytes(byte ^ 255 for byte in png[100:200]) + png[200:],
    }


def test_broken_files_are_unreadable(tmp_path):
    for name, content in broken(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage):
            pixels(tmp_path / name)


def test_a_bomb_is_unreadable(tmp_path, monkeypatch):
    path = saved(photograph(), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 4800 pixels, more than twice as many
    with pytest.raises(UnreadableImage, match="DecompressionBomb"):
        pixels(path)


def view(height: int, width: int) -> View:
    return View(0, 0, height, width, False, Colour())


def test_the_reduction_leaves_both_crops_enough_pixels():
    assert reduction([view(448, 448), view(900, 900)], 224) == 2
    assert reduction([view(447, 900), view(900, 900)], 224) == 1
    assert reduction([view(900, 900), view(900, 895)], 224) == 2
    assert reduction([view(900, 900), view(896, 896)], 224) == 4
    assert reduction([view(5000, 5000)] * 2, 224) == 8  # a JPEG has no smaller one
    assert reduction([view(100, 100)] * 2, 224) == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_jpeg_is_the_same_picture_and_a_png_stays_whole(tmp_path, mode):
    photo = photograph(333, 401).convert(mode)
    whole = np.asarray(photo.convert("RGB"))
    path = saved(photo, tmp_path / "a.jpg", quality=95)
    for scale in (2, 4, 8):
        with open_image(path) as image:
            small = decode(image, scale)
        assert small.shape == (-(-333 // scale), -(-401 // scale), 3)
        expected = np.asarray(Image.fromarray(whole).reduce(scale)).astype(int)
        assert np.abs(small - expected).mean() < 3
    with open_image(saved(photograph(333, 401), tmp_path / "a.png")) as image:
        assert decode(image, 4).shape == (333, 401, 3)


def test_views_of_a_reduced_jpeg_are_those_of_the_whole(tmp_path, monkeypatch):
    photograph(80, 100).resize((1000, 800), Image.Resampling.BICUBIC).save(
        tmp_path / "a.jpg", quality=95
    )
    plain = TwoViewImages(str(tmp_path), "x", {"size": 32, "min_area": 0.5, "jitter": 0.0})
    asked = []

    def spy(image, scale=1):
        asked.append(scale)
        return decode(image, scale)

    monkeypatch.setattr("pretrain.images.two_views.decode", spy)
    reduced = plain[0]["views"].int()
    monkeypatch.setattr("pretrain.images.two_views.decode", lambda image, scale: decode(image))
    assert asked == [8]  # 0.5 x 800 x 1000 pixels, at least 550 a side
    assert (reduced - plain[0]["views"].int()).abs().float().mean() < 1.5


# --- samples ---


def test_a_sample_is_its_keys_whatever_the_workers(tmp_path):
    data = dataset(folder(tmp_path), seed=5)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    expected = {key: data[key]["views"] for key in range(18)}  # three epochs
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    for workers in (0, 1, 2):
        keys = [13, 2, 7, 0, 17, 5]
        loader = DataLoader(data, sampler=keys, batch_size=3, num_workers=workers)
        found = torch.cat([batch["views"] for batch in loader])
        for key, views in zip(keys, found, strict=True):
            assert torch.equal(views, expected[key]), (workers, key)
    different = {expected[key].numpy().tobytes() for key in expected}
    assert len(different) == 18
    assert not torch.equal(expected[0][0], expected[0][1])
    assert not torch.equal(dataset(tmp_path, seed=6)[0]["views"], expected[0])


def test_a_view_is_the_same_whether_coloured_by_the_worker_or_the_preprocessor(tmp_path):
    data = folder(tmp_path)
    prepare = TwoViewPreprocessor(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    found = []
    for on_device in (False, True):
        loader = DataLoader(dataset(data, colour_on_device=on_device), batch_size=6)
        found.append(255 * prepare(next(iter(loader)), training=True)["views"])
    apart = (found[0] - found[1]).abs()
    assert apart.max() <= 6.1 and (apart > 1.1).float().mean() < 1e-3
    plain = DataLoader(dataset(data, colour_on_device=True), batch_size=6)
    assert (next(iter(plain))["views"].transpose(0, 1).flatten(0, 1) - found[1]).abs().max() > 50


# --- unreadable files ---


def with_broken(root: Path, *names: str) -> Path:
    folder(root)
    for name in names:
        (root / name).write_bytes((root / name).read_bytes()[:300])
    return root


def test_an_unreadable_file_is_replaced_by_another_and_named(tmp_path):
    data = dataset(with_broken(tmp_path, "2.jpg", "5.jpg"), max_unreadable_share=0.3)
    assert data.max_unreadable == 2  # 1.8, rounded up
    assert [data[key]["unreadable"] for key in range(6)] == [-1, -1, 2, -1, -1, 5]
    again = dataset(tmp_path, max_unreadable_share=0.3)
    assert torch.equal(data[2 + 6]["views"], again[2 + 6]["views"])
    photograph(seed=3).save(tmp_path / "2.jpg", quality=95)
    assert again[2]["unreadable"] == -1


class Numbers(TwoViewImages):
    """Samples that say which image they are; the first ``broken`` ones cannot be decoded."""

    broken = 48

    def _read(self, index, random):
        if index < self.broken:
            raise UnreadableImage("")
        return {"image": index}


def numbers(root: Path, images: int = 96, **options) -> Numbers:
    for number in range(images):
        (root / f"{number:03d}.jpg").write_bytes(b"1")
    return Numbers(str(root), "x", {"size": 16}, max_unreadable_share=0.5, **options)


def test_replacements_scatter_over_images_and_epochs(tmp_path):
    """96 images, the first half of them broken, as where hidden files come first.

    Drawn at random, 48 replacements are once each on average over 48 images; that one is taken more
    than 9 times in one epoch has a probability below 1e-5. Over 20 epochs each is taken 20 times on
    average; a binomial's deviation is 4.4.
    """
    data = numbers(tmp_path)
    taken = np.array([[data[96 * epoch + k]["image"] for k in range(96)] for epoch in range(20)])
    loads = np.stack([np.bincount(epoch, minlength=96) for epoch in taken])
    replaced = loads[:, 48:] - 1  # each readable image is also loaded as itself
    assert not loads[:, :48].any() and replaced.min() == 0 and replaced.max() <= 9
    assert replaced.sum(axis=0).min() > 2 and replaced.sum(axis=0).max() < 42
    assert len({tuple(epoch) for epoch in replaced.tolist()}) == 20  # no epoch is as another
    again, other = numbers(tmp_path), numbers(tmp_path, seed=1)
    assert [again[key]["image"] for key in range(48)] == taken[0, :48].tolist()
    assert [other[key]["image"] for key in range(48)] != taken[0, :48].tolist()


@pytest.mark.parametrize("images", [2, 7, 12, 30])
def test_the_one_readable_image_is_found_and_none_is_refused(images, tmp_path):
    data = numbers(tmp_path, images)
    data.max_unreadable = data.broken = images - 1
    assert {data[key]["image"] for key in range(3 * images)} == {images - 1}
    data.broken = images
    with pytest.raises(UnreadableImage, match=f"^{images} of {images} images in "):
        data[0]
    every = numbers(tmp_path, images)
    assert every.max_unreadable == -(-images // 2)
    assert (
        Numbers(str(tmp_path), "x", {"size": 16}, max_unreadable_share=2).max_unreadable
        == images - 1
    )


# --- vanished, not to be opened, not to be decoded: three things ---


def refused_open(monkeypatch, error: OSError) -> None:
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("PIL.Image.open", refuse)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (
            errno.ENOENT,
            FileNotFoundError,
            "was listed, and has vanished since; put it back, or list",
        ),
        (errno.ENOTDIR, FileNotFoundError, "has vanished since; put it back"),
        (errno.ESTALE, FileNotFoundError, "has vanished since; put it back"),
        (errno.EACCES, OSError, r"cannot be read \(Permission denied\); repair that or permit it"),
        (errno.EIO, OSError, r"cannot be read \(Input/output error\); repair that"),
        (errno.EMFILE, OSError, r"cannot be read \(Too many open files\); repair that"),
        (errno.EINVAL, UnreadableImage, "Invalid argument"),  # a header that points before the file
    ],
)
def test_a_file_system_s_fault_is_not_a_broken_image(number, kind, words, tmp_path, monkeypatch):
    data = dataset(folder(tmp_path))
    refused_open(monkeypatch, OSError(number, os.strerror(number)))
    with pytest.raises(kind, match=words) as caught:
        open_image(data.images.path(0))
    if kind is not UnreadableImage:
        with pytest.raises(kind, match=r"image .*0\.jpg"):  # never replaced: it is no such image
            data[0]
        assert "share" not in str(caught.value)


def test_vanished_files_and_folders_are_said_to_have_vanished(tmp_path):
    data = dataset(folder(tmp_path / "a"), max_unreadable_share=0.5)
    (tmp_path / "a/1.jpg").unlink()
    loader = DataLoader(data, num_workers=1)
    with pytest.raises(FileNotFoundError, match=r"1\.jpg was listed, and has vanished"):
        list(loader)
    (tmp_path / "a/2.jpg").unlink()
    (tmp_path / "a/2.jpg").mkdir()
    with pytest.raises(OSError, match=r"2\.jpg cannot be read \(Is a directory\)"):
        data[2]
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(FileNotFoundError, match=r"3\.jpg was listed, and has vanished"):
        data[3]


def test_more_than_the_share_is_refused_with_names_and_a_mend(tmp_path):
    with_broken(tmp_path, "2.jpg", "3.jpg", "4.jpg")
    data = dataset(tmp_path, max_unreadable_share=0.3)
    words = r"3 of 6 images in .* such as 2.jpg, 3.jpg, 4.jpg; .* at most 2.*max_unreadable_share="
    with pytest.raises(ValueError, match=words):
        run_over(data, logging.getLogger("run"))
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"3 of 6 images in .* are empty"):  # before it begins
        dataset(tmp_path, max_unreadable_share=0.3)
    assert dataset(tmp_path, max_unreadable_share=0.5).max_unreadable == 3


def run_over(data: TwoViewImages, log: logging.Logger) -> UnreadableImages:
    hook = UnreadableImages()
    loader = DataLoader(data, batch_size=3)
    runner = SimpleNamespace(train_dataloader=loader, logger=log)
    hook.before_train(runner)
    for _ in range(2):
        for number, batch in enumerate(loader):
            hook.after_train_iter(runner, number, batch)
        hook.after_train_epoch(runner)
    hook.after_train(runner)
    return hook


def test_the_run_names_every_unreadable_file_once_and_counts(tmp_path, caplog):
    data = dataset(with_broken(tmp_path, "1.jpg", "4.jpg"), max_unreadable_share=0.4)
    with caplog.at_level(logging.WARNING):
        hook = run_over(data, logging.getLogger("run"))
    assert hook.found == {1, 4}
    first, second, last = caplog.messages
    assert "1.jpg cannot be decoded" in first and "1 of 6 so far" in first
    assert "4.jpg cannot be decoded" in second
    assert last == "2 of 6 images could not be decoded and were replaced: 1.jpg, 4.jpg"
    data.max_unreadable = 1
    with pytest.raises(ValueError, match=r"2 of 6 images in .* such as 1.jpg, 4.jpg"):
        run_over(data, logging.getLogger("run"))


# --- labels ---


def test_a_sample_has_its_image_and_by_wish_its_class(tmp_path):
    for name in ("cat", "ant"):
        folder(tmp_path / name, images=2)
    samples = [dataset(tmp_path, labels=True)[key] for key in (0, 1, 2, 3, 4 + 2)]
    assert [sample["label"] for sample in samples] == [0, 0, 1, 1, 1]  # ant, cat
    assert [sample["image_id"] for sample in samples] == [0, 1, 2, 3, 2]
    (tmp_path / "cat" / "0.jpg").write_bytes(b"no image")
    replaced = dataset(tmp_path, labels=True, max_unreadable_share=0.5)[2]
    assert replaced["image_id"] != 2 and replaced["unreadable"] == 2
    assert replaced["label"] == replaced["image_id"] // 2
    assert "label" not in dataset(tmp_path, max_unreadable_share=0.5)[0]
    photograph(seed=0).save(tmp_path / "loose.jpg")
    with pytest.raises(ValueError, match=r"1 images lie in .* itself, not in a class folder"):
        dataset(tmp_path, labels=True, max_unreadable_share=0.5)
