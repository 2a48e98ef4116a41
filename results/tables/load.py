"""Records from any number of folders, and everything that was wrong with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from results.record.run_record import FILE_NAME, RunRecord, parse_utc
from results.record.text import is_printable, shown
from results.tables.backbone import backbone_deviations, unexplained

FOOTPRINTS = "footprint*.json"  # reports that may be named beside the runs

# Two records that agree in all of these are the same run, done twice. What the backbone's
# provenance says of its pretraining belongs to it: weights from two seeds are two samples, and
# those of two ablations are two rows.
IDENTITY = (
    *("kind", "method", "encoder", "pretrain_epochs", "dataset"),
    *("protocol", "deviations", "split", "seed", "setting"),
)
PRETRAINING_IDENTITY = ("dataset", "seed", "deviations", "settings")  # of the provenance


@dataclass(frozen=True)
class Run:
    """A record and its file."""

    record: RunRecord
    path: str

    @cached_property
    def finished_at(self) -> datetime:
        return parse_utc(self.record.finished_at)

    @cached_property
    def backbone_deviations(self) -> tuple[str, ...]:
        """What differs from the paper's pretraining and is not said by the record's `setting`."""
        return unexplained(backbone_deviations(self.record), self.record.setting)

    @property
    def deviations(self) -> tuple[str, ...]:
        """The run's own and its backbone's."""
        return (*self.record.deviations, *self.backbone_deviations)


@dataclass(frozen=True)
class Problem:
    """One thing a reader of the tables should know; none of them stops the others."""

    kind: str  # "bad" (left out), "superseded" (a later run replaces it), "warning" (kept)
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.reason}"


def load_records(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Run], list[Problem]]:
    """Read every `record.json` at or below `paths`.

    Hidden folders and links below a path are not followed. A record that cannot be read, or whose
    path cannot be printed, becomes a `Problem`, never an error. Of records that agree in `IDENTITY`
    (and in what their backbones say under `PRETRAINING_IDENTITY`) the one with the latest
    `finished_at` is kept, of those that finished in the same second the last by path; the others
    are listed.
    """
    problems: list[Problem] = []
    runs: dict[Path, Run] = {}  # by resolved path: overlapping folders count once
    for path in map(Path, paths):
        if path.is_file() and path.match(FOOTPRINTS):
            continue
        for file in find_files(path, FILE_NAME, problems):
            real = file.resolve()
            if real in runs:
                continue
            if not is_printable(str(file)):
                problems.append(Problem("bad", shown(str(file)), "its path cannot be printed"))
                continue
            try:
                runs[real] = Run(RunRecord.read(file), str(real))
            except (OSError, ValueError) as error:
                reason = str(error).removeprefix(f"{file}: ")
                problems.append(Problem("bad", str(file), reason))
    kept = _latest(runs.values(), problems)
    problems += _fingerprint_warnings(kept)
    return kept, list(dict.fromkeys(problems))


def artifact_path(record_path: str | os.PathLike[str], relative: object) -> Path:
    """The file that a record's artifact names, kept inside the record's own folder.

    Raises:
        ValueError: an absolute path, one with `..`, or a link that leads out of the folder.
        FileNotFoundError: nothing is there.
    """
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise ValueError(f"artifact {relative!r} is not a path")
    posix, windows = PurePosixPath(relative), PureWindowsPath(relative)
    if posix.is_absolute() or windows.drive or "\\" in relative or ".." in posix.parts:
        raise ValueError(f"artifact {relative!r} does not stay inside the record's folder")
    folder = Path(record_path).resolve().parent
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"artifact {relative!r} is a link out of the record's folder")
    if not path.is_file():
        raise FileNotFoundError(f"artifact {relative!r} is not there")
    return path


def find_files(root: Path, pattern: str, problems: list[Problem]) -> Iterator[Path]:
    """`root` where it is a file, else the files below it whose name fits `pattern`.

    Hidden folders are left out; links, and what cannot be looked into, become problems.
    """
    if not root.exists():
        problems.append(Problem("bad", shown(str(root))[1:-1], "no such file or folder"))
        return
    if not root.is_dir():
        yield root
        return

    def unreadable(error: OSError) -> None:
        name = shown(str(error.filename))[1:-1]
        problems.append(Problem("bad", name, error.strerror or str(error)))

    for folder, subfolders, names in os.walk(root, onerror=unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for file in (Path(folder, name) for name in sorted(names) if fnmatch(name, pattern)):
            if file.is_symlink() or not file.is_file():
                problems.append(Problem("bad", str(file), "a link or not a plain file; not read"))
            else:
                yield file


def _latest(runs: Iterable[Run], problems: list[Problem]) -> list[Run]:
    best: dict[tuple[object, ...], Run] = {}
    found = list(runs)
    for run in sorted(found, key=lambda run: (run.finished_at, run.path)):
        earlier = best.get(key := _identity(run.record))
        if earlier:
            reason = f"the same run finished later: {run.path} ({run.record.finished_at})"
            problems.append(Problem("superseded", earlier.path, reason))
        best[key] = run
    kept = {run.path for run in best.values()}
    return [run for run in found if run.path in kept]


def _identity(record: RunRecord) -> tuple[object, ...]:
    provenance = (record.backbone or {}).get("provenance") or {}
    pretraining = json.dumps([provenance.get(name) for name in PRETRAINING_IDENTITY])
    settings = json.dumps(record.settings, sort_keys=True)
    return (*(getattr(record, name) for name in IDENTITY), pretraining, settings)


def _fingerprint_warnings(runs: Iterable[Run]) -> list[Problem]:
    """Runs under one dataset name whose data differ cannot be compared: say so."""
    groups: dict[tuple[object, ...], dict[str, str]] = {}
    for run in runs:
        record = run.record
        key = (record.kind, record.dataset, record.protocol, record.split)
        groups.setdefault(key, {}).setdefault(record.dataset_fingerprint, run.path)
    return [
        Problem(
            "warning",
            path,
            f"dataset {key[1]!r} has fingerprint {fingerprint[:12]} here and other runs of "
            f"protocol {key[2]!r} have another: they did not see the same data",
        )
        for key, found in groups.items()
        if len(found) > 1
        for fingerprint, path in found.items()
    ]
