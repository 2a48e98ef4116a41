"""mmengine's files, written whole or not at all.

Checkpoints with ``backend_args={"backend": "atomic"}``, the config with :class:`AtomicRunner`.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from results.record.files import write_atomically


@register_backend("atomic")
class AtomicFiles(LocalBackend):
    """Local files that are written under another name first, and safe from a power cut."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Replace the file in one step.

        Raises:
            NotWritten: no room, no right, or another fault of the file system.
        """
        write_atomically(filepath, obj)
        descriptor = os.open(Path(filepath).parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the new name, before an older checkpoint is removed
        finally:
            os.close(descriptor)


# Some 200 lines of mmengine's in front of the first of the run; they are for the log file alone.
DUMPS = ("Config:\n", "Hooks will be executed", "\n" + 60 * "-" + "\nSystem environment")


class AtomicRunner(Runner):
    """mmengine's Runner, but for the config and the log that it leaves in the work folder.

    mmengine empties the config first and then takes a while to put the text into shape; a run that
    was killed meanwhile had no config any more, and nobody could load its detector. And a log that
    cannot be written is told of once, not with a traceback for every line.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """mmengine's, whose file may become unwritable."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = told_once(handler)  # type: ignore[method-assign, assignment]
            else:
                handler.addFilter(lambda record: not record.getMessage().startswith(DUMPS))
        return logger

    @master_only
    def dump_config(self) -> None:
        """The resolved config, under the name of the file that it was read from."""
        name = Path(self.cfg.filename or f"{self.timestamp}.py").name
        AtomicFiles().put(self.cfg.pretty_text.encode(), Path(self.work_dir) / name)


def told_once(handler: logging.FileHandler) -> Callable[[logging.LogRecord], None]:
    """What a handler does where it cannot write: say so the first time, then leave it."""
    faults: list[str] = []

    def tell(record: logging.LogRecord) -> None:
        faults.append(str(sys.exc_info()[1]))
        if len(faults) == 1:
            print(f"warning: cannot write {handler.baseFilename}: {faults[0]}", file=sys.stderr)

    return tell
