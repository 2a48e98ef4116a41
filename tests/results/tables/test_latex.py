"""Every table as LaTeX: compiled where there is a pdflatex, and nothing wider than the line."""

import re
import shutil
import subprocess

import pytest

from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints
from results.tables.latex import _latex, to_latex
from results.tables.load import load_records
from results.tables.paper import TABLE1, TABLE3, TABLE4, TABLE5, TABLE7, optional_int
from tests.helpers.places import MEASURED
from tests.helpers.run_records import make_record, paper_table2_records, write_records

LINEAR = {"kind": "linear", "protocol": "linear", "dataset": "imagenet1k"}
NAME = r"a_b 50% & more #1 $x$ ~home ^up \input{x} {braces} <tag> |bar| -- 'it' ±"
# as pdftotext reads it: an underscore is a rule, a lone tilde and caret are accents
PRINTED = "a b 50% & more #1 $x$ ˜home ˆup \\input{x} {braces} <tag> |bar| -- ’it’ ±"


def fine_tuned():
    """Table 3 with five splits around each value."""
    values = {}
    for row in TABLE3.values.itertuples():
        key = (row.method, optional_int(row.pretrain_epochs), row.dataset)
        values.setdefault(key, {})[row.metric] = row.value
    return [
        make_record(
            method=method, pretrain_epochs=epochs, dataset=dataset, split=split,
            protocol=TABLE3.protocols[dataset],
            metrics={name: value + 0.1 * (split - 2) ** 3 for name, value in found.items()},
        )
        for (method, epochs, dataset), found in values.items()
        for split in range(5)
    ]  # fmt: skip


def read_out():
    """Tables 1 and 7 as printed, and one readout that has every column and stage."""
    rows = [*TABLE1.values.itertuples(), *TABLE7.values.itertuples()]
    printed = [
        make_record(
            **LINEAR, method=row.method, encoder=row.encoder, metrics={"top1": row.value},
            pretrain_epochs=optional_int(row.pretrain_epochs),
        )
        for row in rows
        if row.method and row.metric == "top1"
    ]  # fmt: skip
    stages = {f"top1_res{k}": 20.0 + k for k in range(2, 8)}
    full = {"top1": 60.0, "top5": 80.0, "knn_top1": 50.0, "knn_top5": 70.0} | stages
    return [
        *printed,
        make_record(**LINEAR, metrics=full, deviations=("epochs: 10 instead of 100",)),
    ]


def demo():
    """The demo's three protocols, and names that only LaTeX could stumble over."""
    tiny = {"encoder": "resnet_tiny", "pretrain_epochs": 25}
    shapes = {"kind": "linear", "dataset": "scenes_shapes", "protocol": "demo_linear"}
    return [
        make_record(**tiny, dataset="scenes_coco", protocol="demo_frozen"),
        make_record(**tiny, dataset="scenes_cityscapes", protocol="demo_frozen"),
        make_record(**tiny, dataset="scenes20", protocol="demo_finetuned", split=0),
        make_record(**tiny, **shapes, metrics={"top1": 30.0, "top1_res2": 20.0}),
        make_record(dataset=NAME, encoder=NAME, protocol=NAME, deviations=(NAME,)),
    ]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, *paper_table2_records(), *fine_tuned(), *read_out(), *demo())
    records, _ = load_records([folder])
    return {table.name: table for table in all_tables(records, load_footprints([MEASURED])[0])}


def test_there_is_one_of_every_kind(tables):
    forms = [("1", "_paper"), ("2", "_paper"), ("3", "_paper", "_splits"), ("6", "_paper")]
    numbered = {f"table{number}{form}" for number, *rest in forms for form in ("", *rest)}
    demos = {"other_demo_frozen", "other_demo_finetuned", "other_demo_linear", "stages_linear"}
    assert numbered | demos | {"table7", "table8", "other_linear"} <= set(tables)
    assert not {f"table{paper.number}" for paper in (TABLE4, TABLE5)} & set(tables)


def test_captions_leave_the_number_to_latex(tables):
    captions = {
        name: re.search(r"\\caption\{(.*)\}\\smallskip", to_latex(table))[1]
        for name, table in tables.items()
    }
    assert not any(caption.startswith("Table") for caption in captions.values())
    assert captions["table2"] == (
        "Mask R-CNN on COCO and Cityscapes, backbone frozen (the paper's Table 2)"
    )
    for name in ("other_demo_frozen", "other_demo_finetuned", "other_demo_linear"):
        assert captions[name].endswith("not comparable with the paper")


def test_long_texts_go_over_lines_and_numbers_do_not(tables):
    layers, ours = to_latex(tables["table8"]), to_latex(tables["table3"])
    assert r"{lrlrl}" in layers and r"[1$\times$1, 512; 3$\times$3, 512; 1$\times$1," in layers
    assert r"2048] $\times$ 3\end{tabular} \\" in layers  # not "x" at a line's end
    assert r"{lrrrr}" in ours and r"\begin{tabular}[t]" not in ours
    spread = r"{\scriptsize~$\pm$ 0.6, n=5} ($+0.5$)"  # of 0.1 (-8, -1, 0, 1, 8): sqrt(1.3 / 4)
    assert r"LoCo & \textbf{26.1}" + spread in ours


def test_latex_rows_have_equal_columns(tables):
    for table in tables.values():
        text = to_latex(table)
        bare = re.sub(r"\\\\|\\[{}&%$#_]", "", text)
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        assert "%" not in bare and "✓" not in text and "×" not in text
        columns = len(re.search(r"begin{tabular}{(\w+)}", text)[1])
        rows = [line for line in text.splitlines() if line.endswith(r" \\") and "cmid" not in line]
        spans = {
            sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
            + len(re.findall(r"(?<!\\)&", row))
            + 1
            for row in rows
        }
        assert spans == {columns}, table.name


def test_hyphens_and_quotes_stay_what_they_are():
    assert _latex("--cfg-options ''") == "-{}-cfg-options '{}'"


needs_pdflatex = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("pdflatex", "pdftotext", "kpsewhich")),
    reason="pdflatex and pdftotext (apt-get install texlive-latex-recommended poppler-utils)",
)


@needs_pdflatex
def test_all_tables_compile_in_one_document_and_fit_its_lines(tables, tmp_path):
    body = "\n\\clearpage\n".join(map(to_latex, tables.values()))
    packages = "\\usepackage{booktabs,graphicx}"
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:]
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert [line for line in log.splitlines() if line.startswith(("Overfull", "LaTeX Warn"))] == []
    pages = subprocess.run(
        ["pdftotext", "-layout", "t.pdf", "-"], cwd=tmp_path, capture_output=True
    )
    words = " ".join(pages.stdout.decode().split())
    assert PRINTED in words and "26.1 ± 0.6, n=5 (+0.5)" in words and "MoCo R-50 — 60.6 —" in words
    assert words.count("not comparable with the paper") >= 5
