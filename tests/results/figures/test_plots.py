"""Figures 2 and 3: what is drawn where, and the files that they are drawn from."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.manifold import trustworthiness

from results.figures.artifacts import load_losses, losses_by_method
from results.figures.figure_files import write_figure
from results.figures.plots import ap_bars, decoder_curves, has_bars, loss_curves, tsne_panels
from results.figures.tsne import (
    Features,
    _places,
    embed,
    load_features,
    main,
    read_features,
    side_by_side,
)
from results.report.report import render_report
from results.tables.load import load_records
from results.tables.run_tables import transfer_tables
from tests.helpers.run_records import make_record, write_records

UNITS = {
    "simclr": ["res2+res3+res4+res5"],
    "gim": ["res2", "res3", "res4", "res5"],
    "loco": ["res2+res3", "res3+res4", "res4+res5"],
}


def losses(method, rows=30):
    random = np.random.default_rng(len(method))
    values = {unit: random.uniform(1, 6, rows) for unit in UNITS[method]}
    return pd.DataFrame({"iteration": np.arange(1, rows + 1) * 10, "epoch": 1, **values})


# ---- Fig. 2


def drawn(panel):
    return {line.get_gid().removeprefix("mean:"): line for line in panel.lines
            if line.get_gid().startswith("mean:")}  # fmt: skip


def test_methods_meet_at_the_stage_after_which_their_decoders_read():
    frames = {method: losses(method) for method in ("loco", "simclr", "gim")}
    figure = decoder_curves(frames)
    panels = {panel.get_title(): panel for panel in figure.axes}
    whole = UNITS["simclr"][0]
    assert {title: sorted(drawn(panel)) for title, panel in panels.items()} == {
        "decoder after res2": ["res2", whole],
        "decoder after res3": sorted([whole, "res2+res3", "res3"]),
        "decoder after res4": sorted([whole, "res3+res4", "res4"]),
        "decoder after res5": sorted([whole, "res4+res5", "res5"]),
    }
    for method, unit, stage in (("gim", "res4", "res4"), ("loco", "res2+res3", "res3")):
        lines = panels[f"decoder after {stage}"].lines
        (raw,) = (line for line in lines if line.get_gid() == f"raw:{unit}")
        assert (raw.get_xdata() == frames[method]["iteration"]).all()
        assert (raw.get_ydata() == frames[method][unit]).all()
    means = drawn(panels["decoder after res3"])
    expected = [frames["gim"]["res3"][max(0, i - 1) : i + 1].mean() for i in range(30)]  # 30 // 15
    np.testing.assert_allclose(means["res3"].get_ydata(), expected)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["SimCLR (res5)", "GIM", "LoCo"]
    colours = {means[unit].get_color() for unit in (whole, "res3", "res2+res3")}
    assert len(colours) == 3
    assert len({panel.get_ylim() for panel in figure.axes}) == 1


def test_one_method_and_none_draw_too():
    for frames in ({}, {"simclr": losses("simclr")}, {"gim": losses("gim")}):
        decoder_curves(frames).savefig(io.BytesIO(), format="png")


def pretraining(tmp_path, name, method, **changes):
    given = {"kind": "pretrain", "method": method, "protocol": "pretrain", "dataset": "imagenet1k",
             "artifacts": {"losses": "losses.csv"}, "backbone": None}  # fmt: skip
    make_record(**(given | changes)).write(tmp_path / name)
    losses(method).to_csv(tmp_path / name / "losses.csv", index=False)


def test_only_pretrainings_alike_but_for_the_method_are_compared(tmp_path):
    for method in UNITS:
        pretraining(tmp_path, method, method)
    pretraining(tmp_path, "again", "gim", seed=1)
    losses("gim", rows=7).to_csv(tmp_path / "again" / "losses.csv", index=False)
    pretraining(tmp_path, "longer", "loco", pretrain_epochs=800)
    pretraining(tmp_path, "broken", "gim", encoder="presnet50")
    (tmp_path / "broken" / "losses.csv").write_text("nothing")
    pretraining(tmp_path, "alone", "loco", encoder="presnet50")
    found = losses_by_method(load_records([tmp_path])[0])
    assert list(found) == ["resnet50, 100 epochs, imagenet1k, pretrain"]
    (frames,) = found.values()
    assert list(frames) == ["simclr", "gim", "loco"]
    pd.testing.assert_frame_equal(frames["gim"], losses("gim"), check_dtype=False)


# ---- Fig. 3


def clusters(method="loco", classes=5, spread=0.3, seed=0, **changes):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 20)
    centres = 3 * random.normal(size=(classes, 16))
    features = centres[labels] + spread * random.normal(size=(len(labels), 16))
    given = {
        "features": features.astype(np.float32), "labels": labels, "stage": "res5",
        "class_names": np.array([f"n{i}" for i in range(classes)]), "method": method,
        "encoder": "resnet50", "epochs": 800, "weights_sha256": method,
    }  # fmt: skip
    return given | changes


def write(path: Path, **arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items()})
    return path


def test_clusters_stay_clusters_and_twice_the_same(tmp_path):
    features = read_features(write(tmp_path / "f.npz", **clusters()))
    places = embed(features)
    assert trustworthiness(features.features, places[["x", "y"]], n_neighbors=5) > 0.95
    assert places["class"].tolist() == [f"n{i}" for i in range(5) for _ in range(20)]
    centres = places.groupby("class")[["x", "y"]].mean()
    for name, group in places.groupby("class"):
        distances = ((group[["x", "y"]].values[:, None] - centres.values) ** 2).sum(axis=2)
        assert (centres.index[distances.argmin(axis=1)] == name).all()
    _places.cache_clear()
    pd.testing.assert_frame_equal(embed(features), places)


def test_panels_stand_side_by_side_without_ticks_every_class_in_the_legend(tmp_path):
    found = [read_features(write(tmp_path / f"{m}.npz", **clusters(m))) for m in ("loco", "simclr")]
    embeddings = side_by_side(found)
    figure = tsne_panels(embeddings)
    assert [panel.get_title() for panel in figure.axes] == [
        "SimCLR, 800 epochs", "LoCo, 800 epochs",
    ]  # fmt: skip
    for panel, frame in zip(figure.axes, embeddings.values(), strict=True):
        assert panel.get_xticks().size == panel.get_yticks().size == 0
        points = {c.get_gid(): c.get_offsets() for c in panel.collections}
        here = frame[frame["class"] == "n3"]
        np.testing.assert_array_equal(points["class:n3"], here[["x", "y"]])
        assert len(points) == 5
        looks = {(tuple(c.get_facecolor()[0]), len(c.get_paths()[0])) for c in panel.collections}
        assert len(looks) == 5
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [f"n{i}" for i in range(5)]


def test_twenty_classes_all_look_different():
    frame = pd.DataFrame({"x": range(20), "y": 0, "class": [f"c{i:02}" for i in range(20)]})
    (panel,) = tsne_panels({"one": frame}).axes
    looks = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes())
        for c in panel.collections
    }
    assert len(looks) == 20


@pytest.mark.parametrize(
    ("panels", "name"),
    [(1, "n{}"), (1, "W" * 60 + " {}"), (2, "{}" + "W" * 60), (3, "great white shark {}")],
)
def test_the_legend_lies_inside_the_figure_and_names_every_class(panels, name):
    classes = [name.format(i) for i in range(10)]
    frame = pd.DataFrame({"x": range(10), "y": 0, "class": classes})
    figure = tsne_panels({f"panel {i}": frame for i in range(panels)})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y0 >= 0 and box.y1 <= whole.y1
    lowest = min(panel.get_window_extent().y0 for panel in figure.axes)
    assert box.y1 <= lowest and figure.axes[0].get_window_extent().height > 2 * figure.dpi
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(set(texts)) == 10, "also where names differ at one end alone"


def test_a_value_without_neighbours_is_a_dot():
    def markers(values):
        frame = pd.DataFrame({"iteration": range(len(values)), "epoch": 1, "res5": values})
        lines = {line.get_gid(): line for line in loss_curves({"a": frame}).axes[0].lines}
        raw, mean = lines["raw:res5"], lines["mean:res5"]
        assert raw.get_marker() == mean.get_marker()
        return raw.get_markevery() if raw.get_marker() == "o" else None

    nan, inf = float("nan"), float("inf")
    assert markers([4.0]) == [0]
    assert markers([4.0, 3.0]) is markers([4.0, 3.0, nan]) is markers([nan]) is None
    assert markers([nan, 4.0, nan, 3.0, 2.0, inf, 1.0]) == [1, 6]


def test_titles_of_any_length_tell_runs_apart():
    frame = losses("loco")
    start = "LoCo, 100 epochs, resnet50, some photographs (4000 images)"
    titles = [start, *(f"{start}, seed {i}" for i in range(3)), "x" * 4000 + "a", "x" * 4000 + "b"]
    found = [panel.get_title() for panel in loss_curves(dict.fromkeys(titles, frame)).axes]
    assert len(set(found)) == len(titles)
    assert found[1].replace("\n", " ") == f"{start}, seed 0"
    lines = [line for title in found for line in title.split("\n")]
    assert max(map(len, lines)) <= 38 and max(title.count("\n") for title in found) == 3


def test_equal_runs_have_their_folders_in_their_titles(tmp_path):
    for name in ("first", "second", "third"):
        pretraining(tmp_path, name, "loco", protocol=name)
    titles = list(load_losses(load_records([tmp_path])[0])[0])
    assert titles == [
        "LoCo, 100 epochs, resnet50",
        "LoCo, 100 epochs, resnet50, imagenet1k, seed 0",
        "LoCo, 100 epochs, resnet50, imagenet1k, seed 0, third",
    ]


def test_bars_that_differ_in_their_setting_or_variant_are_told_apart(tmp_path):
    decoder = {"conv_blocks": 2, "mlp_layers": 2, "out_dim": 128}
    write_records(
        tmp_path,
        make_record(),
        make_record(settings={"units": "loco", "decoder": decoder}),
        make_record(deviations=("max_epochs: 1 instead of 12",), protocol="demo_frozen"),
        make_record(deviations=("max_epochs: 2 instead of 12",), protocol="demo_frozen"),
    )
    for table in transfer_tables(load_records([tmp_path])[0]):
        if has_bars(table):
            texts = [text.get_text() for text in ap_bars(table).axes[0].get_yticklabels()]
            assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.zeros(7, int)}, "do not fit"),
        ({"labels": np.full(100, 5)}, "do not fit"),
        ({"labels": np.full(100, -1)}, "do not fit"),
        ({"labels": np.zeros(100)}, "do not fit"),
        ({"features": np.full((100, 16), np.nan)}, "not finite"),
        ({"features": np.zeros((5001, 1)), "labels": np.zeros(5001, int)}, "more than the 5000"),
        ({"class_names": np.array([{"a": 1}], dtype=object)}, "no readable feature file"),
    ],
)
def test_a_file_that_is_no_feature_file_is_refused(arrays, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        read_features(write(tmp_path / "f.npz", **clusters(**arrays)))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m pretrain\.readout\.features"):
        read_features(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="no readable feature file"):
        read_features(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="it lacks labels"):
        read_features(write(tmp_path / "f.npz", features=np.zeros((3, 2))))


def test_different_classes_get_no_common_legend():
    def of(*classes):
        return Features(np.eye(len(classes)), classes, "res5", "loco", "resnet50", 800, "a")

    with pytest.raises(ValueError, match="different classes"):
        side_by_side([of("a", "b"), of("a", "c")])


def test_the_command_writes_png_and_pdf_twice_the_same(tmp_path, capsys):
    files = [str(write(tmp_path / f"{m}.npz", **clusters(m))) for m in ("simclr", "loco")]
    assert main([*files, "--out", str(tmp_path / "fig3")]) == 0
    written = [tmp_path / "fig3.png", tmp_path / "fig3.pdf"]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    before = [path.read_bytes() for path in written]
    assert before[0].startswith(b"\x89PNG") and before[1].startswith(b"%PDF")
    assert main([*files, "--out", str(tmp_path / "fig3")]) == 0
    assert [path.read_bytes() for path in written] == before
    assert main([str(tmp_path / "none.npz"), "--out", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.startswith("error: no feature file at")


def test_the_report_draws_both_from_records(tmp_path):
    for method in ("simclr", "gim"):
        pretraining(tmp_path / "pre", method, method)
        record = make_record(
            kind="linear",
            method=method,
            dataset="imagenet1k",
            protocol="linear",
            metrics={"top1": 50.0},
            artifacts={"features": "features.npz"},
        )
        write_records(tmp_path / "lin" / method, record)
        write(tmp_path / "lin" / method / "run0" / "features.npz", **clusters(method))
    frame, _ = load_records([tmp_path])
    groups, problems = load_features(frame)
    assert problems == [] and [len(found) for found in groups.values()] == [2]
    page, problems = render_report(frame)
    assert problems == []
    assert "Contrastive loss of every decoder, methods together: resnet50, 100 epochs" in page
    assert "t-SNE of frozen features, backbones side by side: resnet50, imagenet1k" in page
    (tmp_path / "lin" / "gim" / "run0" / "features.npz").write_bytes(b"cut short")
    _, problems = load_features(frame)
    assert ["features: " in problem.reason for problem in problems] == [True]


def test_a_figure_s_name_may_hold_dots(tmp_path):
    files = write_figure(decoder_curves({}), tmp_path / "v1.2")
    assert [path.name for path in files] == ["v1.2.png", "v1.2.pdf"]
