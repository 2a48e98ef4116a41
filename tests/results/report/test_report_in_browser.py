"""The report in a real browser: sorted, filtered, traced, on a phone, without scripts, offline."""

import dataclasses
import json
from importlib import resources

import pytest

from results.record.labels import EM_DASH
from results.report.report import write_report
from results.tables.footprints import load_footprints
from results.tables.load import load_records
from results.tables.run_tables import transfer_tables
from tests.helpers.browser import Browser, executable
from tests.helpers.run_records import SHA, make_record, paper_table2_records, write_records

PROGRAM = executable()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="Chromium (apt-get install chromium)"),
]

HOSTILE = """<script>executed = 1</script><img src=x onerror="executed = 1">'"&lt;</dl></td>"""
LONG = "a_name_without_any_place_to_break_" * 6
SPLITS = 5
WALL_TIMES = (61.5, 9.0, 7200.0, 3599.0)  # "1 min 02 s", "9.0 s", "2 h 00 min", "59 min 59 s"


def split_record(split):
    origin = {"dataset": "imagenet1k", "deviations": [], "seed": 77}
    weights = {"path": "loco.safetensors", "sha256": f"{split}" * 64, "provenance": origin}
    return make_record(
        dataset="coco10k", protocol="finetuned_60k", split=split, seed=40 + split, backbone=weights,
        config=f"configs/split{split}.py", config_hash=f"{split + 1}" * 64, pretrain_epochs=800,
        metrics={"box_ap": 30.0 + split, "mask_ap": 28.0}, finished_at="2026-02-03T04:05:06+00:00",
        hardware={"cpu": "AMD EPYC", "cores": 16, "gpus": ["NVIDIA H100"] * 8},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Table 2 with two values changed and one left out; five splits of Table 3; hostile runs."""
    folder = tmp_path_factory.mktemp("runs")
    better = {("simclr", "shufflenetv2_50"): 0.7, ("loco", "resnet50"): -1.5}
    better[("gim", "resnet50")] = None  # not run
    table2 = []
    for record in paper_table2_records():
        if (record.pretrain_epochs, record.dataset) == (800, "coco2017"):
            change = better.get((record.method, record.encoder), 0.0)
            if change is None:
                continue
            box_ap = record.metrics["box_ap"] + change
            record = dataclasses.replace(record, metrics=record.metrics | {"box_ap": box_ap})
        table2.append(record)
    write_records(folder / "table2", *table2)
    write_records(folder / "table3", *map(split_record, range(SPLITS)))
    names = {"dataset": HOSTILE, "encoder": LONG, "norm": HOSTILE, "config": HOSTILE}
    odd = [
        make_record(protocol="other", wall_time_s=time, seed=seed, **names, deviations=(LONG,))
        for seed, time in enumerate(WALL_TIMES)
    ]
    write_records(folder / HOSTILE.replace("/", "|"), *odd)
    return folder


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    records, problems = load_records([runs])
    footprints, _ = load_footprints([str(resources.files("results").joinpath("measured"))])
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(records, out, problems, footprints)
    return out


@pytest.fixture(scope="module")
def browser():
    assert PROGRAM is not None
    opened = Browser(PROGRAM)
    yield opened
    opened.close()


@pytest.fixture
def opened(browser, page):
    """The page in a window of 1280 pixels; afterwards, that it asked for nothing but itself."""
    browser.open(page)
    yield browser
    asked = {url for url in browser.requests if not url.startswith("data:image/")}
    assert asked == {page.resolve().as_uri()}


def centre(browser, selector, number=0):
    """Where an element is once it stands in the middle of the window."""
    return browser.run(f"""(() => {{
        const element = document.querySelectorAll({json.dumps(selector)})[{number}];
        element.scrollIntoView({{ block: "center", inline: "center", behavior: "instant" }});
        const {{ x, y, width, height }} = element.getBoundingClientRect();
        return [x + width / 2, y + height / 2];
    }})()""")


def blocks_of(browser, table, column):
    """The texts of a column, block by block; a block's title stands first."""
    return browser.run(f"""[...document.querySelectorAll("{table} tbody")].map((body) =>
        [...body.rows].filter((row) => !row.hidden).map((row) => row.matches(".block")
            ? row.textContent : row.cells[{column}].firstChild?.textContent.trim() ?? ""))""")


def box(browser):
    """What the provenance box shows; None while it is hidden."""
    return browser.run("""(({ hidden, innerText }) => hidden ? null : innerText)(
        document.querySelector("#provenance"))""")


def wait(browser, milliseconds=400):
    browser.run(f"new Promise((done) => setTimeout(done, {milliseconds}))")


# ---- sort


def test_a_heading_sorts_each_block_and_the_third_click_brings_back_the_paper_s_order(opened, runs):
    table = next(t for t in transfer_tables(load_records([runs])[0]) if t.name == "table2")
    cells = table.cells.query("dataset == 'coco2017' and metric == 'box_ap'")
    values = [
        ([title] if title else [], group["shown"].dropna().tolist(), int(group["n"].eq(0).sum()))
        for title, group in cells.groupby("block", sort=False)
    ]
    assert sum(missing for *_, missing in values) == 1
    before = blocks_of(opened, "#table2", 2)
    assert before == [
        [*([title] if title else []), *group["value_text"]]
        for title, group in cells.groupby("block", sort=False)
    ]
    assert EM_DASH in before[2][2:-1]
    for reverse, state in ((True, "descending"), (False, "ascending")):
        opened.click(*centre(opened, "#table2 thead tr + tr th button"))
        assert blocks_of(opened, "#table2", 2) == [
            [*title, *(f"{v:.1f}" for v in sorted(shown, reverse=reverse)), *[EM_DASH] * missing]
            for title, shown, missing in values
        ]
        states = "[...document.querySelectorAll('#table2 [aria-sort]')].map((h) => h.ariaSort)"
        assert opened.run(states) == [state]
    opened.click(*centre(opened, "#table2 thead tr + tr th button"))
    assert blocks_of(opened, "#table2", 2) == before
    assert opened.run("document.querySelectorAll('[aria-sort]').length") == 0


def test_negative_differences_sort_below_positive_ones(opened):
    for expected in (["+0.7", *["+0.0"] * 3, "\N{MINUS SIGN}1.5", EM_DASH],
                     ["\N{MINUS SIGN}1.5", *["+0.0"] * 3, "+0.7", EM_DASH]):  # fmt: skip
        opened.click(*centre(opened, "#table2_paper thead tr + tr button", 2))
        assert blocks_of(opened, "#table2_paper", 4)[2][1:] == expected


def test_words_sort_from_a_and_durations_by_seconds(opened):
    opened.click(*centre(opened, "#table2 thead th button"))
    _, *blocks = blocks_of(opened, "#table2", 0)
    assert [names[1:] for names in blocks] == [["GIM"] * 2 + ["LoCo"] * 2 + ["SimCLR"] * 2] * 2
    (times,) = blocks_of(opened, "#runs", 6)
    opened.click(*centre(opened, "#runs th button", 6))
    (sorted_times,) = blocks_of(opened, "#runs", 6)
    rest = len(times) - len(WALL_TIMES) + 1
    assert sorted_times == ["2 h 00 min", "59 min 59 s", *["1 min 02 s"] * rest, "9.0 s"]


# ---- filter


def test_the_filter_keeps_rows_with_every_word_and_their_block_titles(opened):
    def enter(text):
        opened.run(f"""(() => {{ const filter = document.querySelector("#filter");
            filter.value = {json.dumps(text)}; filter.dispatchEvent(new Event("input")); }})()""")

    everything = blocks_of(opened, "#table2", 0)
    shown = "[...document.querySelectorAll('section.table')].filter((t) => t.checkVisibility())"
    all_tables = opened.run(f"{shown}.length")
    enter("LoCo  800")
    title = "Backbone weights with 800 Epochs"
    assert blocks_of(opened, "#table2", 0) == [[], [], [title, "LoCo", "LoCo"]]
    assert opened.run(f"{shown}.map((t) => t.id)") == [
        "table2", "table2_paper", "table3", "table3_paper",
    ]  # fmt: skip
    visible = opened.run("""[...document.querySelectorAll("tbody tr:not(.block)")]
        .filter((row) => row.checkVisibility()).length""")
    assert opened.run("document.querySelector('#matches').value").startswith(f"{visible} of ")
    enter(SHA)
    assert not opened.run("document.querySelector('#runs').hidden"), "runs are found by a digest"
    enter("no such row")
    assert opened.run(f"{shown}.length") == 0
    enter("")
    assert blocks_of(opened, "#table2", 0) == everything
    assert opened.run(f"{shown}.length") == all_tables


# ---- provenance

CELL = "#table3 td[data-sources] a"


def number_of(browser, value):
    """The place of the cell of Table 3 that shows `value`."""
    links = browser.run(f"[...document.querySelectorAll('{CELL}')].map((a) => a.textContent)")
    return links.index(value)


def test_a_value_shows_on_hover_every_record_that_it_is_the_mean_of(opened, runs):
    place = number_of(opened, "32.0")  # the mean of 30 to 34
    opened.move(*centre(opened, CELL, place))
    wait(opened)
    text = box(opened)
    assert text.startswith("LoCo") and "COCO-10K APbb: 32.0 ± 1.6, n=5" in text
    for split in range(SPLITS):
        assert f"{split + 1} of 5: transfer: LoCo" in text
        path = next(p for p in runs.rglob("record.json") if f"split{split}.py" in p.read_text())
        for words in (
            str(path),
            f"weights sha256\n{f'{split}' * 64}",
            f"config\nconfigs/split{split}.py",
            f"config sha256\n{f'{split + 1}' * 64}",
            f"seed\n{40 + split}\nsplit\n{split}",
        ):
            assert words in text
    for words in (
        "pretrained on\nimagenet1k, seed 77",
        "code\n0123456789abcdef0123456789abcdef01234567",
        "hardware\nAMD EPYC, 16 cores, 8 x NVIDIA H100",
        "versions\npython 3.11.7, torch 2.11.0",
        "ended\n2026-02-03T04:05:06+00:00",
    ):
        assert words in text
    opened.move(5, 5)
    wait(opened)
    assert box(opened) is None


def test_a_click_keeps_it_and_escape_or_a_click_elsewhere_closes_it(opened):
    here = centre(opened, CELL)
    opened.click(*here)
    assert SHA in box(opened) or "0" * 64 in box(opened)
    opened.move(5, 300)
    wait(opened)
    assert box(opened) is not None
    opened.key("Escape")
    assert box(opened) is None
    opened.click(*here)
    assert box(opened) is not None
    opened.click(5, 300)
    assert box(opened) is None
    assert opened.run("location.hash") == ""


def test_the_keyboard_reaches_it(opened):
    opened.run(f"document.querySelectorAll('{CELL}')[0].closest('table').parentElement.focus()")
    headings = opened.run("document.querySelectorAll('#table3 thead button').length")
    for _ in range(headings + 1):
        opened.key("Tab")
    focus = f"[...document.querySelectorAll('{CELL}')].indexOf(document.activeElement)"
    assert opened.run(focus) == 0
    assert "weights sha256" in box(opened)
    opened.key("Enter")
    assert opened.run("document.activeElement.id") == "provenance"
    opened.key("Escape")
    assert box(opened) is None and opened.run(focus) == 0
    opened.key("Tab")
    assert opened.run(focus) == 1 and box(opened) is not None


def test_a_link_leads_to_the_run_even_where_the_filter_hides_it(opened):
    opened.click(*centre(opened, CELL))
    opened.run("""(() => { const filter = document.querySelector("#filter");
        filter.value = "no such row"; filter.dispatchEvent(new Event("input")); })()""")
    opened.run("document.querySelector('#provenance p a').click()")
    wait(opened)
    row = "document.querySelector(location.hash)"
    assert opened.run("location.hash").startswith("#run-") and box(opened) is None
    assert opened.run(f"{row}.checkVisibility() && {row}.querySelector('details').open")


def test_counted_values_lead_to_their_report(opened):
    opened.click(*centre(opened, "#table6 td[data-sources] a"))
    text = box(opened)
    assert "footprint_presnet50_cpu.json" in text
    assert "python -m pretrain.footprint --encoder presnet50" in text


# ---- safety


def test_nothing_that_a_record_says_is_run(opened):
    rows = opened.run("""[...document.querySelectorAll("#runs tbody tr")]
        .filter((row) => row.textContent.includes("executed")).map((row) => row.id)""")
    assert len(rows) == len(WALL_TIMES)
    opened.click(*centre(opened, f"td[data-sources~={rows[0]}] a"))
    text = box(opened)
    assert f"config\n{HOSTILE}\n" in text and f"norm\n{HOSTILE}\n" in text
    assert opened.run("typeof executed") == "undefined"
    assert opened.run("document.querySelectorAll('[src=x], [onerror]').length") == 0
    assert opened.run("document.querySelectorAll('script').length") == 1


def test_the_policy_of_the_page_refuses_scripts_and_the_network(browser, page):
    browser.open(page)
    refused = """new Promise((tell) => {
        addEventListener("securitypolicyviolation", (event) => tell(event.effectiveDirective));
        %s
    })"""
    attempts = {
        "script-src-elem": "const code = document.createElement('script');"
        "code.textContent = 'executed = 1'; document.body.append(code)",
        "connect-src": "fetch('https://localhost/').catch(() => 0)",
        "img-src": "new Image().src = 'https://localhost/picture.png'",
    }
    for directive, attempt in attempts.items():
        assert browser.run(refused % attempt) == directive
    assert browser.run("typeof executed") == "undefined"


# ---- a phone, and no scripts


def test_a_phone_shows_all_of_it_without_scrolling_the_page_sideways(opened, page):
    opened.open(page, width=390, height=844)
    assert opened.run("innerWidth") == 390
    assert opened.run("document.documentElement.scrollWidth") <= 390
    outside = """[...document.querySelectorAll("body *")].filter((element) =>
        element.checkVisibility() && !element.closest(".scroll") && !element.matches("caption")
        && element.getBoundingClientRect().right > 390.5).map((element) => element.outerHTML)"""
    assert opened.run(outside) == []
    wide = "document.querySelector('#table2_paper .scroll')"
    assert opened.run(f"{wide}.scrollWidth > {wide}.clientWidth"), "it scrolls on its own"
    opened.run(f"{wide}.scrollLeft = 200")
    left = f"{wide}.querySelector('tbody th[scope=row]').getBoundingClientRect().left"
    assert opened.run(f"{left} - {wide}.getBoundingClientRect().left") == 0, "the method stays"
    opened.click(*centre(opened, CELL))
    edges = opened.run("""(({ left, right, bottom }) => [left, right, bottom])(
        document.querySelector("#provenance").getBoundingClientRect())""")
    assert edges == [0, 390, 844]
    assert opened.run("document.documentElement.scrollWidth") <= 390
    covered = "document.querySelector('td.shown').getBoundingClientRect().bottom"
    assert opened.run(covered) < opened.run(
        "document.querySelector('#provenance').getBoundingClientRect().top"
    )
    opened.run("""(() => { const filter = document.querySelector("#filter");
        filter.value = "split4.py"; filter.dispatchEvent(new Event("input")); })()""")
    left = opened.run("""[...document.querySelectorAll("#runs tbody tr")]
        .filter((row) => row.checkVisibility()).length""")
    assert left == 1, "rows are laid out anew on a phone, and stay hidden"


def test_without_scripts_the_tables_are_whole_and_lead_to_their_runs(opened, page, runs):
    opened.open(page, scripts=False)
    assert opened.run("document.querySelector('#bar').checkVisibility()") is False
    assert "leads to its run below" in opened.run("document.querySelector('#tables').innerText")
    assert blocks_of(opened, "#table2", 0)[1][1] == "SimCLR"
    assert opened.run("document.querySelectorAll('main button').length") == 0
    title, link = opened.run("""(({ title, firstChild }) => [title, firstChild.hash ??
        firstChild.firstChild.hash])(document.querySelector("#table3 td[data-sources]"))""")
    assert str(runs) in title and "weights" in title
    record = opened.run(f"document.querySelector('{link} dd').textContent")
    assert title.splitlines()[0] == record
