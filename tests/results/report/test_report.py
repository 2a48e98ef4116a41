"""Figures, the report page and the command: nothing invented, nothing fetched, nothing executed."""

import base64
import hashlib
import io
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from results.__main__ import main
from results.figures.artifacts import (
    MAX_PANELS,
    MAX_SCENES,
    PLOT_SIDE,
    SHOWN_SIDE,
    load_losses,
    load_scenes,
)
from results.figures.plots import ap_bars, loss_curves, loss_range
from results.plan.paper_tables import PAPER
from results.report.provenance import duration, hardware
from results.report.report import render_report, write_report
from results.tables.footprints import load_footprints
from results.tables.load import Problem, load_records
from results.tables.run_tables import transfer_tables
from tests.helpers.run_records import make_record, paper_table2_records, write_records

pytestmark = pytest.mark.slow

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)>"' {{ 7*7 }} $x$"""
MEASURED = resources.files("results").joinpath("measured")
DEMO = {"encoder": "resnet_tiny", "pretrain_epochs": 6, "protocol": "demo_frozen"}
UNITS = {
    "simclr": ["res2+res3+res4+res5"],
    "gim": ["res2", "res3", "res4", "res5"],
    "loco": ["res2+res3", "res3+res4", "res4+res5"],
}


def losses(units, rows=50):
    values = np.random.default_rng(len(units)).normal(4.0, 0.5, (rows, len(units)))
    frame = pd.DataFrame(values, columns=units)
    frame.insert(0, "epoch", np.arange(rows) // 10 + 1)
    frame.insert(0, "iteration", np.arange(1, rows + 1) * 5)
    return frame


def add_pretraining(root, method, units=None, **changes):
    folder = root / f"pretrain_{method}"
    fields = {**DEMO, "protocol": "pretrain", "dataset": "scenes", "backbone": None}
    fields |= {"metrics": {"loss_res5": 1.5}, "artifacts": {"losses": "losses.csv"}}
    make_record(**{**fields, "kind": "pretrain", "method": method, **changes}).write(folder)
    losses(units or UNITS[method]).to_csv(folder / "losses.csv", index=False)
    return folder


def add_transfer(root, method, pictures=2, size=(64, 48), **changes):
    folder = root / f"transfer_{method}"
    names = [f"pictures/{i:03}.png" for i in range(pictures)]
    fields = {**DEMO, "dataset": "scenes_coco", "artifacts": {"pictures": names}}
    if method == "random":
        fields["pretrain_epochs"] = None
    make_record(**{**fields, "method": method, **changes}).write(folder)
    (folder / "pictures").mkdir()
    for i, name in enumerate(names):
        Image.new("RGB", size, (10 * i, 99, 99)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a small, complete demo."""
    runs = tmp_path_factory.mktemp("demo") / "runs"
    for method in UNITS:
        add_pretraining(runs, method)
    for method in ("random", *UNITS):
        add_transfer(runs, method)
    return runs


@pytest.fixture(scope="module")
def report_of_demo(demo, tmp_path_factory):
    """The page's text."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    records, problems = load_records([demo])
    assert write_report(records, file, problems) == []
    return file.read_text()


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser sees them; `code` is style and script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.code = Counter(), [], "", {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data):
        if self.cdata_elem:
            self.code[self.cdata_elem] = self.code.get(self.cdata_elem, "") + data
        else:
            self.text += data


def digest(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def assert_self_contained(text):
    page = Page(text)
    assert not page.tags.keys() & {"link", "iframe", "object", "embed", "base", "form", "svg"}
    assert page.tags["script"] == page.tags["style"] == 1
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name not in ("style", "srcset", "action")
        if name == "src":
            assert tag == "img" and value.startswith("data:image/")
        if name == "href":
            assert tag == "a" and value.startswith("#")
    assert "url(" not in text and "@import" not in text
    policy = next(v for _, n, v in page.attributes if n == "content" and "default-src" in v)
    assert [part.strip() for part in policy.split(";")] == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest(page.code['style'])}'",  # else the browser drops it
        f"script-src 'sha256-{digest(page.code['script'])}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|eval|://", page.code["script"]
    )
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for _, n, v in page.attributes if n == "href"} <= set(ids)
    sources = {id for _, n, v in page.attributes if n == "data-sources" for id in v.split()}
    assert sources <= set(ids)
    return page


