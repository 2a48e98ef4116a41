"""README's tables and pictures, from what was measured."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("tools.readme", run_name="__main__", alter_sys=True)
