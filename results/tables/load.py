"""Records from any number of folders as one tidy DataFrame, and everything that was wrong.

One row per run. Columns: the fields of `RunRecord` under their own names, each metric as a float
column `metric_<name>` (NaN where a run has none), `record_path` (the file), `backbone_sha256`
(None where none was loaded), `recorded_at` (`finished_at` as an aware datetime) and
`backbone_deviations` (what differs from the paper's pretraining).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from results.record.run_record import FILE_NAME, RunRecord, parse_utc
from results.record.text import is_printable, shown
from results.tables.backbone import backbone_deviations

METRIC_PREFIX = "metric_"
FOOTPRINTS = "footprint*.json"  # reports that may be named beside the runs

# Two records that agree in all of these are the same run, done twice. What the backbone's
# provenance says of its pretraining belongs to it: weights from two seeds are two samples, and
# those of two ablations are two rows.
IDENTITY = (
    "kind",
    "method",
    "encoder",
    "pretrain_epochs",
    "dataset",
    "protocol",
    "deviations",
    "split",
    "seed",
)
PRETRAINING_IDENTITY = ("dataset", "seed", "deviations", "settings")  # of the provenance


@dataclass(frozen=True)
class Problem:
    """One thing a reader of the tables should know; none of them stops the others."""

    kind: str  # "bad" (left out), "superseded" (a later run replaces it), "warning" (kept)
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.reason}"


def load_records(
    paths: Iterable[str | os.PathLike[str]],
) -> tuple[pd.DataFrame, list[Problem]]:
    """Read every `record.json` at or below `paths`.

    Hidden folders and links below a path are not followed. A record that cannot be read, or whose
    path cannot be printed, becomes a `Problem`, never an error. Of records that agree in `IDENTITY`
    (and in what their backbones say under `PRETRAINING_IDENTITY`) the one with the latest
    `finished_at` is kept, of those that finished in the same second the last by path; the others
    are listed.
    """
    problems: list[Problem] = []
    records: dict[Path, RunRecord] = {}  # by resolved path: overlapping folders count once
    for path in paths:
        for file in _find(Path(path), problems):
            real = file.resolve()
            if real in records:
                continue
            if not is_printable(str(file)):
                problems.append(Problem("bad", shown(str(file)), "its path cannot be printed"))
                continue
            try:
                records[real] = RunRecord.read(file)
            except (OSError, ValueError) as error:
                problems.append(Problem("bad", str(file), _without_prefix(str(error), file)))
    kept = _latest(records, problems)
    problems += _fingerprint_warnings(kept)
    return _as_frame(kept), list(dict.fromkeys(problems))


def artifact_path(record_path: str | os.PathLike[str], relative: object) -> Path:
    """The file that a record's artifact names, kept inside the record's own folder.

    Raises ValueError for an absolute path, one with `..`, or a link that leads out of the folder;
    FileNotFoundError where nothing is there.
    """
    if not isinstance(relative, str) or not relative:
        raise ValueError(f"artifact {relative!r} is not a path")
    posix, windows = PurePosixPath(relative), PureWindowsPath(relative)
    if posix.is_absolute() or windows.drive or "\\" in relative or ".." in posix.parts:
        raise ValueError(f"artifact {relative!r} does not stay inside the record's folder")
    if "\0" in relative:
        raise ValueError(f"artifact {relative!r} is not a path")
    folder = Path(record_path).resolve().parent
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"artifact {relative!r} is a link out of the record's folder")
    if not path.is_file():
        raise FileNotFoundError(f"artifact {relative!r} is not there")
    return path


def _find(root: Path, problems: list[Problem]) -> Iterator[Path]:
    if root.exists() and not root.is_dir():
        if not root.match(FOOTPRINTS):
            yield root
        return
    if not root.exists():
        problems.append(Problem("bad", shown(str(root))[1:-1], "no such file or folder"))
        return

    def unreadable(error: OSError) -> None:
        name = shown(str(error.filename))[1:-1]
        problems.append(Problem("bad", name, error.strerror or str(error)))

    for folder, subfolders, files in os.walk(root, onerror=unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if FILE_NAME in files:
            file = Path(folder, FILE_NAME)
            if file.is_symlink() or not file.is_file():
                problems.append(Problem("bad", str(file), "a link or not a plain file; not read"))
            else:
                yield file


def _latest(records: dict[Path, RunRecord], problems: list[Problem]) -> dict[Path, RunRecord]:
    best: dict[tuple[object, ...], Path] = {}
    in_time = sorted(records, key=lambda path: (parse_utc(records[path].finished_at), str(path)))
    for path in in_time:
        key = _identity(records[path])
        if key in best:
            reason = f"the same run finished later: {path} ({records[path].finished_at})"
            problems.append(Problem("superseded", str(best[key]), reason))
        best[key] = path
    kept = set(best.values())
    return {path: record for path, record in records.items() if path in kept}


def _identity(record: RunRecord) -> tuple[object, ...]:
    provenance = (record.backbone or {}).get("provenance")
    provenance = provenance if isinstance(provenance, dict) else {}
    pretraining = json.dumps([provenance.get(name) for name in PRETRAINING_IDENTITY])
    settings = json.dumps(record.settings, sort_keys=True)
    return (*(getattr(record, name) for name in IDENTITY), pretraining, settings)


def _fingerprint_warnings(records: dict[Path, RunRecord]) -> list[Problem]:
    """Runs under one dataset name whose data differ cannot be compared: say so."""
    groups: dict[tuple[object, ...], dict[str, Path]] = {}
    for path, record in records.items():
        key = (record.kind, record.dataset, record.protocol, record.split)
        groups.setdefault(key, {}).setdefault(record.dataset_fingerprint, path)
    return [
        Problem(
            "warning",
            str(path),
            f"dataset {key[1]!r} has fingerprint {fingerprint[:12]} here and other runs of "
            f"protocol {key[2]!r} have another: they did not see the same data",
        )
        for key, found in groups.items()
        if len(found) > 1
        for fingerprint, path in found.items()
    ]


def _as_frame(records: dict[Path, RunRecord]) -> pd.DataFrame:
    names = [field.name for field in dataclasses.fields(RunRecord) if field.name != "metrics"]
    rows = []
    for path, record in records.items():
        row: dict[str, object] = {name: getattr(record, name) for name in names}
        row |= {METRIC_PREFIX + name: value for name, value in record.metrics.items()}
        row["record_path"] = str(path)
        row["backbone_sha256"] = (record.backbone or {}).get("sha256")
        row["recorded_at"] = parse_utc(record.finished_at)
        row["backbone_deviations"] = backbone_deviations(row)
        rows.append(row)
    extra = ["record_path", "backbone_sha256", "recorded_at", "backbone_deviations"]
    metrics = sorted({key for row in rows for key in row if key.startswith(METRIC_PREFIX)})
    frame = pd.DataFrame(rows, columns=[*names, *extra, *metrics])
    for name in ("pretrain_epochs", "split"):
        frame[name] = frame[name].astype("Int64")  # an integer or <NA>
    return frame


def _without_prefix(message: str, file: Path) -> str:
    return message.removeprefix(f"{file}: ")
