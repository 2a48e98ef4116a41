"""What is skipped is told in one line with what it wants for, and only what is optional is."""

import ast
from types import SimpleNamespace

from tests.conftest import pytest_terminal_summary
from tests.helpers.places import ROOT

OPTIONAL = {"lightly"}  # what the set-up does not install


def test_skips_are_told_in_one_line():
    reasons = ["Skipped: a GPU", "Skipped: Chromium", "Skipped: a GPU"]
    skipped = [SimpleNamespace(longrepr=("test_a.py", 1, reason)) for reason in reasons]
    lines = []
    reporter = SimpleNamespace(stats={"skipped": skipped}, write_line=lines.append)
    pytest_terminal_summary(reporter)
    assert lines == ["3 skipped: 2 for want of a GPU; 1 for want of Chromium"]
    pytest_terminal_summary(SimpleNamespace(stats={}))


def test_what_the_set_up_installs_is_no_reason_to_skip():
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                found.add(ast.literal_eval(node.args[0]))
    assert found == OPTIONAL
