"""The readers of results/ and of tools/."""

import csv
import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from results.figures.artifacts import load_losses, load_scenes
from results.figures.tsne import read_features
from results.plan.run import Run
from results.record.run_record import RunRecord
from results.report.report import render_report
from results.report.trace import find_cell, trace
from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints, read_footprints
from results.tables.load import load_records
from results.tables.paper import read_values
from results.tables.writers import FORMATS
from tests.helpers.run_records import SHA, make_record
from tests.reliability.mutations import (
    TEXTS,
    Payload,
    changed,
    hostile_archive,
    hostile_bytes,
    hostile_json,
    hostile_picture,
    payload_pickle,
    write,
)
from tests.reliability.targets import Read, Spoil, Target
from tools.reproduce.state import Place, look
from tools.setup.machine import ROOT

DATASETS = {"pretrain": "imagenet1k", "linear": "imagenet1k", "transfer": "coco2017"}
PROTOCOLS = {"pretrain": "pretrain", "linear": "linear", "transfer": "frozen_1x"}
METRICS = {
    "pretrain": {"loss_res5": 1.0},
    "linear": {"top1_res5": 60.0, "knn_top1_res5": 50.0},
    "transfer": {"box_ap": 32.6, "mask_ap": 30.1},
}


def valid_record(kind: str = "transfer", **changes: Any) -> dict[str, Any]:
    """A run record as JSON."""
    record = make_record(
        kind=kind, dataset=DATASETS[kind], protocol=PROTOCOLS[kind], metrics=METRICS[kind],
        artifacts={"losses": "losses.csv", "pictures": []},
        settings={"units": "loco", "decoder": {"conv_blocks": 1}},
    )  # fmt: skip
    return {**asdict(record), **changes}


def record(folder: Path) -> tuple[Spoil, Read]:
    """A record that is accepted is written again as it was read."""

    def spoil(random: Random) -> Path:
        valid = valid_record(random.choice(list(METRICS)))
        return write(folder / "record.json", hostile_json(random, valid))

    def read(path: Path) -> None:
        found = RunRecord.read(path)
        assert RunRecord.read(found.write(path.with_name("again.json"))) == found

    return spoil, read


FREE = (
    "encoder", "dataset", "protocol", "deviations", "split", "seed", "config", "git_commit", "norm",
    "precision", "backbone", "metrics", "artifacts", "settings", "hardware", "versions",
)  # fmt: skip  # fields that a record may fill as it likes


def tables(folder: Path) -> tuple[Spoil, Read]:
    """Odd records to every table in every format, and one time in 25 to the report."""
    reported = []

    def spoil(random: Random) -> Path:
        for number in range(3):
            found = valid_record(random.choice(list(METRICS)), seed=number)
            for _ in range(random.randrange(4)):
                name = random.choice(FREE)
                text = isinstance(found[name], str)
                found[name] = random.choice(TEXTS) if text else changed(random, found[name])
            write(folder / f"run{number}" / "record.json", json.dumps(found).encode())
        reported[:] = [random.randrange(25) == 24]
        return folder

    def read(path: Path) -> None:
        records, problems = load_records([path])
        found = all_tables(records)
        for table in found:
            for form in FORMATS.values():
                form(table).encode()
            cell = table.cells.to_dict("records")[0]
            json.dumps(trace({str(key): value for key, value in cell.items()}, records))
        for problem in problems:
            str(problem).encode()
        if reported[0]:
            render_report(records, problems)[0].encode()
        try:
            find_cell(found, "table2", "loco", "coco ap")
        except ValueError:
            return

    return spoil, read


def hostile_csv(random: Random, rows: list[list[Any]]) -> bytes:
    """A table with values, rows or bytes changed."""
    found = changed(random, rows, random.randrange(4))
    lines = found if isinstance(found, list) else [found]
    out = io.StringIO()
    writer = csv.writer(out, escapechar="\\")
    writer.writerows(line if isinstance(line, list) else [line] for line in lines)
    content = out.getvalue().encode(errors="surrogatepass")
    return hostile_bytes(random, content) if random.randrange(5) < 2 else content


def losses(folder: Path) -> tuple[Spoil, Read]:
    """What is wrong with a pretraining's losses is a problem, not an error."""
    write(folder / "record.json", json.dumps(valid_record("pretrain")).encode())
    records, _ = load_records([folder])
    rows: list[list[Any]] = [["iteration", "epoch", "a", "b"]]
    rows += [[i, 1, 0.5, i / 7] for i in range(20)]

    def spoil(random: Random) -> Path:
        return write(folder / "losses.csv", hostile_csv(random, rows))

    def read(path: Path) -> None:
        frames, problems = load_losses(records)
        assert all((frame["iteration"] >= 0).all() for frame in frames.values())
        assert len(frames) + len(problems) == 1

    return spoil, read


