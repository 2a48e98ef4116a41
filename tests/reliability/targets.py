"""A target is a reader under attack: a valid input, how it is spoilt, and what must hold once read.

Each is a function of an empty folder. It returns ``spoil``, which writes a hostile input with draws
from a ``Random`` and returns its path, and ``read``, which reads that path and checks the result.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

Spoil = Callable[[Random], Path]
Read = Callable[[Path], object]
Target = Callable[[Path], tuple[Spoil, Read]]


def targets() -> dict[str, Target]:
    """Every reader of the project by name."""
    from tests.reliability import pretrain_targets, results_targets, transfer_targets

    return {**results_targets.TARGETS, **pretrain_targets.TARGETS, **transfer_targets.TARGETS}
