"""Labelled images for the readout: class folders below ``train/`` and ``val/``, as in ImageNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from pretrain.images.augment import SimCLRAugmentation, View, crop
from pretrain.images.colour import Colour
from pretrain.images.decode import JPEG_SCALES, UnreadableImage, decode, open_image, reduction
from pretrain.images.folder_walk import in_threads
from pretrain.images.image_lists import ImageList
from results.record.text import some_of

SPLITS = ("train", "val")
MAX_ASPECT = 100  # with its shorter side at 256 px such an image takes 80 MB, and a longer one any
CHUNK = 100  # images that a thread decodes before it takes others
LAYOUT = "expected ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, as in ImageNet"


@dataclass(frozen=True)
class LabelledFiles:
    """The images of one split."""

    images: ImageList
    classes: tuple[str, ...]  # sorted, so that a label means the same in every split
    labels: NDArray[np.int64]  # (images,), places in ``classes``


def read_splits(data_root: str | Path) -> dict[str, LabelledFiles]:
    """The training and the validation images below ``data_root``, their classes compared.

    Raises:
        FileNotFoundError, ValueError: from :func:`read_split`.
        ValueError: there is one class only, or the splits differ in their classes.
    """
    root = Path(data_root)
    train, val = (read_split(root, name) for name in SPLITS)
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise ValueError(
            f"{root / 'train'} has {len(train.classes)} classes, {root / 'val'} has "
            f"{len(val.classes)}, and these stand in one of them only: {some_of(odd)}; both need "
            "the same class folders"
        )
    if len(train.classes) < 2:
        raise ValueError(
            f"{root / 'train'} holds one class only ({train.classes[0]}); a classifier needs at "
            f"least two. {LAYOUT}"
        )
    return {"train": train, "val": val}


def read_split(data_root: str | Path, split: str) -> LabelledFiles:
    """The images of one split, looked at file by file.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: an image lies in no class folder, or a file is empty.
    """
    root = Path(data_root)
    if not (root / split).is_dir():
        there = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        raise FileNotFoundError(
            f"no folder {root / split}; {LAYOUT}. {root} holds: {some_of(there) or 'nothing'}. "
            "Name another folder with --data or --cfg-options data_root=FOLDER"
        )
    images = ImageList.read(root / split)
    classes, labels = images.class_folders()
    if images.empty:
        raise ValueError(
            f"{len(images.empty)} files in {images.root} are empty: "
            f"{some_of([images.name(index) for index in images.empty])}; replace or remove them"
        )
    return LabelledFiles(images, classes, labels)


@DATASETS.register_module()
class LabelledImages(Dataset[dict[str, Any]]):
    """Images of one split with their labels.

    A sample depends on the seed, the epoch and the image alone; a sampler gives keys, ``epoch x
    images + index`` (:mod:`pretrain.engine.sampler`), and a plain index is epoch 0.

    Args:
        data_root: holds ``train/`` and ``val/``.
        split: one of the two.
        image_size: side of the square image that is given, in pixels.
        resize: shorter side before the centre crop, in pixels.
        augment: random resized crop and flip, no colours, instead of the centre crop.
        seed: of crops and flips.

    Raises:
        FileNotFoundError, ValueError: from :func:`read_split` and :func:`centre_crop`.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        image_size: int = 224,
        resize: int = 256,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        listed = read_split(data_root, split)
        self.images, self.classes, self.labels = listed.images, listed.classes, listed.labels
        self.metainfo = {"classes": listed.classes}
        self.image_size, self.augment, self.seed = image_size, augment, seed
        self.centre_crop = centre_crop(image_size, resize)
        self.transform_name = transform_name(image_size, resize, augment)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int) -> dict[str, Any]:
        """``image``, uint8 (3, image_size, image_size), and ``label``.

        Raises:
            UnreadableImage: the file is no readable image.
            FileNotFoundError, OSError: from :func:`open_image`.
        """
        epoch, index = divmod(int(key), len(self))
        try:
            pixels = self._read(epoch, index)
        except UnreadableImage as error:
            raise UnreadableImage(
                f"{self.images.path(index)} cannot be decoded ({error}); replace or remove it"
            ) from error
        return {"image": pixels, "label": int(self.labels[index])}

    def _read(self, epoch: int, index: int) -> Tensor:
        with open_image(self.images.path(index)) as image:
            refuse_strip(image)
            if not self.augment:
                return self.centre_crop(torch.from_numpy(decode(image)).permute(2, 0, 1))
            height, width = image.height, image.width
            random = np.random.default_rng((self.seed, epoch, index))
            box = SimCLRAugmentation(self.image_size).draw_box(random, height, width)
            view = View(*box, flip=random.random() < 0.5, colour=Colour())
            pixels = decode(image, reduction([view], self.image_size))
        return torch.from_numpy(crop(pixels, view, height, width, self.image_size)).permute(2, 0, 1)


def transform_name(image_size: int, resize: int, augment: bool) -> str:
    """What is done to an image, in the words of records; sizes in pixels."""
    if augment:
        return f"random resized crop of {image_size} and flip"
    return f"centre crop of {image_size} from {resize}"


def refuse_strip(image: Image.Image) -> None:
    """Refuse an opened image that would take too much memory once its shorter side is resized.

    Raises:
        UnreadableImage: its sides differ too much.
    """
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise UnreadableImage(
            f"{image.width} x {image.height} pixels, a strip; its longer side may be up to "
            f"{MAX_ASPECT} times the shorter"
        )


def decode_once(*wanted: tuple[ImageList, Sequence[int]]) -> None:
    """Decode images before a run needs them, so that none stops it on the way.

    Args:
        wanted: lists, each with the places of those to be decoded.

    Raises:
        UnreadableImage: some cannot be; names them.
        FileNotFoundError, OSError: from :func:`open_image`.
    """

    def faults(images: ImageList, places: Sequence[int]) -> list[str]:
        found = []
        for place in places:
            try:
                with open_image(images.path(place)) as image:
                    refuse_strip(image)
                    decode(image, JPEG_SCALES[0])
            except UnreadableImage as error:
                found.append(f"{images.path(place)} ({error})")
        return found

    chunks = [
        (images, places[i : i + CHUNK])
        for images, places in wanted
        for i in range(0, len(places), CHUNK)
    ]
    found = [words for chunk in in_threads(lambda chunk: faults(*chunk), chunks) for words in chunk]
    if found:
        raise UnreadableImage(
            f"{len(found)} images cannot be decoded: {some_of(found)}; replace or remove them"
        )


def centre_crop(image_size: int, resize: int) -> v2.Transform:
    """The test transform: the shorter side to ``resize``, then the square in the middle.

    Raises:
        ValueError: the crop is larger than what it is cut from.
    """
    if not 1 <= image_size <= resize:
        raise ValueError(
            f"a centre crop of {image_size} px from images of {resize} px; set --cfg-options "
            "image_size=N resize=M with N <= M"
        )
    return v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(image_size)])