def recorded_picture(folder: Path) -> tuple[Spoil, Read]:
    """A picture that a record names becomes a small JPEG, or a problem."""
    valid = valid_record(artifacts={"pictures": ["p.png"]})
    write(folder / "record.json", json.dumps(valid).encode())
    records, _ = load_records([folder])

    def spoil(random: Random) -> Path:
        return write(folder / "p.png", hostile_picture(random))

    def read(path: Path) -> None:
        scenes, problems = load_scenes(records)
        assert len(scenes) + len(problems) == 1

    return spoil, read


def footprint(folder: Path) -> tuple[Spoil, Read]:
    """Tables of a footprint report that is accepted can be written."""
    stages = [{"name": n, "memory_percent": 50.0, "flops_percent": 50.0} for n in ("res2", "res3")]
    method = {"peak_memory_mib": 1.0, "saving_ratio": 1.0, "work_ratio": 1.0, "setting": ""}
    valid = {
        "encoder": "resnet50", "image_size": 224, "batch_size": 64, "world_size": 1,
        "precision": "float32", "flops_g": 4.1, "stages": stages,
        "methods": {"simclr": method, "loco": dict(method)},
    }  # fmt: skip

    def spoil(random: Random) -> Path:
        content = random.choice((valid, valid, {"reports": [valid, valid]}))
        return write(folder / "footprint_a.json", hostile_json(random, content))

    def read(path: Path) -> None:
        read_footprints(path)
        reports, _ = load_footprints([path])
        for table in all_tables(load_records([])[0], reports):
            for form in FORMATS.values():
                form(table).encode()

    return spoil, read


def features(folder: Path) -> tuple[Spoil, Read]:
    """The feature file of a readout, an archive of arrays."""
    valid: dict[str, Any] = {
        "features": np.ones((6, 4), np.float32), "labels": np.array([0, 1, 2] * 2),
        "class_names": np.array(["a", "b", "c"]), "stage": "res5", "method": "loco",
        "encoder": "resnet50", "epochs": 1, "weights_sha256": SHA,
    }  # fmt: skip
    odd = (
        np.array([]), np.array(0), np.full((6, 4), np.nan), np.ones((6, 4), complex),
        np.array(["x"]), np.array([[1, 2], [3, 4]]), np.array([Payload()], dtype=object),
        np.array([2**63], np.uint64), np.array(["2026"], "M8[Y]"), np.zeros((6, 0)),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), np.array([True] * 6),
    )  # fmt: skip
    shapes = (b"(2**40, 4)", b"(999999999999, 4)", b"(1000000000, 4)", b"(-1, 4)")

    def spoil(random: Random) -> Path:
        arrays, how, out = dict(valid), random.randrange(20), io.BytesIO()
        for _ in range(random.randrange(3)):
            arrays[random.choice(list(arrays))] = random.choice(odd)
            if random.randrange(10) == 0:
                del arrays[random.choice(list(arrays))]
        random.choice((np.savez, np.savez_compressed))(out, **arrays)
        content = out.getvalue()
        if how < 4:
            content = hostile_bytes(random, content)
        elif how < 10:
            content = hostile_archive(random, content)
        elif how == 10:
            content = payload_pickle(random)
        elif how == 11:
            np.save(out := io.BytesIO(), valid["features"])
            content = out.getvalue()
        elif how < 14:
            content = _promising(content, random.choice(shapes))
        return write(folder / "loco.npz", content)

    def read(path: Path) -> None:
        found = read_features(path)
        assert found.features.shape[0] == len(found.classes)

    return spoil, read


def _promising(content: bytes, shape: bytes) -> bytes:
    """The features' header promises more than there is."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "features.npy":
                data = data.replace(b"(6, 4), }" + b" " * (len(shape) - 6), shape + b", }", 1)
            target.writestr(name, data)
    return out.getvalue()


def paper_values(folder: Path) -> tuple[Spoil, Read]:
    """The paper's values."""
    with (ROOT / "results/tables/paper.csv").open(newline="") as lines:
        rows = list(csv.reader(lines))[:40]

    def spoil(random: Random) -> Path:
        return write(folder / "paper.csv", hostile_csv(random, rows))

    def read(path: Path) -> None:
        values = read_values(path)
        assert values["value"].notna().all() and len(values)

    return spoil, read


def planned_run(folder: Path) -> tuple[Spoil, Read]:
    """What a planned run has left in its folder."""
    run = Run("a", "transfer", (), "configs/a.py", method="loco", encoder="resnet50")

    def spoil(random: Random) -> Path:
        return write(folder / "a/record.json", hostile_json(random, valid_record()))

    def read(path: Path) -> None:
        look(run, Place(str(folder), str(folder)))

    return spoil, read


TARGETS: dict[str, Target] = {
    "record": record,
    "records to tables and report": tables,
    "losses.csv": losses,
    "picture of a record": recorded_picture,
    "footprint report": footprint,
    "features .npz": features,
    "paper.csv": paper_values,
    "planned run": planned_run,
}
