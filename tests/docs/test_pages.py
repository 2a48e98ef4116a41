"""The pages build without a warning, and what they name is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/pages").glob("*.md"))]
PLACES = ("pretrain", "transfer", "results", "configs", "tools", "tests", "docs")


def commands(page: Path) -> list[str]:
    """The commands of its shell blocks and its table, comments and continued lines joined."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    lines = re.sub(r"\\\n\s*", "", blocks).splitlines() + re.findall(
        r"^\| `([^`]+)` \|", text, re.M
    )
    found = (" ".join(shlex.split(line, comments=True)) for line in lines)
    return [line for line in found if re.search(r"\b(bash tools/|python )", line)]


def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", "docs/mkdocs.yml"]
    told = subprocess.run([*command, "-d", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert {page.stem for page in (ROOT / "docs/pages").glob("*.md")} - {"index"} == {
        path.parent.name for path in tmp_path.glob("*/index.html")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\((?!http|#)([^)#]+)", text)
    assert all((page.parent / link).exists() for link in links)
    named = re.findall(rf"`((?:{'|'.join(PLACES)})/[\w./-]+)`", text)
    missing = {name for name in named if not (ROOT / name.removesuffix("...")).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs_something_that_is_there(page):
    for command in commands(page):
        for script in re.findall(r"(?:bash|python) (tools/\S+)", command):
            assert (ROOT / script).is_file(), command
        for module in re.findall(r"-m ((?:pretrain|transfer|results|tools|tests)[\w.]*)", command):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), command
        for config in re.findall(r"configs/[\w/]+\.py", command):
            assert (ROOT / config).is_file(), command


def test_readme_is_short_and_its_commands_are_told():
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") <= 130
    assert len(commands(ROOT / "README.md")) > 15
