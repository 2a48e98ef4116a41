"""What README says of measurements: one function a region, from files in results/measured.

A sentence that draws a conclusion is only written where the measurements carry it (`_holds`).
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from results.plan.demo import COUNTS
from results.record.labels import ENCODERS, METHODS, STEP_METHODS
from results.record.run_record import parse_utc
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


# ---- README.md


def demo(measured: Path) -> str:
    """The demo's tables, how long it took, and its loss curves."""
    records = _records(measured / "demo")
    trained = records[records["kind"] == "pretrain"]
    (epochs,) = set(trained["pretrain_epochs"])
    (cores,) = {hardware["cores"] for hardware in records["hardware"]}
    begun = min(map(parse_utc, records["started_at"]))
    took = max(map(parse_utc, records["finished_at"])) - begun
    minutes, seconds = divmod(round(took.total_seconds()), 60)
    (steps,) = {
        pd.read_csv(Path(path).with_name("losses.csv"))["iteration"].iloc[-1]
        for path in trained["record_path"]
    }
    return _paragraphs(
        f"""What the demo printed (Mask R-CNN on a frozen, narrow and shallow ResNet; {epochs}
        epochs of pretraining on {COUNTS[1]} drawn images; {minutes} min {seconds} s of training and
        evaluation on {cores} CPU cores):""",
        *map(_table, all_tables(records)),
        "![Contrastive loss of every decoder](results/measured/demo_losses.png)",
        f"""{steps} iterations on drawn scenes say that the path works, not which method is
        better{_random_ahead(records)}. Such a run says in its record what it ran on, and can never
        fill a cell of the paper's tables.""",
    )


def _random_ahead(records: pd.DataFrame) -> str:
    runs = records[(records["kind"] == "transfer") & (records["dataset"] == "scenes_coco")]
    ap = runs.set_index("method")["metric_box_ap"]
    ahead = bool((ap.drop("random") < ap["random"]).all())
    return ": here frozen random weights beat all others" if ahead else ""


def footprint(measured: Path) -> str:
    """What local learning saves and costs, as a table, in words and as plots."""
    reports = {name: _read(measured, f"footprint_{name}_cpu.json") for name in ENCODERS}
    plain = reports["resnet50"]
    rows = [
        [label, *(f"{reports[name]['methods'][m]['saving_ratio']:.2f}x" for m in RECOMPUTED)]
        for name, label in ENCODERS.items()
    ]
    methods = plain["methods"]
    rival, loco = methods["simclr_checkpoint"], methods["loco"]
    local = [m for m in RECOMPUTED if m != "simclr_checkpoint"]
    beyond = [
        (name, m)
        for name, report in reports.items()
        for m in local
        if report["methods"][m]["saving_ratio"]
        > report["methods"]["simclr_checkpoint"]["saving_ratio"]
    ]
    conclusion = "only GIM on PResNet-50 goes beyond it"
    _holds(beyond == [("presnet50", "gim"), ("presnet50", "gim_recompute")], conclusion)
    gradients, decoders = _beyond_simclr(plain, "loco")
    naive = loco["step_seconds"] / methods["loco_naive"]["step_seconds"]
    pictures = "\n".join(
        f'<img src="results/measured/footprint_{name}_cpu.png" width="49%" '
        f'alt="Peak memory against step time, {label}">'
        for name, label in ENCODERS.items()
    )
    return _paragraphs(
        _grid(["", *(STEP_METHODS[name] for name in RECOMPUTED)], rows),
        pictures,
        f"""Plainly: on ResNet-50 checkpointing SimCLR saves more memory than local learning does,
        for {rival["work_ratio"]:.2f}x the computation; {conclusion}.""",
        f"""LoCo's step on ResNet-50 takes {loco["work_ratio"]:.2f}x SimCLR's multiply-adds:
        {gradients:.2f} for one more pass of input gradients through the stages that two units
        share, {decoders:.2f} for the decoders. Measured on a CPU it takes
        {loco["step_ratio"]:.2f}x the time, and {naive:.2f}x that of the naive form, which runs
        shared stages twice.""",
    )


def reliability(measured: Path) -> str:
    """Kills that were survived and hostile inputs that were tried."""
    report = _read(measured, "reliability.json")
    places, inputs = report["places"], report["hostile_inputs"]
    kills = sum(place["kills"] for place in places.values())
    faults = sum(place["with_faults"] for place in places.values())
    found = sum(len(inputs[kind]) for kind in ("crashes", "hangs", "unexplained"))
    lost = "nothing was lost and every result was the undisturbed one's"
    _holds(faults == 0, lost)
    explained = "each was read or refused with a reason"
    _holds(found == 0, explained)
    rows = [
        [
            name,
            str(place["kills"]),
            str(place["signals"].get("SIGTERM", 0)),
            str(place["phases"].get("writing", 0)),
        ]
        for name, place in places.items()
    ]
    return _paragraphs(
        f"""Real processes, killed at random moments and started again: {kills} kills, {lost}.
        {inputs["inputs"]:,} hostile inputs to {len(inputs["readers"])} readers: {explained}, none
        ran code or hung, and none took more than {inputs["peak_memory_mib"]:.0f} MiB.""",
        _grid(["killed in", "kills", "with SIGTERM", "in the middle of a write"], rows),
        "`python tools/measure.py reliability --json FILE` repeats it; the tests run a part of it.",
    )


# ---- results/measured/README.md


