"""Whether a run may begin in its folder or go on there, and from which checkpoint."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from pretrain.engine.run_folder import (
    ANEW,
    BEST,
    DETECTOR,
    LAST,
    LOSSES,
    RESULTS,
    another_whole,
    last_checkpoint,
    last_good,
    newest_whole,
    read_meta,
    saved,
)
from pretrain.engine.same_config import config_in, differences, is_hash_of
from results.record.run_record import NewerRecord, RunRecord
from results.record.text import some_of

MAX_FAULTS = 50  # differences named in an error
_LENGTH = re.compile(r"(\w+\.)*(epochs|max_epochs|max_iters): ")


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


def checkpoint_to_resume(
    work_dir: Path, wanted: str, config_text: str, world_size: int
) -> Path | None:
    """The checkpoint to continue from, read to its end and compared with the config.

    Args:
        work_dir: of the run.
        wanted: a checkpoint file; or LAST.
        config_text: from :func:`pretrain.engine.same_config.config_text`.
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
        raise FileNotFoundError(f"no checkpoint at {path}; {another_whole(work_dir, path)}")
    try:
        if path.match(DETECTOR) or path.match(BEST):
            raise ValueError(f"{path} holds weights without the optimizer's state")
        meta = read_meta(path)
    except ValueError as error:
        raise ValueError(f"{error}; {another_whole(work_dir, path)}") from error
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
        advice = f"{again}: mv {record} {record}.damaged" if whole else ANEW
        raise ValueError(f"{error}; {advice}") from error
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
