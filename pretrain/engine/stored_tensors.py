"""What ``torch.save`` wrote, read without running anything that the file holds.

``weights_only`` lets tensors and plain values through and nothing else; no class is added to
torch's own list. What is left is a file that asks for more memory than it has bytes: packed
entries, which ``torch.save`` never writes, and values that hold each other again and again.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pretrain.engine.file_kinds import foreign, other_kind, program_of

MAX_VALUES = 1_000_000  # numbers, texts, lists and dicts beside the tensors; ours hold thousands


def read_stored(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """The dict that a file holds, its tensors on the CPU.

    Args:
        path: of the file.
        mmap: leave tensors on the disk until they are used.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
        ValueError: it is damaged, no dict, or holds what could run code; names the file.
    """
    path = Path(path)
    check_readable(path)
    if kind := other_kind(path):
        raise ValueError(f"{path} is {kind}; expected a file that torch.save wrote")
    try:
        _refuse_packed(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch and the pickle machine raise of every kind
        raise ValueError(f"{path} {_why(error, path)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict")
    if not _is_bounded(content):
        raise ValueError(f"{path} holds itself, or more than {MAX_VALUES:,} values")
    return content


def check_readable(path: Path) -> None:
    """Tell a file that is not there, or that may not be read, from one that is damaged.

    Raises:
        FileNotFoundError, PermissionError: what was found; names the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; expected one that torch.save wrote")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder, a pipe or a device; expected a file")
    try:
        path.open("rb").close()
    except PermissionError as error:
        raise PermissionError(
            f"{path} may not be read by this user; permit it: chmod u+r {path}"
        ) from error


def tensors_of(found: Any, path: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The entries of a state dict whose names begin with ``prefix``, which is taken off.

    Raises:
        ValueError: it is none, or an entry is no dense tensor; names the file.
    """
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} has no dict of tensors by name")
    chosen = {name: value for name, value in found.items() if name.startswith(prefix)}
    for name, value in chosen.items():
        if not isinstance(value, torch.Tensor) or (value.layout, value.device.type) != DENSE:
            raise ValueError(f"{path}: {name[:100]!a} is no tensor that holds its numbers")
    return {name.removeprefix(prefix): value for name, value in chosen.items()}


DENSE = (torch.strided, "cpu")


def _why(error: Exception, path: Path) -> str:
    """Of torch's page of words, which advise to run what the file holds, the class it refused."""
    if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
        known = f"is {foreign(path)}: it " if program_of(path) else ""
        return (
            f"{known}holds a {refused[1][:100]}, and only tensors and plain values are read, so "
            "that nothing in a file is run"
        )
    reason = str(error).partition(". ")[0][:200]
    reason = reason if reason.isprintable() else type(error).__name__
    return f"is damaged ({reason}); copy it again"


def _refuse_packed(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its entries are packed, which torch.save never does")


def _is_bounded(content: Any) -> bool:
    """Whether so many values are all; one that is held twice counts twice."""
    waiting, count = [content], 0
    while waiting and count <= MAX_VALUES:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value
    return not waiting