def work(measured: Path) -> str:
    """What a local step does beyond SimCLR's, in parts of it."""
    rows = []
    for name, label in ENCODERS.items():
        report = _read(measured, f"footprint_{name}_cpu.json")
        for method in ("loco", "gim"):
            found = report["methods"][method]
            gradients, decoders = _beyond_simclr(report, method)
            parts = [f"{gradients:+.3f}", f"{decoders:+.3f}"]
            ratios = [f"{found['work_ratio']:.3f}", f"{found['step_ratio']:.3f}"]
            rows.append([f"{label}, {METHODS[method]}", *parts, *ratios])
    heads = ["", "encoder, input gradients", "decoders and losses", "work in all", "time"]
    return _grid(heads, rows)


def learning(measured: Path) -> str:
    """What a short pretraining on CIFAR-10 learns."""
    records = _records(measured / "learning")
    read = records[records["kind"] == "linear"].set_index("method")
    trained = records[records["kind"] == "pretrain"].set_index("method")
    names = [name for name in METHODS if name in read.index]
    rows = [
        [label, *(f"{read[f'metric_{metric}'][name]:.1f}" for name in names)]
        for label, metric in (("k-NN", "knn_top1"), ("linear", "top1"))
    ]
    ends = [_first_and_last(trained, name) for name in names]
    rows.append(["loss of the last decoder, first and last logged", *ends])
    return _grid(["", *(METHODS[name] for name in names)], rows)


def _first_and_last(trained: pd.DataFrame, method: str) -> str:
    if method not in trained.index:
        return ""
    losses = pd.read_csv(Path(trained["record_path"][method]).with_name("losses.csv"))
    return ", ".join(f"{losses.iloc[row, -1]:.2f}" for row in (0, -1))


def transfer(measured: Path) -> str:
    """Our frozen detector against mmdetection's."""
    found = _read(measured, "transfer_cpu.json")
    ratio = found["ours_over_frozen"]
    width, height = found["scale"]
    _holds(ratio["peak_memory_mib"] == 1, "with the same peak memory")
    return _paragraphs(
        f"""Our frozen Mask R-CNN against mmdetection's ResNet-50 with `frozen_stages=4`, same
        images, heads and weights (`transfer_cpu.json`, {width}x{height}, batch
        {found["batch_size"]}): the backbone's forward takes {ratio["backbone_seconds"]:.2f} of the
        time, the whole iteration {ratio["iteration_seconds"]:.2f}, with the same peak memory."""
    )


def throughput(measured: Path) -> str:
    """Views a second, and SimCLR's step, beside lightly's."""
    found = _read(measured, "throughput_cpu.json")
    one, every = found["loading"]["per_core"], found["loading"]["all_cores"]
    rows = [
        [label, *(_beside_lightly(loading[name]) for loading in (one, every))]
        for name, label in LOADERS.items()
    ]
    step = found["step"]
    ours = step["competitors"]["ours"]
    heads = ["", "of one core's processor time", f"on the clock, {found['workers']} workers"]
    return _paragraphs(
        f"""Photographs a second, each read and made two views of {found["size"]} px; in brackets
        the ratio to lightly's, median and range of {found["repeats"]} rounds
        (`throughput_cpu.json`).""",
        _grid(heads, rows),
        f"""A SimCLR step of {step["batch_size"]} images of {step["size"]} px takes lightly's
        modules {ours["ratio"]:.2f} times as long as ours ({_range(ours)} in {step["repeats"]}
        rounds).""",
    )


def _beside_lightly(found: dict[str, Any]) -> str:
    return f"{found['images_per_second']:.0f} ({found['ratio']:.2f}x, {_range(found)})"


def _range(found: dict[str, Any]) -> str:
    low, high = found["ratio_range"]
    return f"{low:.2f} to {high:.2f}"


def tables(measured: Path) -> str:
    """From records to tables and report, by the number of records."""
    columns = {"load_s": "read and checked", "to_all_tables_s": "to all tables, five formats each"}
    columns |= {"report_s": "the report"}
    rows = [
        [f"{size['records']:,}", *(f"{size[name]:.1f} s" for name in columns)]
        for size in _read(measured, "tables_cpu.json")["sizes"]
    ]
    return _grid(["records", *columns.values()], rows)


# ---- what they share


def _read(measured: Path, file: str) -> dict[str, Any]:
    content = json.loads((measured / file).read_text())
    assert isinstance(content, dict)
    return content


def _records(folder: Path) -> pd.DataFrame:
    """Raises FileNotFoundError where there is none, ValueError where one is wrong."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"found no {folder}; `python tools/readme.py --take {folder.name} RUNS` fills it"
        )
    records, problems = load_records([folder])
    if problems:
        raise ValueError("; ".join(map(str, problems)))
    return records


def _beyond_simclr(report: dict[str, Any], method: str) -> tuple[float, float]:
    """Work beyond SimCLR's, in its steps: of the encoder's input gradients, of decoders."""
    ours, simclr = (report["methods"][name]["work_parts"] for name in (method, "simclr"))
    gradients, decoders = (ours[part] - simclr[part] for part in ("input_gradients", "decoders"))
    return gradients, decoders


def _holds(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(
            f"the measurements no longer say {sentence!r}; write what they say in "
            "tools/readme/regions.py"
        )


def _table(table: Any) -> str:
    """As `python -m results` prints it, its title in bold rather than a heading."""
    heading, _, rest = to_markdown(table).partition("\n\n")
    return f"**{heading.removeprefix('### ')}**\n\n{rest.strip()}"


def _paragraphs(*parts: str) -> str:
    """Tables and pictures as they are, prose in lines of equal length."""
    return "\n\n".join(
        part
        if part.startswith(("|", "**", "!", "<"))
        else textwrap.fill(" ".join(part.split()), 104)
        for part in parts
    )


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: names to the left, numbers to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *rows))


REGIONS: dict[str, Callable[[Path], str]] = {
    region.__name__: region
    for region in (demo, footprint, reliability, work, learning, transfer, throughput, tables)
}
