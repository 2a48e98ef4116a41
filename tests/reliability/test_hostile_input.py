"""Files from strangers: nothing in them is run, nothing takes memory without end, errors explain.

tests/reliability/inputs.py tries thousands of them; here stand those that were thought of by hand.
"""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.encoders import build_encoder
from pretrain.engine.options import Options, merge
from pretrain.engine.stored_tensors import read_stored
from pretrain.export import export_checkpoint, import_torchvision
from pretrain.images.decode import UnreadableImage, decode, open_image
from pretrain.images.image_lists import ImageList
from pretrain.images.labelled_images import LabelledImages
from pretrain.images.two_views import TwoViewImages
from results.figures.artifacts import load_losses
from results.report.report import render_report
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.writers import FORMATS
from tests.helpers.places import ROOT
from tests.helpers.run_records import make_record, write_records
from tests.reliability.mutations import Payload, png_of_size

# ---- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("read", [read_stored, export_checkpoint, import_torchvision])
def test_a_payload_in_a_checkpoint_is_never_run(tmp_path, read, old):
    made, file = tmp_path / "made", tmp_path / "epoch_1.pth"
    content = {"meta": {"provenance": Payload(made)}, "state_dict": {}}
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    more = {
        read_stored: (), export_checkpoint: (tmp_path / "x",),
        import_torchvision: ("resnet_tiny", tmp_path / "x"),
    }[read]  # fmt: skip
    with pytest.raises(ValueError, match=r"epoch_1\.pth holds a posix\.mkdir, and only tensors"):
        read(file, *more)
    assert not made.exists()
    with pytest.raises(FileExistsError):  # the payload itself works: it is run here
        made.mkdir()
        pickle.loads(pickle.dumps(Payload(made)))


def test_a_packed_checkpoint_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as source, zipfile.ZipFile(
        tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED
    ) as bomb:  # fmt: skip
        for name in source.namelist():
            bomb.writestr(name, source.read(name) if "data/" not in name else bytes(64 << 20))
    assert (tmp_path / "bomb.pth").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="its entries are packed"):
        read_stored(tmp_path / "bomb.pth")


def test_values_that_hold_each_other_are_counted_not_printed(tmp_path):
    laughs = ["ha"] * 10
    for _ in range(30):
        laughs = [laughs] * 10  # 10^31 of them, in some KiB
    knot = {}
    knot["knot"] = knot
    for content in ({"meta": laughs}, knot):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match="holds itself, or more than"):
            read_stored(tmp_path / "a.pth")