# ---- figures


def test_loss_curves_draw_the_csv(demo):
    frames, problems = load_losses(load_records([demo])[0])
    assert problems == []
    assert list(frames) == [f"{m}, 6 epochs, resnet_tiny" for m in ("SimCLR", "GIM", "LoCo")]
    figure = loss_curves(frames)
    assert [axes.get_title() for axes in figure.axes] == list(frames)
    for method, axes in zip(UNITS, figure.axes, strict=True):
        csv = pd.read_csv(demo / f"pretrain_{method}" / "losses.csv")
        lines = {line.get_gid(): line for line in axes.get_lines()}
        assert set(lines) == {f"{what}:{u}" for u in UNITS[method] for what in ("raw", "mean")}
        for unit in UNITS[method]:
            raw = lines[f"raw:{unit}"]
            np.testing.assert_array_equal(raw.get_xdata(), csv["iteration"])
            np.testing.assert_array_equal(raw.get_ydata(), csv[unit])
            mean = lines[f"mean:{unit}"].get_ydata()  # window 50 // 15 = 3, centred
            assert mean[0] == pytest.approx(csv[unit][:2].mean())
            assert mean[1] == pytest.approx(csv[unit][:3].mean())
        assert [text.get_text() for text in axes.get_legend().get_texts()] == UNITS[method]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_a_unit_has_the_colour_of_the_stage_it_ends_at():
    figure = loss_curves({method: losses(units) for method, units in UNITS.items()})
    colours = {
        line.get_gid(): line.get_color() for axes in figure.axes for line in axes.get_lines()
    }
    same = ["mean:res5", "mean:res4+res5", "mean:res2+res3+res4+res5"]
    assert len({colours[gid] for gid in same}) == 1
    assert len({colours[f"mean:{unit}"] for unit in UNITS["gim"]}) == 4


def test_infinite_losses_do_not_break_the_axis():
    frame = losses(["res2"])
    frame.loc[3, "res2"], frame.loc[4, "res2"] = np.inf, np.nan
    low, high = loss_range({"a": frame})
    assert np.isfinite([low, high]).all()
    loss_curves({"a": frame}).savefig(io.BytesIO())


def test_bars_have_the_printed_values(tmp_path):
    write_records(tmp_path, *paper_table2_records()[:-1])  # one cell pair missing
    table = transfer_tables(load_records([tmp_path])[0])[0]
    figure = ap_bars(table)
    widths = [bar.get_width() for axes in figure.axes for bars in axes.containers for bar in bars]
    expected = [
        0.0 if pd.isna(value) else value
        for dataset in ("coco2017", "cityscapes")
        for metric in ("box_ap", "mask_ap")
        for value in table.cells.query("dataset == @dataset and metric == @metric")["shown"]
    ]
    assert widths == expected and len(expected) == 52


# ---- the report


def test_the_report_holds_everything_and_loads_nothing(demo, report_of_demo):
    page = assert_self_contained(report_of_demo)
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == 1 + 1 + 3 + 2 * 4  # bars, Fig. 2, loss panels, two scenes by four
    for words in (
        "3 pretrainings (SimCLR, GIM, LoCo) and 4 transfers (Random Init, SimCLR, GIM, LoCo)",
        "ran for 7 min 10 s in all",  # 7 x 61.5 s = 430.5 s
        "not comparable with the paper",
        "1 min 02 s",
        "1,234 MiB",
        "SyncBatchNorm over 8 processes",
        "None: every record was read",
    ):
        assert words in page.text
    titles = [value for tag, name, value in page.attributes if (tag, name) == ("td", "title")]
    assert any(str(demo / "transfer_gim" / "record.json") in title for title in titles)


def test_what_is_absent_is_named_with_the_command_that_makes_it(tmp_path):
    write_records(tmp_path, *paper_table2_records())
    text, problems = render_report(load_records([tmp_path])[0])
    page = assert_self_contained(text)
    assert problems == []
    absent = ", ".join(f"Table {number}" for number in (1, 3, 4, 5, 6, 7, 8))
    assert f"Nothing here fills {absent}." in page.text
    for words in ("table1 --plan", "fig2 --run", "fig3 --run", "fig4 --run"):
        assert f"python tools/reproduce.py {words}" in page.text
    assert "python -m pretrain.footprint --encoder" in page.text
    planned = {command.split()[0] for command in re.findall(r"reproduce\.py (\w+ --)", text)}
    assert planned <= PAPER.keys()


