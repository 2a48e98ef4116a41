"""Unlabelled images as pairs of views."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.images.augment import SimCLRAugmentation, View, crop
from pretrain.images.colour import Pixels, distort
from pretrain.images.decode import UnreadableImage, decode, open_image, reduction
from pretrain.images.image_lists import ImageList
from results.record.text import some_of

READABLE = -1  # ``unreadable`` of a sample whose file could be read


@DATASETS.register_module()
class TwoViewImages(Dataset[dict[str, Any]]):
    """Two augmented views of every image of a data root.

    A sample depends on the seed, the epoch and the image alone: not on workers, nor on what was
    loaded before. Hence a sampler gives keys, ``epoch x images + index``; a plain index is epoch 0.

    Args:
        root: a folder or a list of images (:mod:`pretrain.images.image_lists`).
        name: what the dataset is called in provenance and records, e.g. ``imagenet1k``.
        augmentation: arguments of :class:`SimCLRAugmentation`.
        seed: of all that is drawn.
        colour_on_device: leave colours and blur to the preprocessor, which has a batch of them done
            where the model is.
        labels: give each sample its class, by the folder that its image lies in.
        max_unreadable_share: of the images; as many, rounded up, may be unreadable, but never all.
            One that cannot be decoded is replaced by another that can, drawn anew in every epoch.

    Raises:
        FileNotFoundError, ValueError: from :meth:`ImageList.read` and, with ``labels``,
            :meth:`ImageList.class_folders`; or more empty files than may be.
    """

    def __init__(
        self,
        root: str,
        name: str,
        augmentation: dict[str, Any],
        seed: int = 0,
        colour_on_device: bool = False,
        labels: bool = False,
        max_unreadable_share: float = 0.001,
    ) -> None:
        self.name, self.seed, self.colour_on_device = name, seed, colour_on_device
        self.images = ImageList.read(root)
        self.labels = self.images.class_folders()[1] if labels else None
        self.augmentation = SimCLRAugmentation(**augmentation)
        self.max_unreadable_share = max_unreadable_share
        share = math.ceil(max_unreadable_share * len(self.images))
        self.max_unreadable = min(share, len(self.images) - 1)
        self.metainfo = {"dataset": name, "fingerprint": self.images.fingerprint}
        self.refuse_unreadable(self.images.empty)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int) -> dict[str, Any]:
        """The sample of ``epoch, index = divmod(key, len(self))``.

        Returns:
            ``views``, uint8 (2, 3, size, size); ``image_id``, the index of the image they show;
            ``unreadable``, the index of the file if another image had to take its place, else -1;
            with ``labels`` also ``label``, the place of its class among all; with
            ``colour_on_device`` also ``colours``, (2, 10), of
            :meth:`pretrain.images.colour.Colour.vector`.

        Raises:
            UnreadableImage: so many files were tried in its place that more than may be are not.
            FileNotFoundError, OSError: from :func:`open_image`.
        """
        epoch, index = divmod(int(key), len(self))
        random = np.random.default_rng((self.seed, epoch, index))
        tried: list[int] = []
        place = index
        while len(tried) <= self.max_unreadable:
            try:
                sample = self._read(place, random)
            except UnreadableImage:
                tried.append(place)
                while place in tried and len(tried) < len(self):
                    place = int(random.integers(len(self)))  # neighbours share no replacement
                continue
            if self.labels is not None:
                sample["label"] = int(self.labels[place])
            return {**sample, "image_id": place, "unreadable": index if tried else READABLE}
        self.refuse_unreadable(tried)
        raise AssertionError("unreachable")

    def _read(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        size = self.augmentation.size
        with open_image(self.images.path(index)) as image:
            height, width = image.height, image.width
            drawn = [self.augmentation.draw(random, height, width) for _ in range(2)]
            pixels = decode(image, reduction(drawn, size))  # once for both views
        crops = [crop(pixels, view, height, width, size) for view in drawn]
        if not self.colour_on_device:
            return {"views": stack(distort_all(crops, drawn))}
        colours = np.stack([view.colour.vector() for view in drawn])
        return {"views": stack(crops), "colours": torch.from_numpy(colours)}

    def refuse_unreadable(self, indices: Sequence[int]) -> None:
        """Stop where more files are unreadable than may be.

        Raises:
            UnreadableImage: how many, some of their names, and what to do.
        """
        if len(indices) > self.max_unreadable:
            names = [self.images.name(index) for index in sorted(indices)]
            raise UnreadableImage(
                f"{len(names)} of {len(self)} images in {self.images.root} are empty or cannot be "
                f"decoded, such as {some_of(names)}; expected at most {self.max_unreadable}. "
                "Replace or remove them, or permit a larger share with --cfg-options "
                "train_dataloader.dataset.max_unreadable_share=SHARE "
                f"(now {self.max_unreadable_share:g})"
            )


def distort_all(crops: Sequence[Pixels], views: Sequence[View]) -> list[Pixels]:
    """Every crop with the colours drawn for it."""
    return [distort(pixels, view.colour) for pixels, view in zip(crops, views, strict=True)]


def stack(images: Sequence[Pixels]) -> Tensor:
    """Images (height, width, 3) as one tensor, uint8 (images, 3, height, width)."""
    return torch.from_numpy(np.stack([cv2.split(image) for image in images]))
