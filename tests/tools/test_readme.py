"""The pages' generated parts: none is stale, and each says what its sources say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from tests.helpers.places import MEASURED, ROOT
from tests.helpers.run_records import SHA, make_record
from tools import readme

PROVENANCE = {"dataset": "scenes_coco", "deviations": [], "seed": 0}
TINY = {"encoder": "resnet_tiny", "dataset": "scenes_coco", "pretrain_epochs": 25}
COSTS, COSTS_JSON = "docs/pages/costs.md", "footprint_resnet50_cpu.json"


@pytest.fixture
def root(tmp_path) -> Path:
    """The pages and what they come from, to be changed."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs/pages", tmp_path / "docs/pages")
    shutil.copytree(MEASURED, tmp_path / readme.MEASURED)
    return tmp_path


def measured(file, root=ROOT):
    return json.loads((root / readme.MEASURED / file).read_text())


def test_nothing_is_stale():
    readme.main(["--check"])


def test_every_picture_is_shown_and_small():
    pages = "".join(
        (ROOT / page).read_text() for page in ("README.md", f"{readme.MEASURED}/README.md")
    )
    for picture in readme.PICTURES:
        assert f"/{picture})" in pages or f"({picture})" in pages
        assert (MEASURED / picture).stat().st_size < 150_000


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
    stored = [str(path.relative_to(ROOT)) for path in MEASURED.glob("*.*")]
    told = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", *stored])
    assert told.returncode == 1, "what is stored is kept"


def test_what_is_stored_names_no_machine():
    for path in [*MEASURED.rglob("*.json"), *MEASURED.rglob("*.csv"), *MEASURED.rglob("*.md")]:
        for root in ("/home/", "/root/", "/tmp/", f"{ROOT}/", "C:\\\\"):
            assert f'"{root}' not in path.read_text(), path


def test_what_the_pages_conclude_is_what_was_measured():
    """README: frozen random weights beat all others. Costs: what saves more than checkpointing."""
    box_ap = {
        method: measured(f"demo/mask_rcnn_{method}/record.json")["metrics"]["box_ap"]
        for method in ("random", "simclr", "gim", "loco")
    }
    assert max(box_ap, key=box_ap.__getitem__) == "random"
    beyond = {}
    for encoder in ("resnet50", "presnet50"):
        methods = measured(f"footprint_{encoder}_cpu.json")["methods"]
        bar = methods["simclr_checkpoint"]["saving_ratio"]
        beyond[encoder] = {name for name in methods if methods[name]["saving_ratio"] > bar}
    assert beyond == {"resnet50": set(), "presnet50": {"gim", "gim_recompute"}}
    methods = measured(COSTS_JSON)["methods"]
    assert 1.3 < methods["simclr_checkpoint"]["work_ratio"] < 1.36, "a third more computation"
    more = {
        part: methods["loco"]["work_parts"][part] - of_simclr
        for part, of_simclr in methods["simclr"]["work_parts"].items()
    }
    assert more["forward"] == more["weight_gradients"] == 0, "each once, as SimCLR does"
    assert sum(more.values()) == pytest.approx(methods["loco"]["work_ratio"] - 1, abs=2e-4)
    report = measured("reliability.json")
    assert not any(place["with_faults"] for place in report["places"].values())
    assert not any(report["hostile_inputs"][kind] for kind in ("crashes", "hangs", "unexplained"))


def test_a_new_measurement_makes_its_parts_stale_and_one_command_writes_them(root, capsys):
    report = measured(COSTS_JSON)
    report["methods"]["loco"]["saving_ratio"] = 1.5
    (root / readme.MEASURED / COSTS_JSON).write_text(json.dumps(report))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        readme.main(["--check"], root)
    assert stopped.value.code == "python tools/readme.py brings them up to date"  # status 1
    assert capsys.readouterr().out.splitlines() == [
        f"{COSTS} is stale",
        "results/measured/footprint_resnet50_cpu.png is stale",
    ]
    assert {path: path.read_bytes() for path in before} == before
    readme.main([], root)
    assert "| LoCo | 1.50 | 1.29 | 1.27 |" in (root / COSTS).read_text()
    readme.main(["--check"], root)