@pytest.mark.parametrize("value", ["__import__('os').mkdir({made!r})", "exec('1')", "9**9**9"])
def test_config_options_are_values_not_code(tmp_path, value):
    from argparse import ArgumentParser

    from mmengine.config import Config

    text = value.format(made=str(tmp_path / "made"))
    parser = ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=Options)
    found = parser.parse_args(["--cfg-options", f"name={text}"]).cfg_options
    cfg = Config({"name": "a", "epochs": 1})
    merge(cfg, found, "c.py", {})
    assert cfg.name == text and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epocs": "3"}, "c.py has no 'epocs' there; did you mean epochs?"),
        ({"modle.type": "3"}, "did you mean model?"),
        ({"model.unit.x": "1"}, "has no 'unit' there; did you mean units?"),
        ({"epochs": "many"}, "has 1 there, found 'many', expected a number"),
        ({"epochs": "1e999"}, "expected a finite number"),
        ({"model": "1"}, "expected one of its names"),
        ({"epochs.x": "1"}, "has nothing inside 'epochs', which is 1"),
        ({"model.units.5": "a"}, "has no '5' there"),
        ({"model.__class__": "1"}, "has no '__class__' there"),
        ({"flag": "2"}, "expected True or False"),
        ({"model.units": "a"}, "expected a list, such as [a,b]"),
        ({"model.new": "[(1,2]"}, "brackets or quotes do not match"),
        ({"model.new": "[" * 50 + "]" * 50}, "brackets more than 20 deep"),
        ({"model.new": "[dict(type='A')]"}, "would get the mapping"),
        ({"test_cfg.type": "A"}, "set val_cfg"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_near(options, message):
    from mmengine.config import Config

    cfg = Config({"model": {"units": ["a"]}, "epochs": 1, "flag": True, "root": "data"})
    before = cfg.to_dict()
    with pytest.raises(ValueError) as error:
        merge(cfg, options, "c.py", {})
    assert message in str(error.value) and cfg.to_dict() == before


def test_options_that_fit_are_set():
    from mmengine.config import Config

    cfg = Config({"model": {"steps": [{}, {"a": 1}]}, "epochs": 1, "file": "x", "none": None})
    values = {"epochs": "0.5", "model.steps.1.a": "2", "model.new": "[1]", "file": "None"}
    merge(cfg, values, "c.py", {})
    merge(cfg, {"none": "3"}, "c.py", {})
    steps = {"steps": [{}, {"a": 2}], "new": [1]}
    expected = {"model": steps, "epochs": 0.5, "file": None, "none": 3}
    assert cfg.to_dict() == expected


# ---- pictures ------------------------------------------------------------------------------------
# Pretraining takes a picture as it is stored, whatever EXIF says, in RGB; a file's content decides
# what it is, not its name. A broken one is replaced and counted; a broken labelled one ends it.


def stored(tmp_path, image, format="PNG", name="a.png", **options):
    image.save(tmp_path / name, format, **options)
    with open_image(tmp_path / name) as opened:
        return decode(opened)


def test_every_mode_becomes_rgb_of_eight_bits(tmp_path):
    deep = Image.fromarray(np.full((3, 2), 0x80FF, np.uint16))
    np.testing.assert_array_equal(stored(tmp_path, deep), np.full((3, 2, 3), 0x80))
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # cyan
    red, green, blue = stored(tmp_path, ink, "JPEG", "a.jpg")[4, 4]
    assert red < 10 and green > 245 and blue > 245
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    seen = stored(tmp_path, palette, transparency=b"\xff\x00")  # the colour is there, unseen
    np.testing.assert_array_equal(seen, np.broadcast_to([200, 100, 50], (2, 2, 3)))
    assert stored(tmp_path, Image.new("1", (1, 1), 1)).tolist() == [[[255, 255, 255]]]


def test_a_picture_of_one_pixel_gives_views(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    views = TwoViewImages(str(tmp_path), "x", {"size": 8, "jitter": 0, "blur": False})[0]["views"]
    assert views.shape == (2, 3, 8, 8) and views[0, 0].unique().numel() == 1


def test_a_turned_photograph_lies_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert stored(tmp_path, Image.new("RGB", (6, 4)), "JPEG", "a.jpg", exif=exif).shape == (4, 6, 3)


def test_the_name_of_a_picture_does_not_matter_and_other_formats_are_refused(tmp_path):
    assert stored(tmp_path, Image.new("RGB", (6, 4)), "PNG", "a.jpg").shape == (4, 6, 3)
    for format in ("TIFF", "GIF", "EPS"):  # Pillow would give EPS to another program
        with pytest.raises(UnreadableImage, match="cannot identify"):
            stored(tmp_path, Image.new("RGB", (6, 4)), format, "b.jpg")


def test_a_cut_photograph_is_no_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with open_image(tmp_path / "a.jpg") as opened, pytest.raises(UnreadableImage, match="trunc"):
        decode(opened)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (9_500, 9_500)])
def test_a_picture_that_promises_too_much_is_refused_by_its_header(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_of_size(*size))
    with pytest.raises(UnreadableImage, match=r"exceeds limit|64,000,000 at most"):
        open_image(tmp_path / "a.png")


