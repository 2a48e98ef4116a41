"""The tables of the pages, from files in results/measured: a function a region, of its name."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from results.record.labels import ENCODERS, METHODS, STEP_METHODS
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.writers import to_markdown

RECOMPUTED = ("gim", "loco", "simclr_checkpoint", "gim_recompute", "loco_recompute")
LOADERS = {
    "ours": "ours",
    "ours_normalised": "ours, normalised",
    "ours_colour_on_device": "ours, colour left to the device",
    "lightly": "lightly",
    "torchvision_pil": "torchvision on Pillow",
}


def demo(measured: Path) -> str:
    """The demo's tables as `python -m results` prints them, their titles in bold."""
    printed = map(to_markdown, all_tables(records_in(measured / "demo")))
    parts = [text.removeprefix("### ").partition("\n\n") for text in printed]
    return "\n\n".join(f"**{title}**\n\n{rest.strip()}" for title, _, rest in parts)


def footprint(measured: Path) -> str:
    """SimCLR's peak memory over each method's."""
    rows = [
        [label, *(f"{methods[name]['saving_ratio']:.2f}x" for name in RECOMPUTED)]
        for label, methods in _footprints(measured)
    ]
    return _table(["", *(STEP_METHODS[name] for name in RECOMPUTED)], rows)


def work(measured: Path) -> str:
    """What a local step does beyond SimCLR's, in parts of it."""
    rows = []
    for label, methods in _footprints(measured):
        simclr = methods["simclr"]["work_parts"]
        for method in ("loco", "gim"):
            found = methods[method]
            more = [found["work_parts"][p] - simclr[p] for p in ("input_gradients", "decoders")]
            ratios = [f"{found['work_ratio']:.3f}", f"{found['step_ratio']:.3f}"]
            rows.append([f"{label}, {METHODS[method]}", *(f"{m:+.3f}" for m in more), *ratios])
    return _table(["", "encoder, input gradients", "decoders and losses", "work", "time"], rows)


def reliability(measured: Path) -> str:
    """Kills that were survived, by place, and hostile inputs that were tried."""
    report = _read(measured / "reliability.json")
    inputs = report["hostile_inputs"]
    rows = [
        [name, place["kills"], place["with_faults"], place["signals"].get("SIGTERM", 0)]
        for name, place in report["places"].items()
    ]
    faults = sum(len(inputs[kind]) for kind in ("crashes", "hangs", "unexplained"))
    kills = _table(["killed in", "kills", "something was lost", "with SIGTERM"], rows)
    tried = [[f"{inputs['inputs']:,}", len(inputs["readers"]), faults]]
    return f"{kills}\n\n{_table(['hostile inputs', 'readers', 'faults'], tried)}"


def learning(measured: Path) -> str:
    """What a short pretraining on CIFAR-10 learns."""
    records = records_in(measured / "learning")
    read = records[records["kind"] == "linear"].set_index("method")
    names = [name for name in METHODS if name in read.index]
    rows = [
        [label, *(f"{read[f'metric_{metric}'][name]:.1f}" for name in names)]
        for label, metric in (("k-NN", "knn_top1"), ("linear", "top1"))
    ]
    return _table(["", *(METHODS[name] for name in names)], rows)


def transfer(measured: Path) -> str:
    """Our frozen detector over mmdetection's."""
    ratio = _read(measured / "transfer_cpu.json")["ours_over_frozen"]
    heads = ("backbone_seconds", "iteration_seconds", "peak_memory_mib")
    rows = [["ours / mmdetection's", *(f"{ratio[name]:.2f}" for name in heads)]]
    return _table(["", "backbone's forward", "whole iteration", "peak memory"], rows)


def throughput(measured: Path) -> str:
    """Photographs a second that are read and made two views, with the ratio to lightly's."""
    found = _read(measured / "throughput_cpu.json")
    rows = [
        [label, *(_rate(found["loading"][way][name]) for way in ("per_core", "all_cores"))]
        for name, label in LOADERS.items()
    ]
    return _table(["", "of one core's time", f"on the clock, {found['workers']} workers"], rows)


def tables(measured: Path) -> str:
    """From records to tables and report, by the number of records."""
    heads = {"load_s": "read and checked", "to_all_tables_s": "all tables", "report_s": "report"}
    rows = [
        [f"{size['records']:,}", *(f"{size[name]:.1f} s" for name in heads)]
        for size in _read(measured / "tables_cpu.json")["sizes"]
    ]
    return _table(["records", *heads.values()], rows)


REGIONS: dict[str, Callable[[Path], str]] = {
    region.__name__: region
    for region in (demo, footprint, reliability, work, learning, transfer, throughput, tables)
}


def records_in(folder: Path) -> pd.DataFrame:
    """The run records of a folder; a ValueError says what is wrong with one of them."""
    records, problems = load_records([folder])
    if problems:
        raise ValueError("; ".join(map(str, problems)))
    return records


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def _footprints(measured: Path) -> list[tuple[str, Any]]:
    return [
        (label, _read(measured / f"footprint_{name}_cpu.json")["methods"])
        for name, label in ENCODERS.items()
    ]


def _rate(found: dict[str, Any]) -> str:
    low, high = found["ratio_range"]
    return f"{found['images_per_second']:.0f} ({found['ratio']:.2f}x, {low:.2f} to {high:.2f})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown: names to the left, numbers to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (heads, rule, *rows))
