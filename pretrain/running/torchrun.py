"""torchrun, whose exit status is the run's own where that stops on purpose.

``python -m pretrain.running.torchrun ARGUMENTS`` takes torchrun's arguments. By itself it ends with
1 whatever its processes ended with, so that nobody can tell a run that was told to stop, saved and
asks to be started again from one that failed.
"""

import os
import sys
import tempfile
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

VARIABLE = "EXIT_STATUS_FILE"  # where the run's processes find the file to leave it in


def leave_status(status: int) -> None:
    """Tell the launcher on this node what this process is about to end with, if there is one."""
    if file := os.environ.get(VARIABLE):
        Path(file).write_text(str(status))


def main() -> None:
    """Runs torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "status"
        os.environ[VARIABLE] = str(file)
        try:
            run.main()
        except (ChildFailedError, SignalException):
            if not file.is_file():
                raise
            sys.exit(int(file.read_text()))


if __name__ == "__main__":
    main()
