"""mmengine's files, written whole or not at all.

Checkpoints with ``backend_args={"backend": "atomic"}``, the config with :class:`AtomicRunner`.
"""

import os
from pathlib import Path

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import Runner

from results.record import NotWritten, write_atomically


@register_backend("atomic")
class AtomicFiles(LocalBackend):
    """Local files that are written under another name first, and safe from a power cut."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Replace the file in one step.

        Raises:
            NotWritten: no room, no right, or another fault of the file system.
        """
        folder = Path(filepath).parent
        try:
            write_atomically(filepath, obj)
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # the new name, before an older checkpoint is removed
            finally:
                os.close(descriptor)
        except OSError as error:
            raise NotWritten(
                f"{error}; the same command with --resume continues from the checkpoint before"
            ) from error


class AtomicRunner(Runner):
    """mmengine's Runner, but for the config that it leaves in the work folder.

    mmengine empties the file first and then takes a while to put the text into shape; a run that
    was killed meanwhile had no config any more, and nobody could load its detector.
    """

    @master_only
    def dump_config(self) -> None:
        """The resolved config, under the name of the file that it was read from."""
        name = Path(self.cfg.filename or f"{self.timestamp}.py").name
        AtomicFiles().put(self.cfg.pretty_text.encode(), Path(self.work_dir) / name)