def test_an_edit_by_hand_is_seen_inside_a_table_only(root, capsys):
    text = (root / COSTS).read_text()
    (root / COSTS).write_text(text.replace("# What local", "# What our"))
    readme.main(["--check"], root)
    (root / COSTS).write_text(text.replace("| LoCo | 1.13 |", "| LoCo | 3.13 |"))
    with pytest.raises(SystemExit):
        readme.main(["--check"], root)
    assert capsys.readouterr().out == f"{COSTS} is stale\n"
    readme.main([], root)
    assert (root / COSTS).read_text() == text


def test_a_table_by_hand(tmp_path):
    rows = {"x_y": {"n": 1234, "r": [0.5, 2.25]}, "loco": {"n": 7, "r": [], "s": {"t": 123.4}}}
    (tmp_path / "f.json").write_text(json.dumps({"a": rows, "l": [{"n": 1.0}, {"n": 2}]}))
    assert readme.table('f.json a "how many=n" r s.t', tmp_path).splitlines() == [
        "|  | how many | r | s.t |",
        "| --- | ---: | ---: | ---: |",
        "| x y | 1,234 | 0.500 to 2.25 | \N{EM DASH} |",
        "| LoCo | 7 | none | 123 |",
    ]
    assert readme.table("f.json l n", tmp_path) == "| n |\n| ---: |\n| 1.00 |\n| 2 |"
    with pytest.raises(ValueError, match=r"found no t\.u in a"):
        readme.table("f.json a n t.u", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin: f.json -->\n",
        "<!-- end -->\n",
        "<!-- begin: f.json -->\n<!-- begin: g.json -->\n<!-- end -->\n<!-- end -->",
        "text <!-- begin: f.json --> text <!-- end -->\n",
    ],
)
def test_marks_that_do_not_fit_are_told(text):
    with pytest.raises(ValueError, match=r"found the marks <!-- (begin: f|end)"):
        readme.with_tables(text, MEASURED)


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
    readme.main(["--take", "demo", str(demo_runs(tmp_path / "out"))], root)
    readme.main(["--check"], root)
    stored = root / readme.MEASURED / "demo"
    files = {path.name for path in stored.rglob("*") if path.is_file()}
    assert files == {"record.json", "losses.csv"}
    assert not (stored / "mask_rcnn_loco_cityscapes").exists(), "of the former demo"
    content = (stored / "mask_rcnn_loco" / "record.json").read_text()
    assert str(tmp_path) not in content and str(ROOT) not in content
    record = json.loads(content)
    assert record["backbone"]["path"] == "pretrain_loco/backbone.safetensors"
    assert record["config"] == "configs/x.py" and record["artifacts"] == {}
    shown = (root / "README.md").read_text()
    assert "| 21.5 |" in " ".join(shown.split()), "single runs: no bold, no difference"
    assert "In parentheses" not in shown and "- Bold" not in shown
    assert len(readme.drawn_from(root / readme.MEASURED / "demo_losses.png")) == 64


def test_runs_that_cannot_be_shown_are_refused(root, tmp_path):
    with pytest.raises(SystemExit, match=r"found no .*/none/\*/record.json; .*tools/demo.sh"):
        readme.main(["--take", "demo", str(tmp_path / "none")], root)
    smoke = demo_runs(tmp_path / "smoke", deviations=("max_epochs: 1 instead of 5",))
    with pytest.raises(SystemExit, match="do not keep to the demo: max_epochs: 1 instead of 5"):
        readme.main(["--take", "demo", str(smoke)], root)
    readme.main(["--check"], root)  # nothing was touched


@pytest.mark.slow
def test_a_picture_is_told_by_its_sources_not_by_its_pixels(root, tmp_path):
    path = root / readme.MEASURED / "demo_losses.png"
    with Image.open(path) as image:
        said = PngImagePlugin.PngInfo()
        said.add_text(readme.DRAWN_FROM, image.info[readme.DRAWN_FROM])
        image.resize((40, 30)).save(path, pnginfo=said)
    assert not list(readme.stale(root))
    with Image.open(path) as image:
        image.resize((20, 30)).save(path)  # without the text
    assert [stale for stale, _ in readme.stale(root)] == [path]
    path.unlink()
    assert [stale for stale, _ in readme.stale(root)] == [path]
