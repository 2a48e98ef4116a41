"""Files: read to their end, hashed, written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TextIO


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that can be read to its end, or of a link to one.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a folder, or a named pipe, socket or device, on which a reader could wait for
            ever.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        found = next((name for name, is_one in _KINDS.items() if is_one(mode)), "device")
        raise ValueError(f"{path}: is a {found}, expected a file")
    return Path(path)


_KINDS = {"folder": stat.S_ISDIR, "named pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(regular_file(path), "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class NotWritten(OSError):
    """A file that could not be written; what was there before is whole."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Replace `path` by `content` in one step, making its folder; readers see old or new, whole.

    Raises:
        NotWritten: no room, no right, or another fault of the file system.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            with suppress(OSError):  # on a read-only disk even where there is nothing to remove
                partial.unlink()
    except OSError as error:  # what is free now is free without the partial file
        raise NotWritten(_why(target, len(content), error)) from error
    return target


def _why(target: Path, size: int, error: OSError) -> str:
    folder = next(parent for parent in target.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    return (
        f"cannot write {target}: {error.strerror or error}; it takes {size / 2**20:.1f} MiB, "
        f"{free / 2**20:.1f} MiB are free in {folder}. Make room there, or name another folder; "
        "what was there before is whole"
    )


def take_lock(path: Path, wait: bool = False) -> TextIO:
    """A lock that holds until the returned file is closed here and in every child that has it.

    Args:
        path: of the lock's file, in a folder that is there.
        wait: for the process that has it.

    Raises:
        BlockingIOError: another process has it.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        raise
    return file


def remove_partials(folder: str | os.PathLike[str]) -> None:
    """Remove what a killed process left of :func:`write_atomically`; nobody may be writing."""
    for path in Path(folder).iterdir():
        if re.fullmatch(r"\..+\.\d+-[0-9a-f]{8}\.tmp", path.name):
            path.unlink()