def test_a_strip_is_not_blown_up(tmp_path):
    """Its shorter side brought to 256 px, 1 x 60,000 pixels would be 12 GB."""
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    Image.new("L", (1, 60_000)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded \(1 x 60000 pixels, a strip"):
        LabelledImages(str(tmp_path), "train")[0]


# ---- paths ---------------------------------------------------------------------------------------


def test_a_users_own_list_may_lead_anywhere_and_loops_are_named(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "l.txt").write_text(f"../a.png\n{tmp_path / 'a.png'}\n")
    assert len(ImageList.read(lists / "l.txt")) == 2
    (lists / "loop.png").symlink_to("loop.png")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images are not there: loop\.png"):
        ImageList.read(lists)
    (lists / "l.txt").write_text("a\0b\n" + "x" * 5000 + "\n")
    with pytest.raises(FileNotFoundError, match=r"2 of 2 images are not there: a\\x00b, x{200},"):
        ImageList.read(lists / "l.txt")


def test_a_folder_whose_name_cannot_be_printed_is_a_problem(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"\xff\x1b[31m")
    os.mkdir(folder)
    make_record().write(tmp_path / "record.json")
    os.rename(tmp_path / "record.json", os.path.join(folder, b"record.json"))
    records, (problem,) = load_records([tmp_path])
    assert not records and problem.reason == "its path cannot be printed"
    assert str(problem).isprintable()


# ---- what stands in a record ---------------------------------------------------------------------

EVIL = "<script>alert('1')</script>&|`$x$\\input{/etc/passwd}_a"


def test_markup_in_every_text_of_a_record_stays_text(tmp_path):
    texts = ("encoder", "dataset", "config", "git_commit", "precision", "norm")
    changes = {name: f"{EVIL}{name}" for name in texts}
    record = make_record(
        **changes, protocol=EVIL, deviations=(EVIL,), settings={EVIL: EVIL}, versions={EVIL: EVIL},
        backbone={"path": EVIL, "sha256": "0" * 64,
                  "provenance": {"dataset": EVIL, "deviations": [EVIL]}},
        metrics={"box_ap": 1.0, EVIL: 2.0},
    )  # fmt: skip
    records, problems = load_records([write_records(tmp_path / EVIL.replace("/", ""), record)])
    page, _ = render_report(records, problems)
    tables = {suffix: form(table) for table in all_tables(records)
              for suffix, form in FORMATS.items()}  # fmt: skip
    for text in (page, tables[".html"]):
        assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert "\\input{" not in tables[".tex"] and "textbackslash" in tables[".tex"]
    assert "<script" not in tables[".md"].replace("\\<script", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seed": 10**30},
            "seed: found 1000000000000000000000000000000, expected an integer of 64",
        ),
        ({"pretrain_epochs": 2**63}, "pretrain_epochs: found 9223372036854775808, expected an int"),
        ({"wall_time_s": 10**400}, "wall_time_s: found 1000.*64 bits"),
        (
            {"encoder": "\ud800"},
            r"encoder: found '\\ud800' of 1 characters, expected print",
        ),
        ({"norm": "\x1b[31m"}, r"norm: found '\\x1b\[31m' of 5 characters, expected printable"),
        ({"settings": {"a": [float("inf")]}}, r"settings\['a'\]\[0\]: found inf, .*finite"),
        ({"hardware": {"\0": 1}}, r"hardware: found the key '\\x00'"),
        (
            {"config": "x" * 1000 + "\0"},
            r"config: found 'x{199}\.\.\. of 1001 characters",
        ),
        ({"encoder": "x" * 10**7}, r"encoder: found 'x{199}\.\.\. of 10000000 char"),
        (
            {"dataset": "x" * 301},
            r"dataset: found 'x+\.\.\., expected `str` of length <= 300",
        ),
        ({"metrics": {"x" * 301: 1.0}}, r"metrics: found .*length <= 300"),
        ({"deviations": ["x" * 4097]}, r"deviations\[0\]: found 'x+\.\.\. of 4097 characters"),
        ({"deviations": ["x"] * 1001}, "deviations: found 1001 entries, expected 1000 at most"),
        ({"versions": {"x" * 4097: "1"}}, "versions: found the key 'x+.*4096 characters at most"),
        ({"metrics": {f"loss_{i}": 1.0 for i in range(1001)}}, "metrics: found 1001 entries"),
        ({"settings": {"a": {"b": ["x" * 4097]}}}, r"settings\['a'\]\['b'\]\[0\]: found 'x"),
        ({"settings": {"a": [0] * 1001}}, r"settings\['a'\]: found 1001 entries"),
        ({"artifacts": {str(i): i for i in range(1001)}}, "artifacts: found 1001 entries"),
        ({"hardware": {"x" * 4097: 1}}, "hardware: found the key 'x"),
    ],
)
def test_what_no_table_could_hold_is_refused(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        make_record(**changes)
    assert len(str(error.value)) < 1000


def test_lists_without_end_in_a_record_are_refused():
    deep = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="21 deep, expected 20"):
        make_record(hardware={"a": deep})


def test_a_losses_file_that_is_packed_is_not_unpacked(tmp_path):
    """By its name pandas would: a gzip of zeros becomes a thousand times as large."""
    import gzip

    record = make_record(kind="pretrain", artifacts={"losses": "losses.csv.gz"})
    folder = write_records(tmp_path, record)
    with gzip.open(folder / "run0" / "losses.csv.gz", "wb") as file:
        file.write(b"iteration,epoch,a\n1,1,0.5\n")
    frames, (problem,) = load_losses(load_records([folder])[0])
    assert not frames and "losses.csv.gz" in problem.reason


# ---- the campaign's own parts --------------------------------------------------------------------


def test_every_encoder_of_a_stranger_is_known_or_refused(tmp_path):
    torch.save({"meta": {"provenance": {"encoder": "os.system"}}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: provenance with other keys than ours"):
        export_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="unknown encoder"):
        build_encoder("os.system")


def test_paper_csv_is_checked(tmp_path):
    from results.tables.paper import read_values

    source = (ROOT / "results/tables/paper.csv").read_text()
    file = tmp_path / "paper.csv"
    for old, new, message in (
        ("69.8", "6g.8", "value of value 6 is '6g.8', expected a number"),
        ("table,row", "tabel,row", "has the columns 'tabel"),
        ("69.8", "nan", "value of value 6 is 'nan'"),
        ("69.8", "-1", "value of value 6 is '-1'"),
    ):
        file.write_text(source.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            read_values(file)
    file.write_bytes(io.BytesIO(b"\xff\xfe\0").getvalue())
    with pytest.raises(ValueError, match=r"paper\.csv is no CSV file"):
        read_values(file)
    assert json.dumps(len(read_values(ROOT / "results/tables/paper.csv"))) == "143"
