"""README's generated parts: none is stale, and each says what its sources say."""

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.places import ROOT
from tests.helpers.run_records import SHA, make_record
from tools.readme import __main__ as readme
from tools.readme import pictures as readme_pictures
from tools.readme import tables as readme_tables

PROVENANCE = {"dataset": "scenes_coco", "deviations": [], "seed": 0}
TINY = {"encoder": "resnet_tiny", "dataset": "scenes_coco", "pretrain_epochs": 25}


@pytest.fixture
def root(tmp_path) -> Path:
    """The pages and what they come from, to be changed."""
    for page in readme.PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    shutil.rmtree(tmp_path / readme.MEASURED)
    shutil.copytree(ROOT / readme.MEASURED, tmp_path / readme.MEASURED)
    return tmp_path


def change(root, file, keys, value):
    path = root / readme.MEASURED / file
    content = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def run(root, *arguments):
    readme.main([*arguments, "--root", str(root)])


def test_nothing_is_stale():
    readme.main(["--check"])


def test_every_region_stands_on_a_page_and_every_picture_is_shown():
    pages = {page: (ROOT / page).read_text() for page in readme.PAGES}
    shown = [name for text in pages.values() for _, name, _, _ in readme.regions(text)]
    assert set(shown) == set(readme_tables.REGIONS)
    for picture in readme_pictures.PICTURES:
        assert picture.file in "".join(pages.values())
        assert (ROOT / readme.MEASURED / picture.file).stat().st_size < 150_000


def test_what_its_commands_write_into_the_checkout_is_ignored(tmp_path):
    """By git itself, in a repository that has nothing but the rules."""
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    text = "".join(page.read_text() for page in (ROOT / "docs/pages").glob("*.md"))
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    named = re.findall(r"--(?:out|json|work-dir)[ =](\S+)", "\n".join(blocks))
    assert {"tables", "fig3", "fig4.pdf", "loco.npz", "loco.json", "footprint.json"} <= set(named)
    files = {"tables": ["tables/report.html"], "fig3": ["fig3.png", "fig3.pdf"]}
    written = [file for name in named for file in files.get(name, [name])]
    written += ["work_dirs/x/record.json", "demo_out/report.html", "resnet50-19c8e357.pth"]
    written = [f"{name}/record.json" if name.startswith("work_dirs") else name for name in written]
    told = subprocess.run(
        ["git", "-C", str(tmp_path), "check-ignore", *written], capture_output=True, text=True
    )
    assert set(written) - set(told.stdout.split()) == set()
    stored = [str(path.relative_to(ROOT)) for path in (ROOT / readme.MEASURED).glob("*.*")]
    told = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", *stored])
    assert told.returncode == 1, "what is stored is kept"


def test_what_is_stored_names_no_machine():
    stored = ROOT / readme.MEASURED
    for path in [*stored.rglob("*.json"), *stored.rglob("*.csv"), *stored.rglob("*.md")]:
        for root in ("/home/", "/root/", "/tmp/", f"{ROOT}/", "C:\\\\"):
            assert f'"{root}' not in path.read_text(), path


def test_a_new_measurement_makes_its_parts_stale_and_one_command_mends_them(root, capsys):
    keys = ("methods", "loco", "saving_ratio")
    change(root, "footprint_resnet50_cpu.json", keys, 1.5)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        run(root, "--check")
    assert stopped.value.code == "python tools/readme.py brings them up to date"  # status 1
    assert capsys.readouterr().out.splitlines() == [
        "docs/pages/costs.md: region footprint is stale",
        "results/measured/footprint_resnet50_cpu.png is stale",
    ]
    assert {path: path.read_bytes() for path in before} == before
    run(root)
    page = (root / "docs/pages/costs.md").read_text()
    assert "| ResNet-50 | 1.65x | 1.50x | 3.08x | 2.99x | 1.63x |" in page
    run(root, "--check")


def test_an_edit_by_hand_is_seen_inside_a_region_only(root, capsys):
    page = root / "docs/pages/costs.md"
    text = page.read_text()
    changed = text.replace("2.14x", "3.14x").replace("# What local", "# What our")
    page.write_text(changed)
    with pytest.raises(SystemExit):
        run(root, "--check")
    assert capsys.readouterr().out == "docs/pages/costs.md: region footprint is stale\n"
    run(root)
    assert page.read_text() == text.replace("# What local", "# What our")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin: work -->\n",
        "<!-- end: work -->\n",
        "<!-- begin: work -->\n<!-- begin: tables -->\n<!-- end: tables -->\n<!-- end: work -->",
        "<!-- begin: work -->\n<!-- end: tables -->\n",
        "text <!-- begin: work --> text <!-- end: work -->\n",
    ],
)
def test_markers_that_do_not_fit_are_told(text):
    with pytest.raises(ValueError, match=r"found the markers (begin|end) work"):
        readme.regions(text)


