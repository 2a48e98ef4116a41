"""Everything that a table or figure of the paper needs: what is done, and doing the rest."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("tools.reproduce", run_name="__main__", alter_sys=True)
