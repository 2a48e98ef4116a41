"""Which checkpoint a run continues from, and whether it is that run's, before anything starts."""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from pretrain.stored_tensors import read_stored

LAST = "last_checkpoint"  # a file that names the newest checkpoint
MAX_FAULTS = 50  # differences named in an error
_KINDS = {"iter": int, "world_size": int, "config_text": str}  # of what every checkpoint says


def checkpoint_to_resume(
    work_dir: Path, wanted: str, config_text: str, world_size: int
) -> Path | None:
    """The checkpoint to continue from, read to its end and compared with the config.

    Args:
        work_dir: of the run.
        wanted: a checkpoint file; or LAST.
        config_text: from :func:`pretrain.running.launch.config_text`.
        world_size: number of processes.

    Returns:
        None where the folder has none yet.

    Raises:
        FileNotFoundError: the file is gone.
        ValueError: it is damaged, or of another run; says what differs.
    """
    path = Path(wanted)
    if wanted == LAST:
        if not (work_dir / LAST).is_file():
            return None
        # By name, so that the folder can be moved; mmengine's format is a path.
        named = (work_dir / LAST).read_text(errors="replace").strip()
        path = work_dir / (Path(named).name or LAST)
        if not named or not named.isprintable() or len(named) > 4096:
            raise ValueError(f"{work_dir / LAST} names no file; {_mend(work_dir, path)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; {_mend(work_dir, path)}")
    try:
        meta = read_meta(path)
    except ValueError as error:
        raise ValueError(f"{error}; {_mend(work_dir, path)}") from error
    if meta["world_size"] != world_size:
        raise ValueError(
            f"{path} was written by {meta['world_size']} processes, this run has {world_size}, "
            f"which share the batches in another way; start {meta['world_size']} to continue it"
        )
    if faults := differences(config_in(meta, path), json.loads(config_text)):
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise ValueError(
            f"{path} is of another config; set these back, or choose another --work-dir:\n  "
            + "\n  ".join(faults[:MAX_FAULTS] + more)
        )
    return path


def read_meta(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its run. Reads the whole file and compares its checksums.

    Raises:
        ValueError: it is damaged, or not written by ``AtomicCheckpoint``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise zipfile.BadZipFile("its entries are packed, which torch.save never does")
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} fails its checksum")
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        # RuntimeError: an entry that is encrypted or packed in a way unknown here
        raise ValueError(f"{path} is damaged ({str(error)[:300]})") from error
    meta = read_stored(path, mmap=True).get("meta")
    meta = meta if isinstance(meta, dict) else {}
    if odd := [name for name, kind in _KINDS.items() if type(meta.get(name)) is not kind]:
        raise ValueError(
            f"{path} does not say {', '.join(sorted(odd))}: another program or version wrote it"
        )
    return meta


def config_in(meta: dict[str, Any], path: Path) -> dict[str, Any]:
    """The config that a checkpoint carries.

    Raises:
        ValueError: it is no JSON object; names the file.
    """
    try:
        content = json.loads(meta["config_text"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} carries a config that is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} carries a {type(content).__name__}, expected a config")
    return content


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Dotted names whose values differ between two configs, with both values."""
    old, new = leaves(then), leaves(now)
    return [
        f"{_brief(name)}: {_brief(old.get(name, 'nothing'))} in the checkpoint, "
        f"{_brief(new.get(name, 'nothing'))} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, ...) != new.get(name, ...)
    ]


def _brief(value: Any) -> str:
    """For a message: long ones cut, nothing in it that a terminal would obey."""
    text = str(value)
    return (text if text.isprintable() else ascii(text))[:200]


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """The values of a nested config by their dotted names."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = dict(enumerate(value)).items()
    else:
        return {name: value}
    return {
        leaf: content
        for key, item in parts
        for leaf, content in leaves(item, f"{name}.{key}" if name else str(key)).items()
    }


def _mend(work_dir: Path, bad: Path) -> str:
    """Name the newest checkpoint that is whole, and how to continue from it."""
    others = [
        path
        for path in work_dir.glob("*.pth")
        if re.fullmatch(r"(epoch|iter)_\d+\.pth", path.name) and path != bad
    ]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            meta = read_meta(path)
        except ValueError:
            continue
        return (
            f"{path} is whole (iteration {meta['iter']}): continue from it with the same command "
            f"and --resume {path}"
        )
    return f"no other checkpoint in {work_dir} is whole; remove {work_dir} and start anew"
