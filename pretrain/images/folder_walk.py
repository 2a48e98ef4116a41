"""Images below a folder; what it holds besides is left out and counted, so that it can be said.

Left out are hidden files and folders (``._x.jpg``, ``.ipynb_checkpoints``), what systems leave
behind (HIDDEN), and files of other kinds.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from results.record.text import some_of

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
HIDDEN = frozenset(
    {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
)
HIDDEN_FILE, HIDDEN_FOLDER = "hidden file", "hidden folder"
WITHOUT, AGAIN = "folder without images", "folder met before"
BESIDES = (HIDDEN_FILE, HIDDEN_FOLDER, WITHOUT, AGAIN)
INSTEAD = "or name another folder or list with --cfg-options data_root=PATH"
THREADS = 32  # a network's file system answers slowly, but many at a time
In = TypeVar("In")
Out = TypeVar("Out")


def walk(root: Path) -> tuple[list[str], Counter[str]]:
    """Look through a folder, level by level. Linked folders are entered, no folder twice.

    Returns:
        Images, relative to it; and how often what else was met: endings of files, or BESIDES.

    Raises:
        ValueError: a folder may not be read.
    """
    images: list[str] = []
    others: Counter[str] = Counter()
    level, entered = [""], {_identity(root)}
    while level:
        below: list[str] = []
        for names, folders, besides in in_threads(lambda folder: _scan(root, folder), level):
            images += names
            below += folders
            others += besides
        level = []
        for folder in sorted(below):
            if (identity := _identity(root / folder)) in entered:
                others[AGAIN] += 1
            else:
                entered.add(identity)
                level.append(folder)
    return images, others


def in_words(others: Counter[str]) -> str:
    """``3 hidden files, 2 of other kinds (.txt)``; empty for nothing."""
    parts = []
    for what in BESIDES:
        if count := others[what]:
            several = re.sub("file|folder", r"\g<0>s", what)
            parts.append(f"{count} {what if count == 1 else several}")
    if endings := sorted(set(others) - set(BESIDES)):
        parts.append(f"{sum(others[e] for e in endings)} of other kinds ({some_of(endings)})")
    return ", ".join(parts)


def in_threads(function: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """What the function gives for every item, many at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _scan(root: Path, folder: str) -> tuple[list[str], list[str], Counter[str]]:
    """Images and folders in one folder, both relative to the root; and what else is there."""
    names, folders, others = [], [], Counter[str]()
    prefix = f"{folder}/" if folder else ""
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                ending = os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith(".") or entry.name in HIDDEN:
                    others[HIDDEN_FOLDER if _is_folder(entry) else HIDDEN_FILE] += 1
                elif _is_folder(entry):
                    folders.append(prefix + entry.name)
                elif ending in EXTENSIONS:
                    names.append(prefix + entry.name)
                else:
                    others[ending or "no ending"] += 1
    except PermissionError:
        raise ValueError(
            f"folder {root / folder} may not be read by this user; permit it, {INSTEAD}"
        ) from None
    if folder and not names and not folders:
        others[WITHOUT] += 1
    return names, folders, others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; as an image it is reported missing
        return False
