"""Which checkpoint a run continues from, and whether it is that run's, before anything starts."""

import json
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

LAST = "last_checkpoint"  # a file that names the newest checkpoint


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
        path = work_dir / Path((work_dir / LAST).read_text().strip()).name
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
    if faults := differences(json.loads(meta["config_text"]), json.loads(config_text)):
        raise ValueError(
            f"{path} is of another config; set these back, or choose another --work-dir:\n  "
            + "\n  ".join(faults)
        )
    return path


def read_meta(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its run. Reads the whole file and compares its checksums.

    Raises:
        ValueError: it is damaged, or not written by ``AtomicCheckpoint``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} fails its checksum")
        meta = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["meta"]
    except (
        zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is damaged ({error})") from error
    if missing := {"iter", "world_size", "config_text"} - meta.keys():
        raise ValueError(
            f"{path} does not say {', '.join(sorted(missing))}: another program or version wrote it"
        )
    return meta


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Dotted names whose values differ between two configs, with both values."""
    old, new = _leaves(then), _leaves(now)
    return [
        f"{name}: {old.get(name, 'nothing')} in the checkpoint, {new.get(name, 'nothing')} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, ...) != new.get(name, ...)
    ]


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = dict(enumerate(value)).items()
    else:
        return {name: value}
    return {
        leaf: content
        for key, item in parts
        for leaf, content in _leaves(item, f"{name}.{key}" if name else str(key)).items()
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
