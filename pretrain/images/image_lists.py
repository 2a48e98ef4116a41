"""Which images a run trains on, looked at before it begins.

A data root is a folder of images, flat or with class folders, or a text file that lists images: one
path a line, relative to the folder of the file or absolute; empty lines and lines that begin with
``#`` do not count. A path may hold spaces; nothing else stands on its line, labels neither. It is
the user's own file, so a path may lead anywhere, by ``..`` too; files that are read as images are
all that comes of it.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain.images.folder_walk import (
    EXTENSIONS,
    INSTEAD,
    in_threads,
    in_words,
    walk,
)
from results.record.text import some_of


@dataclass(frozen=True)
class ImageList:
    """The images of a data root.

    Args:
        root: what names are relative to.
        names: (images,), encoded. An array, since a list of a million strings is copied into every
            worker, page by page, as their reference counts change.
        sizes: (images,), in bytes.
        left_out: what the folder holds besides, in words; empty if nothing.
    """

    root: Path
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    left_out: str = ""

    @classmethod
    def read(cls, data_root: str | Path) -> "ImageList":
        """List a data root and look at every file of it.

        Raises:
            FileNotFoundError: the data root or a file of it is missing, or there is no image.
            ValueError: a folder or a file may not be read, or a list names a file twice.
        """
        path = Path(data_root)
        names, left_out = list_images(path)
        root = path if path.is_dir() else path.parent
        sizes = file_sizes(root, names)  # first: a name that exists has no more than 4 KiB
        return cls(root, np.array([os.fsencode(name) for name in names]), sizes, left_out)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Of one image, relative to the root."""
        return os.fsdecode(self.names[index])

    def path(self, index: int) -> Path:
        """Of one image."""
        return self.root / self.name(index)

    def describe(self) -> str:
        """How many, how large, which: one line for the log."""
        words = f"{len(self)} images, {self.sizes.sum() / 2**30:.2f} GiB, under {self.root}"
        if self.empty:
            names = [self.name(index) for index in self.empty]
            words += f"; {len(names)} of them empty: {some_of(names)}"
        if self.left_out:
            words += f"; left out: {self.left_out}"
        return f"{words}; fingerprint {self.fingerprint}"

    def class_folders(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The class of every image, by the folder below the root that it lies in.

        Returns:
            The folders' names, sorted; and for each image its folder's place among them, (images,).

        Raises:
            ValueError: an image lies in no class folder.
        """
        names = [self.name(index) for index in range(len(self))]
        if loose := [name for name in names if "/" not in name]:
            raise ValueError(
                f"{len(loose)} images lie in {self.root} itself, not in a class folder: "
                f"{some_of(loose)}; expected {self.root}/CLASS/IMAGE, as in ImageNet"
            )
        classes, labels = np.unique([name.split("/")[0] for name in names], return_inverse=True)
        return tuple(map(str, classes)), labels.astype(np.int64)

    @property
    def empty(self) -> list[int]:
        """Images whose files hold nothing."""
        return np.flatnonzero(self.sizes == 0).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over names and sizes: tells one set of files from another, unread."""
        return _digest(self.names, self.sizes)


def fingerprint(root: Path, files: Sequence[str]) -> str:
    """As :attr:`ImageList.fingerprint`, for files already listed."""
    return _digest([os.fsencode(name) for name in files], file_sizes(root, files))


def list_images(data_root: Path) -> tuple[list[str], str]:
    """Names of the images of a data root, relative to it: a folder's sorted, a list's as they are.

    Linked folders are entered, no folder twice.

    Returns:
        The names; and in words what a folder holds besides.

    Raises:
        FileNotFoundError, ValueError: as :meth:`ImageList.read`, of what needs no look at files.
    """
    left_out = ""
    if data_root.is_dir():
        names, others = walk(data_root)
        names.sort()
        left_out = in_words(others)
        expected = f"expected files ending in {', '.join(sorted(EXTENSIONS))}"
        expected += f", found: {left_out}" if left_out else ""
    elif data_root.is_file() and data_root.suffix == ".txt":
        names = _read_lines(data_root)
        expected = "expected the path of one on every line"
    else:
        raise FileNotFoundError(
            f"no folder of training images at {data_root}; expected images in it or in folders "
            f"below it, or a .txt file that lists images. Put them there, {INSTEAD}"
        )
    if not names:
        raise FileNotFoundError(
            f"{data_root} holds no image; {expected}. Put them there, {INSTEAD}"
        )
    return names, left_out


def file_sizes(root: Path, files: Sequence[str]) -> NDArray[np.int64]:
    """In bytes, by many threads.

    Raises:
        FileNotFoundError: some are missing.
        ValueError: some may not be read.
    """
    folder = str(root)
    chunks = [files[i : i + 1000] for i in range(0, len(files), 1000)]
    found = in_threads(lambda some: [_size(os.path.join(folder, name)) for name in some], chunks)
    sizes = np.array([size for chunk in found for size in chunk], dtype=np.int64)
    for fault, error, words in (
        (MISSING, FileNotFoundError, "are not there"),
        (FORBIDDEN, ValueError, "may not be read by this user"),
    ):
        faulty = [files[i] for i in np.flatnonzero(sizes == fault).tolist()]
        if faulty:
            raise error(
                f"{len(faulty)} of {len(files)} images {words}: {some_of(faulty)}, looked for in "
                f"{root}; repair them, {INSTEAD}"
            )
    return sizes


MISSING, FORBIDDEN = -1, -2


def _size(path: str) -> int:
    try:
        found = os.stat(path)
    except PermissionError:
        return FORBIDDEN
    except (OSError, ValueError):  # ValueError: a zero byte
        return MISSING
    if not stat.S_ISREG(found.st_mode):
        return MISSING
    return found.st_size if os.access(path, os.R_OK) else FORBIDDEN


def _read_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    names = [line.strip() for line in lines]
    names = [name for name in names if name and not name.startswith("#")]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{path} names {len(twice)} images more than once, such as {some_of(twice)}; an image "
            f"would be its own negative. Remove the repeats: awk '!seen[$0]++' {path}"
        )
    return names


def _digest(names: Iterable[bytes], sizes: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for name, size in zip(names, sizes.tolist(), strict=True):
        digest.update(b"%b\0%d\n" % (name, size))
    return digest.hexdigest()
