"""What a file of the project says, read to its end: whole or not, equal to another or not."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pretrain.backbone_file import load_backbone, read_provenance
from pretrain.encoders import build_encoder
from pretrain.engine.run_folder import LAST, read_meta
from results.record.run_record import FILE_NAME, RunRecord

LOGS = re.compile(r"\d{8}_\d{6}|.*\.(log|lock)|failed\.txt|journal|\.refreshed")
DROPPED = re.compile(r"(epoch|iter)_\d+\.pth")  # checkpoints: only the newest are kept
GROWING = "losses.csv"
ENDS = {".html": b"</html>", ".pdf": b"%%EOF"}

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
        yield from (Path(parent, name) for name in names if not LOGS.fullmatch(name))


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
                content = read(path).replace(bytes(folder), b"")
                found[name] = hashlib.sha256(content).hexdigest()
            except (
                ValueError,
                OSError,
                RuntimeError,
                SyntaxError,
                pickle.UnpicklingError,
            ) as error:
                faults.append(f"not whole: {name}: {error}")
    return found, faults


def read(path: Path) -> bytes:
    """What a file says, apart from circumstances and the order of names.

    The bytes of a safetensors file differ from one writing to the next in the order of its
    metadata. A config that mmengine dumps names its folder, so it only has to be whole.

    Raises:
        Exception: the file is not whole.
    """
    content = path.read_bytes()
    if path.name == FILE_NAME:
        return plain(vars(RunRecord.read(path)))
    if path.name == LAST:
        name = Path(content.decode()).name
        if not (path.parent / name).is_file():
            raise ValueError(f"it names {name!r}, which is not there")
        return name.encode()
    if path.suffix == ".json":
        return plain(json.loads(content))
    if path.suffix == ".pth":
        read_meta(path)
        return plain(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix == ".safetensors":
        encoder = build_encoder(read_provenance(path).encoder)
        return plain(vars(load_backbone(encoder, path))) + plain(encoder.state_dict())
    if path.suffix == ".py":
        compile(content, str(path), "exec")
        if b"model = " not in content or b"work_dir = " not in content:
            raise ValueError(f"a config that ends after {len(content)} bytes")
        return b""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
    if path.suffix == ".csv":
        lengths = {len(row) for row in csv.reader(io.StringIO(content.decode()))}
        if len(lengths) != 1 or not content.endswith(b"\n"):
            raise ValueError("its lines are of different lengths, or the last one has no end")
    if not content.rstrip().endswith(ENDS.get(path.suffix, b"")):
        raise ValueError("its end is missing")
    return content


def plain(value: Any) -> bytes:
    """Tensors, numbers, text and containers of them, bit by bit, without the circumstances."""
    if isinstance(value, torch.Tensor):
        shape = f"{value.dtype}{tuple(value.shape)}".encode()
        return shape + value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        parts = {repr(k).encode(): v for k, v in value.items() if k not in CIRCUMSTANCES}
        return b"{" + b"".join(key + plain(parts[key]) for key in sorted(parts)) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(map(plain, value)) + b"]"
    return repr(value).encode()
