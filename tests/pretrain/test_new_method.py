"""A layout under a name of its own goes all the way: one entry, and no other file knows of it."""

import pytest

from pretrain import train
from pretrain.backbone_file import read_provenance
from pretrain.engine import launch
from pretrain.export import export_checkpoint
from pretrain.readout import linear_probe
from pretrain.units import LAYOUTS
from results.__main__ import main as write_tables
from results.record.run_record import RunRecord
from tests.helpers.detectors import LOCO, as_arguments, options
from tests.helpers.labelled import write_colours

PRETRAINING = ["configs/demo/pretrain_loco.py", "--cfg-options", "method=my_layout", "epochs=2"]
SMALL = ["warmup_epochs=0", "global_batch_size=8", "train_dataloader.num_workers=0"]


@pytest.mark.slow
def test_a_new_layout_trains_resumes_exports_reads_out_transfers_and_has_its_rows(
    coco, tmp_path, monkeypatch
):
    from transfer import train as detection

    monkeypatch.setitem(LAYOUTS, "my_layout", lambda ends: [(0, ends[2]), (ends[2], ends[-1])])
    runs = tmp_path / "runs"
    arguments = [*PRETRAINING, *SMALL, f"data_root={coco}/train2017"]
    parser = launch.argument_parser("")

    def pretrain(folder, *more):
        args = parser.parse_args([*arguments, "--work-dir", str(folder), *more])
        launch.main("", train.prepare, train.NAMES, args)
        return RunRecord.read(folder / "record.json")

    record = pretrain(runs / "pretrain")
    assert (record.method, record.setting) == ("my_layout", "")
    assert record.metrics.keys() == {"loss_res2+res3", "loss_res4+res5"}
    assert not any(text.startswith(("units", "decoder")) for text in record.deviations)
    (runs / "pretrain" / "record.json").unlink()
    resumed = pretrain(runs / "pretrain", "--resume")
    assert resumed.backbone["sha256"] == record.backbone["sha256"]

    (last,) = sorted((runs / "pretrain").glob("epoch_2.pth"))
    backbone = tmp_path / "b.safetensors"
    export_checkpoint(last, backbone)
    assert read_provenance(backbone).weights_sha256 == record.backbone["sha256"]

    linear_probe.main(
        ["configs/demo/linear.py", "--backbone", str(backbone), "--work-dir", str(runs / "linear"),
         "--data", str(write_colours(tmp_path / "colours")), "--cfg-options", "epochs=1",
         "milestones=[]", "global_batch_size=8", "image_size=32", "resize=32", "k=3"]
    )  # fmt: skip
    more = options(coco, backbone, method="my_layout")
    args = parser.parse_args([LOCO, "--work-dir", str(runs / "transfer"), *as_arguments(more)])
    launch.main("", detection.prepare, detection.NAMES, args)
    for name in ("linear", "transfer"):
        found = RunRecord.read(runs / name / "record.json")
        assert (found.method, found.setting) == ("my_layout", "")

    assert write_tables([str(runs), "--out", str(tmp_path / "tables")]) == 0
    for name in ("linear", "frozen"):
        text = (tmp_path / f"tables/tables/other_demo_{name}.csv").read_text()
        assert "my_layout" in text
