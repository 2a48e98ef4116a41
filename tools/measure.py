"""One measurement of this project, repeated on this machine."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("tools.measure", run_name="__main__", alter_sys=True)
