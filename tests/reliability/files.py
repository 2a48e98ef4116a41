"""What a file of the project says, read to its end: whole or not, equal to another or not."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pretrain.encoders import build_encoder
from pretrain.engine.resume import LAST, read_meta
from pretrain.export import load_backbone, read_provenance
from results.record.run_record import FILE_NAME, RunRecord

LOGS = re.compile(r"\d{8}_\d{6}|.*\.(log|lock)|failed\.txt|journal|\.refreshed")
DROPPED = re.compile(r"(epoch|iter)_\d+\.pth")  # checkpoints: only the newest are kept
GROWING = "losses.csv"

# When, where and by which start it was written, not what came out. mmengine's message hub serves
# its log: a run of which only the validation was left counts one iteration more there.
CIRCUMSTANCES = {
    "cfg", "checkpoint", "elapsed_s", "experiment_name", "finished_at", "git_commit",
    "message_hub", "mmengine_version", "peak_memory_mib", "started_at", "time", "wall_time_s",
}  # fmt: skip


def files(folder: Path) -> Iterator[Path]:
    """All files, half-written ones with them, apart from logs and locks."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not LOGS.fullmatch(name)]
        for name in names:
            if not LOGS.fullmatch(name):
                yield Path(parent, name)


def is_partial(path: Path, folder: Path) -> bool:
    """Whether its name says that it is being written."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def meanings(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The meaning of every file that has its final name, and which of them are not whole."""
    found, faults = {}, []
    for path in sorted(files(folder)):
        if not is_partial(path, folder):
            name = path.relative_to(folder).as_posix()
            try:
                found[name] = meaning(path, folder)
            except ValueError as error:
                faults.append(f"not whole: {name}: {error}")
    return found, faults


def meaning(path: Path, folder: Path) -> str:
    """sha256 of what a file in a run's folder says, wherever that lies.

    Circumstances are left out, and so is the order of names.

    Bytes of a safetensors file cannot be compared: the order of its metadata changes from one
    writing to the next. A config that mmengine dumps names its folder, so it only has to be whole.

    Raises:
        ValueError: the file is not whole.
    """
    read = READERS.get(path.name) or READERS.get(path.suffix) or Path.read_bytes
    try:
        return hashlib.sha256(read(path).replace(bytes(folder), b"")).hexdigest()
    except (OSError, RuntimeError, SyntaxError, pickle.UnpicklingError) as error:
        raise ValueError(str(error)) from error


def plain_bytes(value: Any) -> bytes:
    """Tensors, numbers, text and containers of them, bit by bit, without the circumstances."""
    if isinstance(value, torch.Tensor):
        shape = f"{value.dtype}{tuple(value.shape)}".encode()
        return shape + value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        parts = [(repr(k).encode(), v) for k, v in value.items() if k not in CIRCUMSTANCES]
        return b"{" + b"".join(k + plain_bytes(v) for k, v in sorted(parts, key=_first)) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(map(plain_bytes, value)) + b"]"
    return repr(value).encode()


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _checkpoint(path: Path) -> bytes:
    read_meta(path)
    return plain_bytes(torch.load(path, map_location="cpu", weights_only=True))


def _backbone(path: Path) -> bytes:
    provenance = load_backbone(build_encoder(read_provenance(path).encoder), path)
    return plain_bytes(vars(provenance))


def _record(path: Path) -> bytes:
    return plain_bytes(vars(RunRecord.read(path)))


def _evaluation(path: Path) -> bytes:
    return plain_bytes(json.loads(path.read_bytes()))


def _last_checkpoint(path: Path) -> bytes:
    name = Path(path.read_text()).name
    if not (path.parent / name).is_file():
        raise ValueError(f"it names {name!r}, which is not there")
    return name.encode()


def _config(path: Path) -> bytes:
    content = path.read_bytes()
    compile(content, str(path), "exec")
    if b"model = " not in content or b"work_dir = " not in content:
        raise ValueError(f"a config that ends after {len(content)} bytes")
    return b""


def _json(path: Path) -> bytes:
    content = path.read_bytes()
    json.loads(content)
    return content


def _picture(path: Path) -> bytes:
    with Image.open(path) as picture:
        picture.load()
    return path.read_bytes()


def _csv(path: Path) -> bytes:
    text = path.read_text()
    if len({len(row) for row in csv.reader(io.StringIO(text))}) != 1 or not text.endswith("\n"):
        raise ValueError("its lines are of different lengths, or the last one has no end")
    return text.encode()


def _ends_with(ending: bytes) -> Callable[[Path], bytes]:
    def read(path: Path) -> bytes:
        content = path.read_bytes()
        if not content.rstrip().endswith(ending):
            raise ValueError(f"it does not end with {ending.decode()}")
        return content

    return read


READERS: dict[str, Callable[[Path], bytes]] = {  # by name, else by ending
    FILE_NAME: _record,
    LAST: _last_checkpoint,
    "evaluation.json": _evaluation,
    ".pth": _checkpoint,
    ".safetensors": _backbone,
    ".py": _config,
    ".json": _json,
    ".png": _picture,
    ".csv": _csv,
    ".html": _ends_with(b"</html>"),
    ".pdf": _ends_with(b"%%EOF"),
}
