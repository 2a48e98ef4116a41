"""Readers open regular files only: on a pipe, a socket or a device they could wait for ever."""

import argparse
import os
import signal
import socket
from pathlib import Path

import pytest
from PIL import Image

from pretrain.backbone_file import read_provenance
from pretrain.costs import footprint_plot
from pretrain.engine.launch import load_config
from pretrain.engine.stored_tensors import read_stored
from pretrain.images.image_lists import ImageList
from results.__main__ import main
from results.figures.tsne import _read_places, read_features
from results.record.files import regular_file, sha256_file
from results.record.run_record import RunRecord
from results.tables.footprints import read_footprints
from tests.helpers.run_records import make_record, write_records
from tests.helpers.stand_in_trainer import A
from tools.reproduce import state as reproduce_state
from transfer.data.annotations import read_annotations
from transfer.data.image_sizes import check_sizes
from transfer.data.splits import _read_ids_file
from transfer.scenes import datasets as scenes
from transfer.scenes.crops import crop

KINDS = ("pipe", "socket", "folder", "link to a pipe", "link to a device")


def config(path: Path) -> None:
    load_config(argparse.Namespace(config=str(path), cfg_options={}, work_dir=None), {})


def cityscapes(path: Path) -> None:
    from transfer.data.cityscapes import read_instances

    read_instances((path, path))


def listed(path: Path) -> None:
    """An image that a list names."""
    Image.new("RGB", (2, 2)).save(path.with_name("good.png"))
    path.with_name("list.txt").write_text(f"good.png\n{path.name}\n")
    ImageList.read(path.with_name("list.txt"))


READERS = {
    "record": RunRecord.read,
    "footprint report": read_footprints,
    "report to draw": lambda path: footprint_plot.main([str(path), str(path) + ".png"]),
    "digest": sha256_file,
    "features": read_features,
    "backbone": read_provenance,
    "checkpoint": read_stored,
    "config": config,
    "list of images": lambda path: ImageList.read(path.rename(path.with_name("a.txt"))),
    "image of a list": listed,
    "annotations": read_annotations,
    "image of annotations": lambda path: check_sizes(path.parent, [{"file_name": path.name}]),
    "Cityscapes' labels": cityscapes,
    "ids of a split": lambda path: _read_ids_file(
        path.rename(path.with_name("split.ids.json")).with_name("split.json"), ""
    ),
    "card of scenes": lambda path: scenes.finished_scenes(
        path.rename(path.with_name(scenes.CARD)).parent, {}
    ),
    "scene": lambda path: crop(path, [0, 0, 1, 1]),
}


@pytest.fixture(autouse=True)
def no_endless_wait():
    """A reader that waits is ended, and its test with it."""

    def end(*_):
        raise AssertionError("the reader waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make(kind: str, path: Path) -> Path:
    if "pipe" in kind:
        os.mkfifo(path.with_name("a pipe") if "link" in kind else path)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's path has at most 107 bytes
            server.bind(path.name)
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif "link" in kind:
        path.symlink_to("a pipe" if "pipe" in kind else "/dev/zero")
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(reader, kind, tmp_path, capsys):
    path = make(kind, tmp_path / "footprint_x.json")
    with pytest.raises((OSError, ValueError, SystemExit)) as caught:
        READERS[reader](path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    list(zip(KINDS, ("named pipe", "socket", "folder", "named pipe", "device"), strict=True)),
)
def test_what_it_is_is_said(kind, words, tmp_path):
    path = make(kind, tmp_path / "x")
    with pytest.raises(ValueError, match=f"x: is a {words}, expected a file"):
        regular_file(path)
    with pytest.raises(FileNotFoundError):
        regular_file(tmp_path / "y")
    (tmp_path / "z").write_text("")
    (tmp_path / "link").symlink_to("z")
    assert regular_file(tmp_path / "link") == tmp_path / "link", "what a user links is a file"


@pytest.mark.slow
def test_the_tables_leave_it_out_by_name(tmp_path, capsys):
    """Named by the user, or found in a folder of runs; nobody misses a folder."""
    runs, given, expected = write_records(tmp_path / "runs", make_record()), [], set()
    for kind in KINDS:
        paths = [runs / kind / "footprint_found.json", runs / f"{kind} run" / "record.json"]
        paths.append(tmp_path / kind / "footprint_named.json")
        for path in paths:
            path.parent.mkdir()
            make(kind, path)
        given.append(str(paths[-1]))
        expected |= set() if kind == "folder" else set(map(str, paths))
    assert main([str(runs), *given, "--out", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  bad: ")]
    assert {path for path in expected for line in lines if path in line} == expected
    assert len(lines) == len(expected), lines


def test_a_pipe_among_kept_places_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "x.places")
    assert _read_places(tmp_path / "x.places", 3) is None


def test_a_pipe_is_no_result_of_a_run(tmp_path):
    place = reproduce_state.Place(str(tmp_path), "data")
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "record.json")
    state, told = reproduce_state.look(A, place)
    assert state == "damaged" and "is a named pipe" in told