def test_counted_tables_and_plots_stand_beside_what_they_come_from(tmp_path):
    for name in ("footprint_presnet50_cpu", "footprint_resnet50_cpu"):
        shutil.copy(MEASURED / f"{name}.json", tmp_path)
    Image.new("RGB", (2400, 600), "red").save(tmp_path / "footprint_presnet50_cpu.png")
    footprints, _ = load_footprints([tmp_path])
    records, _ = load_records([write_records(tmp_path / "runs", make_record())])
    text, problems = render_report(records, footprints=footprints)
    page = assert_self_contained(text)
    assert problems == []
    assert "Nothing here fills Table 1, Table 3, Table 4, Table 5." in page.text
    plots = [v for tag, n, v in page.attributes if n == "alt" and "Peak memory" in v]
    assert plots == [f"Peak memory against time of a step: {tmp_path}/footprint_presnet50_cpu.json"]
    sizes = {
        Image.open(io.BytesIO(base64.b64decode(v.partition(",")[2]))).size
        for _, n, v in page.attributes
        if n == "src"
    }
    assert (PLOT_SIDE, PLOT_SIDE // 4) in sizes
    other = tmp_path / "footprint_resnet50_cpu.json"
    drawn = f"python -m pretrain.costs.footprint_plot {other} {other.with_suffix('.png')}"
    assert f"No plot beside {other}: {drawn} draws it." in page.text
    (tmp_path / "footprint_resnet50_cpu.png").write_text("no picture")
    _, problems = render_report(records, footprints=footprints)
    (problem,) = problems
    assert "'footprint_resnet50_cpu.png' is not a readable PNG" in problem.reason


def test_several_reports_in_one_file_are_told_apart_by_their_encoder(tmp_path):
    both = [
        json.loads((MEASURED / f"footprint_{name}_cpu.json").read_text())
        for name in ("resnet50", "presnet50")
    ]
    (tmp_path / "footprint.json").write_text(json.dumps({"reports": both}))
    footprints, _ = load_footprints([tmp_path])
    records, _ = load_records([write_records(tmp_path / "runs", make_record())])
    text, _ = render_report(records, footprints=footprints)
    assert_self_contained(text)
    table6 = text.split('id="table6"')[1].split("</table>")[0]
    first = table6.split('<th scope="row">res2</th>')[1].split("</tr>")[0]
    assert re.findall('data-sources="(.*?)"', first) == ["report-2"] * 2 + ["report-1"] * 2


def test_hardware_in_words():
    assert hardware({"cpu": "AMD EPYC", "cores": 16, "gpus": ["H100"] * 8}) == (
        "AMD EPYC, 16 cores, 8 x H100"
    )
    assert hardware({"cpu": "x", "gpu": "H100", "gpus": []}) == "x, H100"


def test_hostile_strings_stay_text(tmp_path):
    hostile = {"dataset": HOSTILE, "protocol": HOSTILE, "encoder": HOSTILE, "norm": HOSTILE}
    hostile |= {"config": HOSTILE, "git_commit": HOSTILE, "deviations": (HOSTILE,)}
    hostile |= {"precision": HOSTILE, "metrics": {HOSTILE: 1.0, "box_ap": 2.0, "mask_ap": 1.0}}
    add_pretraining(tmp_path, "loco", units=[HOSTILE], **hostile)
    add_transfer(tmp_path, "loco", **hostile)
    records, _ = load_records([tmp_path])
    text, problems = render_report(records, [Problem("bad", HOSTILE, HOSTILE)])
    assert len(problems) == 1
    page = assert_self_contained(text)
    assert "<script>alert" not in text and "<img src=x" not in text
    assert page.text.count("{{ 7*7 }}") > 8 and "49" not in page.text.split("Problems")[-1]
    assert HOSTILE in page.text and HOSTILE in page.text.split("What ran")[-1]


def test_the_page_is_well_formed(report_of_demo):
    open_tags = []
    body = report_of_demo.split("<body>")[1]
    for slash, tag in re.findall(r"<(/?)([a-z][a-z0-9]*)\b[^>]*>", body):
        if tag in ("img", "input", "body", "html"):
            continue
        if slash:
            assert open_tags.pop() == tag
        else:
            open_tags.append(tag)
    assert open_tags == []


def test_faulty_artifacts_are_problems_not_errors(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    huge = io.BytesIO()
    Image.new("1", (7000, 7000)).save(huge, "PNG")
    for number, name in enumerate(("../secret.png", "none.png", "text.png", "gif.png", "huge.png")):
        record = make_record(seed=number, pretrain_epochs=number, artifacts={"pictures": [name]})
        folder = record.write(tmp_path / f"run{number}").parent
        (folder / "text.png").write_text("not a picture")
        Image.new("RGB", (4, 4)).save(folder / "gif.png", "GIF")
        (folder / "huge.png").write_bytes(huge.getvalue())
    bad = add_pretraining(tmp_path, "gim")
    (bad / "losses.csv").write_text("step,loss\n1,2\n")
    away = add_pretraining(tmp_path, "loco", artifacts={"losses": "/etc/passwd"})
    words = add_pretraining(tmp_path, "simclr")
    (words / "losses.csv").write_text("iteration,epoch,res2\n1,1,high\n")
    text, problems = render_report(load_records([tmp_path])[0])
    found = {problem.path.split("/")[-2]: problem.reason for problem in problems}
    assert "does not stay inside" in found["run0"] and "is not there" in found["run1"]
    assert "not a readable PNG" in found["run2"] and "not a readable PNG" in found["run3"]
    assert "7000 x 7000 pixels" in found["run4"]
    assert "expected iteration, epoch" in found["pretrain_gim"]
    assert "does not stay inside" in found[away.name] and found[words.name].startswith("loss curve")
    assert len(problems) == 8 and all(reason in Page(text).text for reason in found.values())
    assert "root:" not in text and base64.b64encode(b"secret").decode() not in text


def test_pictures_are_bounded_in_size_and_number(tmp_path):
    add_transfer(tmp_path, "loco", pictures=MAX_SCENES + 3, size=(1600, 800))
    scenes, problems = load_scenes(load_records([tmp_path])[0])
    assert problems == [] and len(scenes) == MAX_SCENES
    ((caption, source),) = scenes[0].shots
    assert caption == "LoCo, 6 epochs, resnet_tiny"
    picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert picture.size == (SHOWN_SIDE, SHOWN_SIDE // 2)


def test_scenes_stand_side_by_side_in_the_order_of_the_table(demo):
    scenes, _ = load_scenes(load_records([demo])[0])
    assert [scene.name for scene in scenes] == ["000.png", "001.png"]
    for scene in scenes:
        names = [caption.split(",")[0] for caption, _ in scene.shots]
        assert names == ["Random Init", "SimCLR", "GIM", "LoCo"]


def test_loss_panels_are_bounded_in_number(tmp_path):
    for seed in range(MAX_PANELS + 2):
        add_pretraining(tmp_path / f"{seed}", "simclr", seed=seed)
    frames, problems = load_losses(load_records([tmp_path])[0])
    assert len(frames) == MAX_PANELS
    assert problems[0].reason.startswith("2 loss curves beyond")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (90_061, "25 h 01 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# ---- the command


def test_the_command_writes_everything_twice_the_same(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    for method in ("simclr", "gim"):
        add_pretraining(runs, method)
    add_transfer(runs, "gim", pictures=1)
    (runs / "broken").mkdir()
    (runs / "broken" / "record.json").write_text("{")

    def run():
        assert main([str(runs), "--out", str(out)]) == 0
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    first = run()
    printed = capsys.readouterr().out
    name = "other_demo_frozen"
    tables = {f"tables/{name}{end}" for end in (".csv", "_values.csv", ".md", ".tex", ".html")}
    figures = {
        f"figures/{stem}{end}"
        for stem in ("loss_curves", "fig2_1", f"ap_{name}")
        for end in (".png", ".pdf")
    }
    assert set(first) == tables | figures | {"report.html"}
    assert first[f"tables/{name}.md"].decode() in printed
    assert all(str(out / path) in printed for path in first)
    assert "records: 3, problems: 1" in printed and str(runs / "broken" / "record.json") in printed
    assert run() == first


def test_no_record_at_all_is_one_clear_message(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert message == (
        f"error: found no record.json under {tmp_path}; a finished run writes one; "
        "start one with `bash tools/dist_train.sh CONFIG`\n"
    )
    assert not (tmp_path / "out").exists()
