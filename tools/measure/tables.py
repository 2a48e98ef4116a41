"""From N run records on disk to every table in every format: seconds of processor time.

The records are made up: every row of Tables 1 to 5 and 7, over many seeds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

from results.record.run_record import Backbone, Kind, RunRecord
from results.report.report import render_report
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.paper import TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE7, optional_int
from results.tables.writers import FORMATS

LINEAR = (TABLE1, TABLE4, TABLE5, TABLE7)
T = TypeVar("T")


def made_up() -> Iterator[RunRecord]:
    """Valid records without end, no two of them the same run."""
    linear: Kind = "linear"
    runs = {
        (linear if table in LINEAR else "transfer", row, dataset, protocol, split)
        for table in (*LINEAR, TABLE2, TABLE3)
        for row in table.rows
        for dataset, protocol in table.protocols.items()
        for split in table.splits or (None,)
    }
    for seed in count():
        yield from (record(*run, seed) for run in runs)


def record(
    kind: Kind, row: Any, dataset: str, protocol: str, split: int | None, seed: int
) -> RunRecord:
    """One of them, as large as a real one."""
    sha = f"{seed:064x}"
    settings = settings_of(row.method, row.setting)
    provenance = {"dataset": "imagenet1k", "deviations": [], "seed": seed, "settings": settings}
    backbone: Backbone = {"path": "backbone.safetensors", "sha256": sha, "provenance": provenance}
    stages = [f"{name}_res{k}" for name in ("top1", "knn_top1") for k in range(2, 6)]
    names = ["top1", "top5", *stages] if kind == "linear" else ["box_ap", "mask_ap", "box_ap50"]
    return RunRecord(
        kind=kind, method=row.method, encoder=row.encoder,
        pretrain_epochs=optional_int(row.pretrain_epochs), dataset=dataset,
        dataset_fingerprint=f"{split or 0:064x}", protocol=protocol, deviations=(), split=split,
        seed=seed, config="configs/x.py", config_hash=sha, git_commit="", world_size=8,
        global_batch_size=16, precision="float32", norm="SyncBatchNorm over 8 processes",
        learning_rate=0.02, versions={f"package{i}": "1.0" for i in range(12)},
        hardware={"cpu": "a processor", "gpus": ["a GPU"] * 8},
        backbone=None if row.method == "random" else backbone,
        metrics={name: 20 + (seed * 7 + len(name)) % 50 for name in names}, wall_time_s=1.0,
        peak_memory_mib=1.0, started_at="2026-01-31T12:00:00+00:00",
        finished_at="2026-01-31T12:01:00+00:00", artifacts={"pictures": ["pictures/000.png"]},
        settings=settings, setting=row.setting,
    )  # fmt: skip


def settings_of(method: str, setting: str) -> dict[str, Any]:
    """Settings that change `setting` of the method's own."""
    changes = [change.split("=") for change in setting.split()]
    own = {"units": method, "conv_blocks": 0 if method == "simclr" else 1}
    return own | {k: v if k == "units" else json.loads(v.lower()) for k, v in changes}


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the processor seconds that it took."""
    start = time.process_time()
    result = work()
    return result, round(time.process_time() - start, 2)


def seconds_for(records: int) -> dict[str, Any]:
    """Seconds of each part for so many records."""
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(islice(made_up(), records)):
            run = Path(folder, f"run{number}")
            run.mkdir()
            content = {name: getattr(one, name) for name in one.__dataclass_fields__}
            (run / "record.json").write_text(json.dumps(content, indent=2))
        (runs, problems), load = timed(lambda: load_records([folder]))
        tables, build = timed(lambda: all_tables(runs))
        _, write = timed(lambda: [to(table) for table in tables for to in FORMATS.values()])
        _, report = timed(lambda: render_report(runs))
    parts = {"load_s": load, "tables_s": build, "formats_s": write}
    total = round(sum(parts.values()), 2)
    found = {"records": records, "kept": len(runs), "problems": len(problems)}
    return {**found, "tables": len(tables), **parts, "to_all_tables_s": total, "report_s": report}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this measurement."""
    parser.add_argument("--records", type=int, nargs="+", default=[2500, 5000, 10000])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds for each number of records."""
    seconds_for(100)  # what is done once: imports, fonts
    sizes = [seconds_for(records) for records in args.records]
    for size in sizes:
        print(", ".join(f"{name}: {value}" for name, value in size.items()), flush=True)
    return {"sizes": sizes}
