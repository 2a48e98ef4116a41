"""Which checkpoint a run continues from, and whether it is that run's, before anything starts."""

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pretrain.engine.file_kinds import foreign, other_kind
from pretrain.engine.stored_tensors import check_readable, read_stored
from results.record.run_record import FILE_NAME, NewerRecord, RunRecord
from results.record.text import some_of

LAST = "last_checkpoint"  # a file that names the newest checkpoint
LOSSES, BACKBONE, BEST = "losses.csv", "backbone.safetensors", "best_*.pth"  # see pretrain.hooks
DETECTOR = "detector.pth"  # of a finished run, whole, for inference; see transfer.stored_detector
RESULTS = (BACKBONE, BEST, DETECTOR)
READ = (FILE_NAME, LAST, LOSSES)  # at a start
PICTURES = "pictures"  # a folder, see transfer.hooks
SUFFIXES = (".pth", ".safetensors", ".json", ".py", ".csv")
SAVED = re.compile(r"(epoch|iter)_(\d+)\.pth")
ANEW = "start anew in another --work-dir"
MAX_FAULTS = 50  # differences named in an error
PLACES = {"ann_file", "backbone_file", "data_root", "folder", "root"}  # last part of a name
_LENGTH = re.compile(r"(\w+\.)*(epochs|max_epochs|max_iters): ")
_KINDS = {"iter": int, "world_size": int, "config_text": str}  # of what every checkpoint says


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
        raise ValueError(f"{pointer} names no file; {_mend(work_dir, path)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; {_mend(work_dir, path)}")
    return path


def refuse_existing(work_dir: Path) -> None:
    """Refuse to begin a run where one has left something that it would write over.

    Raises:
        ValueError: names what lies there, and the checkpoint to continue from.
    """
    if saved(work_dir) or (work_dir / LAST).exists():
        raise ValueError(
            f"{work_dir} holds an unfinished run. {last_good(work_dir)} Or choose another "
            "--work-dir"
        )
    losses = work_dir / LOSSES
    begun = losses.is_file() and losses.read_bytes().count(b"\n") > 1  # more than its header
    refuse_results(work_dir, (*RESULTS, LOSSES) if begun else RESULTS)


def refuse_results(work_dir: Path, patterns: Sequence[str]) -> None:
    """Refuse to begin a run beside results of another one that cannot be continued.

    Raises:
        ValueError: a file matches one of ``patterns``.
    """
    found = sorted(path.name for pattern in patterns for path in work_dir.glob(pattern))
    if found:
        raise ValueError(
            f"{work_dir} holds {some_of(found)} and no checkpoint to continue from; move "
            "that away, or choose another --work-dir"
        )


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
        return f"{error}; {_mend(work_dir, path)}." if path else f"{error}."
    except OSError as error:
        return f"{error}."
    if path is None:
        return "No checkpoint was saved before it."
    return f"The last good checkpoint is {path}: the same command with --resume continues from it."


def checkpoint_to_resume(
    work_dir: Path, wanted: str, config_text: str, world_size: int
) -> Path | None:
    """The checkpoint to continue from, read to its end and compared with the config.

    Args:
        work_dir: of the run.
        wanted: a checkpoint file; or LAST.
        config_text: from :func:`pretrain.engine.launch.config_text`.
        world_size: number of processes.

    Returns:
        None where the folder has none yet.

    Raises:
        FileNotFoundError: the file is gone.
        PermissionError: it may not be read.
        ValueError: it is damaged, or of another run; says what differs.
    """
    path = last_checkpoint(work_dir) if wanted == LAST else Path(wanted)
    if path is None:
        refuse_results(work_dir, RESULTS)  # losses alone are of a run that had saved none
        return None
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; {_mend(work_dir, path)}")
    if path.match(DETECTOR) or path.match(BEST):
        raise ValueError(
            f"{path} holds weights without the optimizer's state; {_mend(work_dir, path)}"
        )
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
        raise ValueError(
            f"{path} is of another config; set these back, or {ANEW} without --resume"
            + _listed(faults)
        )
    return path


def refuse_another(record: Path, config_text: str) -> None:
    """Refuse a folder that holds the record of another run than this config's.

    Raises:
        ValueError: names what differs, as far as a checkpoint beside the record tells; or the
            record cannot be read.
    """
    try:
        found = RunRecord.read(record).config_hash
    except NewerRecord:
        raise
    except ValueError as error:
        again = "move it away, and --resume ends the run anew from its last checkpoint"
        whole = newest_whole(record.parent)
        mend = f"{again}: mv {record} {record}.damaged" if whole else ANEW
        raise ValueError(f"{error}; {mend}") from error
    if is_hash_of(found, config_text):
        return
    path = newest_whole(record.parent)
    faults = differences(config_in(read_meta(path), path), json.loads(config_text)) if path else []
    if path and not faults:  # a record whose hash counted other values
        return
    raise ValueError(
        f"{record.parent} holds a finished run of another config; {ANEW}{_listed(faults)}"
    )


def _listed(faults: Sequence[str]) -> str:
    """The end of a message; a run that is to be made longer gets an explanation."""
    why = "a run is not made longer or shorter, since its learning rate follows its length"
    length = f" ({why})" if any(map(_LENGTH.match, faults)) else ""
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "".join([length, ":" if faults else ""]) + "".join(
        f"\n  {line}" for line in [*faults[:MAX_FAULTS], *more]
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
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise zipfile.BadZipFile("its entries are packed, which torch.save never does")
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} fails its checksum")
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        # RuntimeError: an entry that is encrypted or packed in a way unknown here
        raise ValueError(f"{path} is damaged ({str(error)[:300]})") from error
    return _meta(path)


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


def config_in(meta: dict[str, Any], path: Path) -> dict[str, Any]:
    """The config that a checkpoint carries; older pretrainings have the images' fingerprint beside.

    Raises:
        ValueError: it is no JSON object; names the file.
    """
    try:
        content = json.loads(meta["config_text"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} carries a config that is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} carries a {type(content).__name__}, expected a config")
    if isinstance(provenance := meta.get("provenance"), dict):
        content.setdefault("dataset", {"fingerprint": provenance.get("dataset_fingerprint")})
    return content


def what_counts(config: dict[str, Any]) -> dict[str, Any]:
    """The values of a config that decide what a run is, by their dotted names.

    Where data, backbone and run folder lie does not; what lies there does, by its fingerprint.
    """
    return {
        name: value
        for name, value in leaves(config).items()
        if name.rpartition(".")[2] not in PLACES and not name.endswith("dataset.name")
    }


def hash_of(config_text: str) -> str:
    """sha256 of all that counts in a config, wherever its data lie."""
    text = json.dumps(what_counts(json.loads(config_text)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_hash_of(digest: str, config_text: str) -> bool:
    """Whether a record's ``config_hash`` is this config's; older ones are of the text itself."""
    return digest in (hash_of(config_text), hashlib.sha256(config_text.encode()).hexdigest())


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Dotted names of what counts and differs between two configs, with both values."""
    old, new = what_counts(then), what_counts(now)
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
