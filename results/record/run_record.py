"""The run record: what one finished run was, and what came out of it.

One run writes one `record.json` into its folder. The file is the only thing that crosses from
training to evaluation, so it is checked on both sides: a record that cannot be traced or
compared is refused where it is written, not discovered when a table is drawn.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from results.record.field_types import MAX_NAME, conform, shown
from results.record.files import regular_file, write_atomically
from results.record.migration import migrate
from results.record.protocol import incomplete

SCHEMA_VERSION = 3
FILE_NAME = "record.json"
MAX_BYTES = 4 << 20  # of a file; ours have some KiB
KINDS = ("pretrain", "linear", "transfer")
METHODS = ("simclr", "gim", "loco", "supervised", "random")
NAMES = ("encoder", "dataset", "protocol", "precision", "norm")  # fields that are never empty

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PERCENT = re.compile(r"a[pr]\d*|top[15]")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One finished run. Building one checks it; every error is a ValueError that names the field.

    `deviations` lists in words what differs from the protocol that the paper states ("1 epoch
    instead of 12"); empty means the protocol exactly, and only such a record may stand in one of
    the paper's tables. Paths in `artifacts` are relative to the record's own folder.
    """

    kind: str  # one of KINDS
    method: str  # one of METHODS
    encoder: str  # "resnet50", "shufflenetv2_50", ...
    pretrain_epochs: int | None  # of the backbone; None for "random" and "supervised"
    dataset: str  # what this run trained on: "coco2017", "scenes_coco", ...
    dataset_fingerprint: str  # sha256
    protocol: str  # "frozen_1x", "frozen_64ep", "demo_frozen", "pretrain", ...
    deviations: tuple[str, ...]
    split: int | None
    seed: int
    config: str  # path as the user gave it, relative to the repository
    config_hash: str  # sha256 of the resolved config
    git_commit: str  # "" where unknown, "+dirty" appended where files were modified
    world_size: int
    global_batch_size: int
    precision: str  # "float32", "bfloat16"
    norm: str  # the norm that really ran, in words
    learning_rate: float
    versions: dict[str, str]
    hardware: dict[str, Any]
    backbone: dict[str, Any] | None  # {"path", "sha256", "provenance"}; None where none was loaded
    metrics: dict[str, float]  # percent ("box_ap", "knn_top1_res2"); pretrain: "loss_<unit>"
    wall_time_s: float
    peak_memory_mib: float | None
    started_at: str  # ISO 8601, UTC
    finished_at: str
    artifacts: dict[str, Any]
    # Units, decoder, temperature and sharing of the backbone's pretraining, which tell the rows of
    # Tables 4 and 5 apart; {} where there was none or nobody knows.
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Of linear and transfer: images that the metrics were computed on, and how many there are of
    # them; None in records older than that. Fewer is a deviation.
    evaluated_images: int | None = None
    expected_images: int | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, hint in _hints().items():
            object.__setattr__(self, name, conform(name, getattr(self, name), hint))
        _check_values(self)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the record atomically; return its file.

        `path` is a `.json` file, or a folder, made where it is missing, for FILE_NAME. The previous
        file stays whole until the new one is complete on disk.
        """
        self.__post_init__()  # the dicts may have been changed since
        target = Path(path)
        if target.suffix != ".json" or target.is_dir():
            target = target / FILE_NAME
        content = {}
        for field in dataclasses.fields(self):
            content[field.name] = getattr(self, field.name)
            try:
                json.dumps(content[field.name], allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{field.name} cannot be written as JSON: {error}") from error
        text = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
        if len(text) > MAX_BYTES:
            longest = max(content, key=lambda name: len(json.dumps(content[name])))
            raise ValueError(
                f"{longest}: the record has {len(text)} bytes, most of them there, expected "
                f"{MAX_BYTES} at most"
            )
        return write_atomically(target, text)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> RunRecord:
        """Read and check a record; a ValueError names the file, what was found and expected."""
        if regular_file(path).stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: larger than {MAX_BYTES >> 20} MiB; expected a run record")
        try:
            content = json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not a JSON file ({error}); expected a run record") from error
        if not isinstance(content, dict):
            found = type(content).__name__
            raise ValueError(f"{path}: found a JSON {found}, expected an object with a run record")
        version = content.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerRecord(
                f"{path}: schema_version {version} is newer than {SCHEMA_VERSION}, the newest that "
                "this code reads; update loco-transfer"
            )
        content = migrate(content, SCHEMA_VERSION)
        names = {field.name for field in dataclasses.fields(cls)}
        missing, unknown = sorted(names - content.keys()), sorted(content.keys() - names)
        if missing or unknown:
            parts = [f"missing: {', '.join(missing)}"] if missing else []
            parts += [f"unknown: {shown(', '.join(unknown))[1:-1]}"] if unknown else []
            raise ValueError(
                f"{path}: fields do not match schema_version {SCHEMA_VERSION} ({'; '.join(parts)})"
            )
        try:
            return cls(**content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


class NewerRecord(ValueError):
    """A record that a newer version of this code wrote, and that is whole."""


@cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(RunRecord)


def _check_values(record: RunRecord) -> None:
    """Check what types cannot say."""
    for name, known in (
        ("kind", KINDS),
        ("method", METHODS),
        ("schema_version", (SCHEMA_VERSION,)),
    ):
        if (found := getattr(record, name)) not in known:
            raise ValueError(
                f"{name}: found {shown(found)}, expected one of {', '.join(map(str, known))}"
            )
    for name in NAMES:
        if not getattr(record, name).strip():
            raise ValueError(f"{name}: found an empty string, expected a name")
    for name, text in (
        *((n, getattr(record, n)) for n in NAMES),
        *(("metrics", m) for m in record.metrics),
    ):
        if len(text) > MAX_NAME:
            raise ValueError(
                f"{name}: found {shown(text)} of {len(text)} characters, expected {MAX_NAME} at "
                "most"
            )
    for name in ("dataset_fingerprint", "config_hash"):
        _check_sha256(name, getattr(record, name))
    for name, least in (("world_size", 1), ("global_batch_size", 1), ("wall_time_s", 0)):
        if getattr(record, name) < least:
            raise ValueError(f"{name}: found {getattr(record, name)}, expected at least {least}")
    for name in ("started_at", "finished_at"):
        parse_utc(getattr(record, name), name)
    pretrained = record.method not in ("supervised", "random")
    if pretrained != (record.pretrain_epochs is not None) or (record.pretrain_epochs or 0) < 0:
        expected = "an integer from 0" if pretrained else "None"
        raise ValueError(
            f"pretrain_epochs: found {record.pretrain_epochs} with method {record.method!r}, "
            f"expected {expected}"
        )
    if record.backbone is not None:
        _check_backbone(record.backbone)
    if record.kind in ("linear", "transfer"):
        _check_readout(record)


def _check_backbone(backbone: dict[str, Any]) -> None:
    """Check what it says of itself, whatever the run is."""
    if "sha256" in backbone:
        _check_sha256("backbone['sha256']", backbone["sha256"])
    for name, kind in (("path", str), ("provenance", dict)):
        found = backbone.get(name)
        if found is not None and not isinstance(found, kind):
            raise ValueError(
                f"backbone[{name!r}]: found {shown(found)}, expected {kind.__name__} or null"
            )


def _check_readout(record: RunRecord) -> None:
    if record.method == "random" and record.backbone is not None:
        raise ValueError("backbone: found one with method 'random', expected None")
    if record.method != "random":
        backbone = record.backbone or {}
        if absent := [key for key in ("path", "sha256", "provenance") if key not in backbone]:
            raise ValueError(
                f"backbone: lacks {', '.join(absent)}; a {record.kind} run on {record.method!r} "
                "weights names the file, its sha256 and its provenance"
            )
    evaluated, expected = record.evaluated_images, record.expected_images
    if (evaluated is None) != (expected is None) or min(evaluated or 0, expected or 0) < 0:
        raise ValueError(
            f"evaluated_images: found {evaluated} with expected_images {expected}, expected two "
            "integers from 0, or None for both"
        )
    if untold := set(incomplete(evaluated, expected)) - set(record.deviations):
        raise ValueError(f"deviations: lacks {untold.pop()!r}")
    for name, value in record.metrics.items():
        parts = name.split("_")  # "mask_ap50", "box_ar_s", "knn_top1_res2"
        if any(_PERCENT.fullmatch(part) for part in parts) and not 0 <= value <= 100:
            raise ValueError(
                f"metrics[{name!r}]: found {value}, expected percent from 0 to 100; leave out an "
                "AP that is not defined (pycocotools says -1)"
            )


def _check_sha256(name: str, value: object) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(
            f"{name}: found {shown(value)}, expected a sha256 as 64 lower-case hex digits"
        )


def parse_utc(text: str, name: str = "time") -> datetime:
    """An ISO 8601 time in UTC ("2026-01-31T12:00:00+00:00", "...Z") as an aware datetime."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() != timedelta(0):
        raise ValueError(
            f"{name}: found {shown(text)}, expected ISO 8601 in UTC such as "
            "2026-01-31T12:00:00+00:00"
        )
    return moment


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
