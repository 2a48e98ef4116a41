"""The readers of results/, each with a valid input and a way to spoil it."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from results.figures.artifacts import load_losses, load_scenes
from results.figures.tsne import read_features
from results.record.run_record import RunRecord
from results.report.report import render_report
from results.report.trace import find_cell, trace
from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints, read_footprints
from results.tables.load import load_records
from results.tables.paper import read_values
from results.tables.writers import FORMATS
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
from tools.setup.machine import ROOT

SHA = "0123456789abcdef" * 4


def valid_record(kind: str = "transfer", **changes: Any) -> dict[str, Any]:
    """A run record as JSON, with ``changes``."""
    provenance = {"dataset": "imagenet1k", "deviations": [], "seed": 0, "settings": {}}
    metrics = {"linear": {"top1_res5": 60.0, "knn_top1_res5": 50.0}, "pretrain": {"loss_res5": 1.0}}
    record = RunRecord(
        kind=kind, method="loco", encoder="resnet50", pretrain_epochs=100,
        dataset={"transfer": "coco2017"}.get(kind, "imagenet1k"), dataset_fingerprint=SHA,
        protocol={"transfer": "frozen_1x", "linear": "linear"}.get(kind, "pretrain"),
        deviations=(), split=None, seed=0, config="configs/a.py", config_hash=SHA, git_commit="",
        world_size=1, global_batch_size=16, precision="float32", norm="SyncBatchNorm",
        learning_rate=0.02, versions={"python": "3.11"}, hardware={"cpu": "a", "devices": []},
        backbone={"path": "b.safetensors", "sha256": SHA, "provenance": provenance},
        metrics=metrics.get(kind, {"box_ap": 32.6, "mask_ap": 30.1}), wall_time_s=61.5,
        peak_memory_mib=None, started_at="2026-01-31T12:00:00+00:00",
        finished_at="2026-01-31T12:01:01Z", artifacts={"losses": "losses.csv", "pictures": []},
        settings={"units": "loco", "decoder": {"conv_blocks": 1}},
    )  # fmt: skip
    return {**asdict(record), **changes}


class Records:
    """``record.json``, and that one which is accepted is written again as it was read."""

    share = 16.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "record.json"

    def spoil(self, random: Random) -> Path:
        kind = random.choice(("pretrain", "linear", "transfer"))
        return write(self.file, hostile_json(random, valid_record(kind)))

    def read(self, path: Path) -> None:
        record = RunRecord.read(path)
        assert RunRecord.read(record.write(path.with_name("again.json"))) == record


FREE = (
    "encoder", "dataset", "protocol", "deviations", "split", "seed", "config", "git_commit", "norm",
    "precision", "backbone", "metrics", "artifacts", "settings", "hardware", "versions",
)  # fmt: skip  # fields that a record may fill as it likes


class Tables:
    """Folders of records, some odd, to every table in every format; now and then to the report."""

    share = 0.4

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spoil(self, random: Random) -> Path:
        for number in range(3):
            kind = random.choice(("pretrain", "linear", "transfer"))
            record = valid_record(kind, seed=number)
            for _ in range(random.randrange(4)):
                name = random.choice(FREE)
                text = isinstance(record[name], str)
                record[name] = random.choice(TEXTS) if text else changed(random, record[name])
            content = json.dumps(record).encode()
            write(self.folder / f"run{number}" / "record.json", content)
        self.draws = random.random() < 0.04
        return self.folder

    def read(self, path: Path) -> None:
        records, problems = load_records([path])
        tables = all_tables(records)
        for table in tables:
            for form in FORMATS.values():
                form(table).encode()
            cell = table.cells.to_dict("records")[0]
            json.dumps(trace({str(key): value for key, value in cell.items()}, records))
        for problem in problems:
            str(problem).encode()
        if self.draws:
            render_report(records, problems)[0].encode()
        try:
            find_cell(tables, "table2", "loco", "coco ap")
        except ValueError:
            return


def hostile_csv(random: Random, rows: list[list[Any]]) -> bytes:
    """A table with values, rows or bytes changed."""
    found = changed(random, rows, random.randrange(4))
    out = io.StringIO()
    lines = [row if isinstance(row, list) else [row] for row in _as_list(found)]
    csv.writer(out, escapechar="\\").writerows(lines)
    content = out.getvalue().encode(errors="surrogatepass")
    return hostile_bytes(random, content) if random.random() < 0.4 else content


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Losses:
    """``losses.csv`` of a pretraining; what is wrong with it is a problem, not an error."""

    share = 3.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write(folder / "record.json", json.dumps(valid_record("pretrain")).encode())
        self.records, _ = load_records([folder])

    def spoil(self, random: Random) -> Path:
        rows: list[list[Any]] = [
            ["iteration", "epoch", "a", "b"],
            *([i, 1, 0.5, i / 7] for i in range(20)),
        ]
        return write(self.folder / "losses.csv", hostile_csv(random, rows))

    def read(self, path: Path) -> None:
        frames, problems = load_losses(self.records)
        assert all((frame["iteration"] >= 0).all() for frame in frames.values())
        assert len(frames) + len(problems) == 1


class Pictures:
    """A picture that a record names: a PNG or JPEG becomes a small JPEG, all else a problem."""

    share = 4.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = valid_record(artifacts={"pictures": ["p.png"]})
        write(folder / "record.json", json.dumps(record).encode())
        self.records, _ = load_records([folder])

    def spoil(self, random: Random) -> Path:
        return write(self.folder / "p.png", hostile_picture(random))

    def read(self, path: Path) -> None:
        scenes, problems = load_scenes(self.records)
        assert len(scenes) + len(problems) == 1


class Footprints:
    """A footprint report, and that the tables of one which is accepted can be written."""

    share = 5.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "footprint_a.json"
        stages = [
            {"name": n, "memory_percent": 50.0, "flops_percent": 50.0} for n in ("res2", "res3")
        ]
        method = {"peak_memory_mib": 1.0, "saving_ratio": 1.0, "work_ratio": 1.0, "setting": ""}
        self.valid = {
            "encoder": "resnet50", "image_size": 224, "batch_size": 64, "world_size": 1,
            "precision": "float32", "flops_g": 4.1, "stages": stages,
            "methods": {"simclr": method, "loco": dict(method)},
        }  # fmt: skip

    def spoil(self, random: Random) -> Path:
        several = random.random() < 0.3
        valid = {"reports": [self.valid, self.valid]} if several else self.valid
        return write(self.file, hostile_json(random, valid))

    def read(self, path: Path) -> None:
        read_footprints(path)
        reports, _ = load_footprints([path])
        for table in all_tables(load_records([])[0], reports):
            for form in FORMATS.values():
                form(table).encode()


class Features:
    """A feature file of a readout."""

    share = 4.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "loco.npz"
        self.valid: dict[str, Any] = {
            "features": np.ones((6, 4), np.float32), "labels": np.array([0, 1, 2] * 2),
            "class_names": np.array(["a", "b", "c"]), "stage": "res5", "method": "loco",
            "encoder": "resnet50", "epochs": 1, "weights_sha256": SHA,
        }  # fmt: skip

    def spoil(self, random: Random) -> Path:
        arrays = dict(self.valid)
        for _ in range(random.randrange(3)):
            name = random.choice(list(arrays))
            odd = (
                np.array([]), np.array(0), np.full((6, 4), np.nan), np.ones((6, 4), complex),
                np.array(["x"]), np.array([[1, 2], [3, 4]]), np.array([Payload()], dtype=object),
                np.array([2**63], np.uint64), np.array(["2026"], "M8[Y]"), np.zeros((6, 0)),
                np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), np.array([True] * 6),
            )  # fmt: skip
            arrays[name] = random.choice(odd)
            if random.random() < 0.1:
                del arrays[name]
        out = io.BytesIO()
        random.choice((np.savez, np.savez_compressed))(out, **arrays)
        content, how = out.getvalue(), random.random()
        if how < 0.2:
            content = hostile_bytes(random, content)
        elif how < 0.5:
            content = hostile_archive(random, content)
        elif how < 0.55:
            content = payload_pickle(random)
        elif how < 0.6:
            np.save(alone := io.BytesIO(), self.valid["features"])
            content = alone.getvalue()
        elif how < 0.7:  # a header that promises more than there is
            huge = random.choice(
                (b"(2**40, 4)", b"(999999999999, 4)", b"(1000000000, 4)", b"(-1, 4)")
            )
            content = self._with_shape(content, huge)
        return write(self.file, content)

    @staticmethod
    def _with_shape(content: bytes, shape: bytes) -> bytes:
        import zipfile

        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                if name == "features.npy":
                    data = data.replace(b"(6, 4), }" + b" " * (len(shape) - 6), shape + b", }", 1)
                target.writestr(name, data)
        return out.getvalue()

    def read(self, path: Path) -> None:
        found = read_features(path)
        assert found.features.shape[0] == len(found.classes)


class PaperValues:
    """The paper's values, ``paper.csv``."""

    share = 3.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "paper.csv"
        source = ROOT / "results" / "paper.csv"
        with source.open(newline="") as lines:
            self.rows = list(csv.reader(lines))[:40]

    def spoil(self, random: Random) -> Path:
        return write(self.file, hostile_csv(random, self.rows))

    def read(self, path: Path) -> None:
        values = read_values(path)
        assert values["value"].notna().all() and len(values)


READERS = {
    "record": Records,
    "records to tables and report": Tables,
    "losses.csv": Losses,
    "picture of a record": Pictures,
    "footprint report": Footprints,
    "features .npz": Features,
    "paper.csv": PaperValues,
}
