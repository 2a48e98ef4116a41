"""Every reader with some hundred spoilt files; and by hand, what the trainers and records meet."""

import csv
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.resume import checkpoint_to_resume
from pretrain.engine.run_folder import LAST, read_meta
from pretrain.train import NAMES
from results.figures.tsne import read_features
from results.record.run_record import RunRecord
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.writers import FORMATS, _csv
from tests.helpers.run_records import make_record
from tests.reliability.mutations import Payload


def test_a_payload_in_what_a_run_resumes_from_is_not_run(tmp_path):
    meta = {"iter": 1, "world_size": 1, "config_text": Payload(tmp_path / "made")}
    torch.save({"meta": meta}, tmp_path / "epoch_1.pth")
    (tmp_path / LAST).write_text("epoch_1.pth")
    with pytest.raises(ValueError, match=r"epoch_1\.pth holds a posix\.mkdir"):
        checkpoint_to_resume(tmp_path, LAST, "{}", 1)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config_text": "{"}, "carries a config that is no JSON"),
        ({"config_text": "[" * 100_000}, "carries a config that is no JSON"),
        ({"config_text": "[]"}, "carries a list, expected a config"),
        ({"world_size": "1"}, "does not say world_size"),
        ({"iter": None}, "does not say iter"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_checked(tmp_path, changes, message):
    meta = {"iter": 1, "world_size": 1, "config_text": "{}"} | changes
    torch.save({"meta": meta}, tmp_path / "epoch_1.pth")
    (tmp_path / LAST).write_text("epoch_1.pth")
    with pytest.raises(ValueError, match=message):
        checkpoint_to_resume(tmp_path, LAST, "{}", 1)


def test_a_packed_checkpoint_is_refused_before_its_checksums(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(64 << 20))
    with pytest.raises(ValueError, match="its entries are packed"):
        read_meta(tmp_path / "a.pth")


def test_features_are_neither_run_nor_unpacked_without_end(tmp_path, monkeypatch):
    out = tmp_path / "a.npz"
    np.savez(out, features=np.array([Payload(tmp_path / "made")], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz is no readable feature file \(Object arrays"):
        read_features(out)
    assert not (tmp_path / "made").exists()
    monkeypatch.setattr("results.figures.tsne.MAX_BYTES", 1 << 20)
    np.savez_compressed(out, features=np.zeros(1 << 20))
    assert out.stat().st_size < 1 << 16
    with pytest.raises(ValueError, match="unpacked 8 MiB, expected 1 at most"):
        read_features(out)


def test_a_wrong_option_is_refused_by_the_trainers(tmp_path):
    (tmp_path / "c.py").write_text("epochs = 1\nmodel = dict(type='A')\n")
    for option, message in (
        ("epocs=2", "did you mean epochs"),
        ("model=3", "one of its names"),
        ("epochs=[1,2", "whose brackets or quotes do not match"),
    ):
        args = argument_parser("").parse_args([str(tmp_path / "c.py"), "--cfg-options", option])
        with pytest.raises(ValueError, match=message):
            load_config(args, NAMES)
    with pytest.raises(SystemExit):
        argument_parser("").parse_args([str(tmp_path / "c.py"), "--cfg-options", "epochs"])


def test_what_a_record_says_of_its_backbone_is_checked_in_a_pretraining_too(tmp_path):
    for name, value in (("sha256", 5), ("path", ["a"]), ("provenance", "text")):
        with pytest.raises(ValueError, match=rf"backbone\['{name}'\]: found"):
            make_record(kind="pretrain", backbone={name: value})
    content = json.loads(make_record().write(tmp_path).read_text())
    (tmp_path / "record.json").write_text(json.dumps(content) + " " * (65 << 20))
    with pytest.raises(ValueError, match="larger than 4 MiB"):
        RunRecord.read(tmp_path / "record.json")


def test_a_formula_in_a_record_is_text_in_a_spreadsheet(tmp_path):
    evil = ("=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-1+cmd|'x'!A0", "\tx")
    make_record(dataset=evil[0], encoder=evil[1], deviations=evil[2:]).write(tmp_path)
    for table in all_tables(load_records([tmp_path])[0]):
        for suffix in (".csv", "_values.csv"):
            rows = list(csv.reader(io.StringIO(FORMATS[suffix](table))))
            fields = [field for row in rows for field in row]
            assert any(field.startswith("'=1+1") for field in fields)
            assert not [f for f in fields if f.startswith(("=", "@", "+", "-", "\t"))]


@pytest.mark.parametrize(
    "text", ["-", "+1.2", "-0.31 ± 0.02, n=5", "32.6 (+0.4)", "-4.1 (+0.2)", "4.56×", "-1.5×", ""]
)
def test_a_number_with_a_sign_stays_one(text):
    frame = pd.DataFrame({"a": [text]})
    assert _csv(frame) == frame.to_csv(index=False, lineterminator="\n")
