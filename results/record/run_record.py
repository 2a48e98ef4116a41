"""The run record: what one finished run was, and what came out of it.

One run writes one `record.json` into its folder. The file is the only thing that crosses from
training to evaluation, so it is checked on both sides: a record that cannot be traced or
compared is refused where it is written, not discovered when a table is drawn.
"""

from __future__ import annotations

import json
import os
import re
import typing
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from results.record.files import write_atomically
from results.record.migration import migrate
from results.record.plain_json import MAX_ENTRIES, plain, read_json
from results.record.protocol import incomplete
from results.record.text import MAX_TEXT, shown

SCHEMA_VERSION: Literal[4] = 4
FILE_NAME = "record.json"
MAX_BYTES = 4 << 20  # of a file; ours have some KiB
MAX_NAME = 300  # characters of a name that becomes a row, a heading or a part of a file name
Kind = Literal["pretrain", "linear", "transfer"]
KINDS = typing.get_args(Kind)

_PERCENT = re.compile(r"a[pr]\d*|top[15]")

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, pattern=r"\S")]
Sha256 = Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]{64}$")]
Utc = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]  # ISO 8601
Count = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=MAX_ENTRIES)]
AnyJson = Annotated[Any, Meta(extra_json_schema={"$ref": "#/$defs/json"})]
Object = Annotated[dict[Text, AnyJson], Meta(max_length=MAX_ENTRIES)]


class Backbone(TypedDict, total=False):
    """The file that a run took its weights from, or wrote; `provenance` is what it says of them."""

    path: Text | None
    sha256: Sha256
    provenance: Object | None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One finished run. Building one checks it; every error is a ValueError that names the field.

    `deviations` lists in words what differs from the protocol that the paper states ("1 epoch
    instead of 12"); empty means the protocol exactly, and only such a record may stand in one of
    the paper's tables. Paths in `artifacts` are relative to the record's own folder.
    """

    kind: Kind
    method: Name  # "loco", ..., "supervised", "random", or a new one's own name
    encoder: Name  # "resnet50", "shufflenetv2_50", ...
    pretrain_epochs: Count | None  # of the backbone; None for "random" and "supervised"
    dataset: Name  # what this run trained on: "coco2017", "scenes_coco", ...
    dataset_fingerprint: Sha256
    protocol: Name  # "frozen_1x", "frozen_64ep", "demo_frozen", "pretrain", ...
    deviations: Texts
    split: int | None
    seed: int
    config: Text  # path as the user gave it, relative to the repository
    config_hash: Sha256  # of the resolved config
    git_commit: Text  # "" where unknown, "+dirty" appended where files were modified
    world_size: AtLeastOne
    global_batch_size: AtLeastOne
    precision: Name  # "float32", "bfloat16"
    norm: Name  # the norm that really ran, in words
    learning_rate: float
    versions: Annotated[dict[Text, Text], Meta(max_length=MAX_ENTRIES)]
    hardware: Object
    backbone: Backbone | None  # None where no weights were loaded
    # percent ("box_ap", "knn_top1_res2"); of a pretraining "loss_<unit>"
    metrics: Annotated[dict[Name, float], Meta(max_length=MAX_ENTRIES)]
    wall_time_s: Annotated[float, Meta(ge=0)]
    peak_memory_mib: float | None
    started_at: Utc
    finished_at: Utc
    artifacts: Object
    # Units, decoder, temperature and sharing of the backbone's pretraining; {} where there was none
    # or nobody knows. `setting` says what of them differs from the method's own ("conv_blocks=2"),
    # which tells the rows of Tables 4 and 5 apart; "" for the method as it is.
    settings: Object = field(default_factory=dict)
    setting: Text = ""
    # Of linear and transfer: images that the metrics were computed on, and how many there are of
    # them; None in records older than that. Fewer is a deviation.
    evaluated_images: Count | None = None
    expected_images: Count | None = None
    schema_version: Literal[4] = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, kind in _types().items():
            value = plain(name, getattr(self, name))
            object.__setattr__(self, name, _converted(name, value, kind))
        for name in ("started_at", "finished_at"):
            parse_utc(getattr(self, name), name)
        _check_epochs(self)
        if self.kind in ("linear", "transfer"):
            _check_readout(self)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the record atomically; return its file.

        `path` is a `.json` file, or a folder, made where it is missing, for FILE_NAME. The previous
        file stays whole until the new one is complete on disk.
        """
        self.__post_init__()  # the dicts may have been changed since
        target = Path(path)
        if target.suffix != ".json" or target.is_dir():
            target = target / FILE_NAME
        content = {each.name: getattr(self, each.name) for each in fields(self)}
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
        content = read_json(path, "run record", MAX_BYTES)
        if not isinstance(content, dict):
            found = type(content).__name__
            raise ValueError(f"{path}: found a JSON {found}, expected an object with a run record")
        version = content.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerRecord(
                f"{path}: schema_version {shown(version)} is newer than {SCHEMA_VERSION}, the "
                "newest that this code reads; update loco-transfer"
            )
        try:
            content = migrate(content, SCHEMA_VERSION)
            _check_names(content)
            return cls(**content)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: {error}") from error


class NewerRecord(ValueError):
    """A record that a newer version of this code wrote, and that is whole."""


@cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(RunRecord, include_extras=True)


def _converted(name: str, value: Any, kind: Any) -> Any:
    """`value` as the type `kind` has it (lists as tuples, integers as floats)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        known = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        reason = f"expected one of {', '.join(map(str, known))}" if known else str(error)
        reason = reason[:1].lower() + reason[1:]
        raise ValueError(f"{name}: found {shown(value)}, {reason}") from error


def _check_names(content: dict[str, Any]) -> None:
    names = {each.name for each in fields(RunRecord)}
    missing, unknown = sorted(names - content.keys()), sorted(content.keys() - names)
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"unknown: {shown(', '.join(unknown))[1:-1]}"] if unknown else []
    if parts:
        raise ValueError(
            f"fields do not match schema_version {SCHEMA_VERSION} ({'; '.join(parts)})"
        )


def _check_epochs(record: RunRecord) -> None:
    pretrained = record.method not in ("supervised", "random")
    if pretrained != (record.pretrain_epochs is not None):
        expected = "an integer from 0" if pretrained else "None"
        raise ValueError(
            f"pretrain_epochs: found {record.pretrain_epochs} with method {record.method!r}, "
            f"expected {expected}"
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
    if (evaluated is None) != (expected is None):
        raise ValueError(
            f"evaluated_images: found {evaluated} with expected_images {expected}, expected two "
            "integers, or None for both"
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