def test_an_unknown_region_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match="called cost; there are demo, footprint, reliability"):
        readme.regions("<!-- begin: cost -->\n<!-- end: cost -->\n")


# ---- taking over new runs


def demo_runs(folder: Path, random_ap=10.0, **changes) -> Path:
    """Runs as the demo leaves them on some machine."""
    for method, ap in (("random", random_ap), ("simclr", 20.0), ("gim", 19.0), ("loco", 21.5)):
        weights = str(folder / f"pretrain_{method}" / "backbone.safetensors")
        backbone = {"path": weights, "sha256": SHA, "provenance": PROVENANCE}
        given = TINY | ({"pretrain_epochs": None} if method == "random" else {})
        make_record(
            **given, method=method, protocol="demo_frozen", metrics={"box_ap": ap, "mask_ap": 9.0},
            backbone=None if method == "random" else backbone, config=f"{ROOT}/configs/x.py",
            artifacts={"pictures": ["pictures/000.png"]}, started_at="2026-01-31T12:01:00Z",
            finished_at="2026-01-31T12:05:07Z", **changes,
        ).write(folder / f"mask_rcnn_{method}")  # fmt: skip
        if method != "random":
            pretrain = folder / f"pretrain_{method}"
            make_record(
                **TINY, kind="pretrain", method=method, protocol="demo_pretrain", backbone=backbone,
                metrics={}, artifacts={"losses": "losses.csv", "checkpoint": "epoch_25.pth"},
                started_at="2026-01-31T12:00:00Z", finished_at="2026-01-31T12:00:30Z",
            ).write(pretrain)  # fmt: skip
            (pretrain / "losses.csv").write_text("iteration,epoch,res5\n2,1,4.5\n480,25,3.0\n")
            (pretrain / "epoch_25.pth").write_bytes(b"large")
    return folder


def test_new_runs_are_taken_over_and_shown(root, tmp_path):
    run(root, "--take", "demo", str(demo_runs(tmp_path / "out")))
    run(root, "--check")
    stored = root / readme.MEASURED / "demo"
    files = {path.name for path in stored.rglob("*") if path.is_file()}
    assert files == {"record.json", "losses.csv"}
    assert not (stored / "mask_rcnn_loco_cityscapes").exists(), "of the former demo"
    content = (stored / "mask_rcnn_loco" / "record.json").read_text()
    assert str(tmp_path) not in content and str(ROOT) not in content
    record = json.loads(content)
    assert record["backbone"]["path"] == "pretrain_loco/backbone.safetensors"
    assert record["config"] == "configs/x.py" and record["artifacts"] == {}
    shown = " ".join((root / "README.md").read_text().split())
    assert "| 21.5 |" in shown and "| 19.0 |" in shown, "single runs: no bold, no difference"
    assert "In parentheses" not in shown and "- Bold" not in shown
    with Image.open(root / readme.MEASURED / "demo_losses.png") as picture:
        assert len(picture.info[readme_pictures.DRAWN_FROM]) == 64


def test_runs_that_cannot_be_shown_are_refused(root, tmp_path):
    with pytest.raises(SystemExit, match=r"found no .*/none/\*/record.json; .*tools/demo.sh"):
        run(root, "--take", "demo", str(tmp_path / "none"))
    smoke = demo_runs(tmp_path / "smoke", deviations=("max_epochs: 1 instead of 5",))
    with pytest.raises(SystemExit, match="do not keep to the demo: max_epochs: 1 instead of 5"):
        run(root, "--take", "demo", str(smoke))
    run(root, "--check")  # nothing was touched


def test_a_picture_is_told_by_its_sources_not_by_its_pixels(root):
    measured = root / readme.MEASURED
    picture = readme_pictures.PICTURES[0]
    path = measured / picture.file
    with Image.open(path) as image:
        said, smaller = image.info[readme_pictures.DRAWN_FROM], image.resize((40, 30))
    text = readme_pictures.PngImagePlugin.PngInfo()
    text.add_text(readme_pictures.DRAWN_FROM, said)
    smaller.save(path, pnginfo=text)
    assert readme_pictures.is_current(picture, measured)
    buffer = io.BytesIO()
    smaller.save(buffer, "PNG")  # without the text
    path.write_bytes(buffer.getvalue())
    assert not readme_pictures.is_current(picture, measured)
    path.unlink()
    assert not readme_pictures.is_current(picture, measured)
