"""The folder of a run: what a run keeps there, its lock, and its checkpoints."""

import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pretrain.engine.file_kinds import UNREADABLE, foreign, other_kind
from pretrain.engine.stored_tensors import check_readable, read_stored
from results.record.files import remove_partials, take_lock
from results.record.run_record import FILE_NAME

LAST = "last_checkpoint"  # a file that names the newest checkpoint
LOSSES, BACKBONE, BEST = "losses.csv", "backbone.safetensors", "best_*.pth"  # see pretrain.hooks
DETECTOR = "detector.pth"  # of a finished run, whole, for inference; see transfer.stored_detector
RESULTS = (BACKBONE, BEST, DETECTOR)
READ = (FILE_NAME, LAST, LOSSES)  # at a start
PICTURES = "pictures"  # a folder, see transfer.hooks
SUFFIXES = (".pth", ".safetensors", ".json", ".py", ".csv")
SAVED = re.compile(r"(epoch|iter)_(\d+)\.pth")
ANEW = "start anew in another --work-dir"
_KINDS = {"iter": int, "world_size": int, "config_text": str}  # of what every checkpoint says


def lock_folder(work_dir: Path) -> TextIO:
    """Keep every other run out of the folder for as long as the returned file is open.

    What a killed run was writing is removed.

    Raises:
        ValueError: another process holds it, or nothing can be written there.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        file = take_lock(work_dir / ".lock")
    except BlockingIOError:
        raise ValueError(
            f"another run is at work in {work_dir}; wait for it, stop it, or choose another "
            "--work-dir"
        ) from None
    except OSError as error:
        raise ValueError(
            f"cannot write in {work_dir}: {error.strerror}; choose another --work-dir"
        ) from error
    remove_partials(work_dir)
    return file


def check_files(work_dir: Path) -> None:
    """What a run reads and replaces in its folder has to be files that may be read.

    Raises:
        ValueError: a folder, pipe or device has the name of one.
        PermissionError: one may not be read.
    """
    for path in work_dir.iterdir() if work_dir.is_dir() else ():
        ours = path.name in (*READ, ".lock") or path.suffix in SUFFIXES
        if path.name == PICTURES and not path.is_dir():
            raise ValueError(f"{path} is no folder; move it away, or choose another --work-dir")
        if ours and path.exists() and not path.is_file():
            raise ValueError(
                f"{path} is a folder, a pipe or a device, where a run keeps a file; move it away, "
                "or choose another --work-dir"
            )
        if path.name in READ and path.exists():
            check_readable(path)


def last_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint that LAST names; where that file is missing, the newest that is whole.

    Returns:
        None where the folder has none.

    Raises:
        FileNotFoundError: the one that LAST names is gone.
        PermissionError: a file may not be read.
        ValueError: LAST names no file, or no checkpoint is whole.
    """
    pointer = work_dir / LAST
    if not pointer.exists():
        found = newest_whole(work_dir)
        if found is None and saved(work_dir):
            raise ValueError(f"no checkpoint in {work_dir} is whole; {ANEW}")
        return found
    check_readable(pointer)
    # By name, so that the folder can be moved; mmengine's format is a path.
    named = pointer.read_text(errors="replace").strip()
    path = work_dir / (Path(named).name or LAST)
    if not named or not named.isprintable() or len(named) > 4096:
        raise ValueError(f"{pointer} names no file; {another_whole(work_dir, path)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; {another_whole(work_dir, path)}")
    return path


def saved(work_dir: Path) -> list[Path]:
    """All checkpoints that a run can continue from, whole or not."""
    found = work_dir.iterdir() if work_dir.is_dir() else ()
    return [path for path in found if SAVED.fullmatch(path.name) and path.is_file()]


def newest_whole(work_dir: Path, apart_from: Path | None = None) -> Path | None:
    """The checkpoint of the latest iteration that is whole; times of files say nothing.

    Raises:
        PermissionError: one may not be read, so nobody knows.
    """
    known = []
    for path in saved(work_dir):
        if path != apart_from:
            with suppress(ValueError):  # damaged
                known.append((_meta(path)["iter"], path))
    for _, path in sorted(known, reverse=True):
        with suppress(ValueError):
            read_meta(path)
            return path
    return None


def last_good(work_dir: Path) -> str:
    """What of a run that has ended can be continued, as a sentence. Reads it to its end."""
    path: Path | None = None
    try:
        path = last_checkpoint(work_dir)
        if path:
            read_meta(path)
    except ValueError as error:
        return f"{error}; {another_whole(work_dir, path)}." if path else f"{error}."
    except OSError as error:
        return f"{error}."
    if path is None:
        return "No checkpoint was saved before it."
    return f"The last good checkpoint is {path}: the same command with --resume continues from it."


def another_whole(work_dir: Path, bad: Path) -> str:
    """The newest checkpoint that is whole, and how to continue from it; for a message."""
    try:
        path = newest_whole(work_dir, apart_from=bad)
    except PermissionError as error:
        return str(error)
    if path is None:
        return f"no other checkpoint in {work_dir} is whole; {ANEW}"
    return (
        f"{path} is whole (iteration {_meta(path)['iter']}): continue from it with the same "
        f"command and --resume {path}"
    )


def read_meta(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its run. Reads the whole file and compares its checksums.

    Raises:
        FileNotFoundError, PermissionError: it is not there, or may not be read.
        ValueError: it is damaged, or not written by ``AtomicCheckpoint``.
    """
    check_readable(path)
    if kind := other_kind(path, takes_old=False):
        raise ValueError(f"{path} is {kind}; expected epoch_N.pth or iter_N.pth of a run")
    meta = _meta(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except UNREADABLE as error:
        raise ValueError(f"{path} is damaged ({str(error)[:300]})") from error
    if damaged:
        raise ValueError(f"{path} is damaged ({damaged[:300]} fails its checksum)")
    return meta


def _meta(path: Path) -> dict[str, Any]:
    """As :func:`read_meta`, without a look at the tensors."""
    meta = read_stored(path, mmap=True).get("meta")
    meta = meta if isinstance(meta, dict) else {}
    if odd := [name for name, kind in _KINDS.items() if type(meta.get(name)) is not kind]:
        raise ValueError(
            f"{path} is {foreign(path)}, or of another version (it does not say "
            f"{', '.join(sorted(odd))}); expected epoch_N.pth or iter_N.pth of a run"
        )
    return meta
