"""Embeddings that are kept: the same input is not computed again, any other is."""

import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
from sklearn.manifold import TSNE

import results.figures.tsne
from results.__main__ import main as tables
from results.figures.tsne import CACHE, Features, embed, main, read_features
from tests.helpers.run_records import make_record, write_records
from tests.reliability.mutations import Payload

IMAGES = 12


def features(**changes):
    values = np.random.default_rng(0).normal(size=(IMAGES, 4))
    given = Features(values, ("a", "b") * (IMAGES // 2), "res5", "loco", "resnet50", 800, "sha")
    return dataclasses.replace(given, **changes)


class Counted:
    """Stands for scikit-learn's TSNE: the first two features, and how often it was asked."""

    calls = 0

    def __init__(self, **parameters):
        self.parameters = parameters

    def fit_transform(self, values):
        type(self).calls += 1
        return values[:, :2].astype(np.float32)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(results.figures.tsne, "TSNE", Counted)
    monkeypatch.setattr(Counted, "calls", 0)
    results.figures.tsne._places.cache_clear()
    yield Counted
    results.figures.tsne._places.cache_clear()


def again(cache, **changes):
    """`embed` as another process would call it."""
    results.figures.tsne._places.cache_clear()
    return embed(features(**changes), cache)


def test_what_was_kept_is_what_scikit_learn_gives(tmp_path, monkeypatch):
    expected = TSNE(perplexity=(IMAGES - 1) / 3, init="pca", random_state=0).fit_transform(
        features().features
    )
    np.testing.assert_array_equal(again(tmp_path)[["x", "y"]], expected)
    monkeypatch.setattr(results.figures.tsne, "TSNE", None)  # whoever calls it now fails
    np.testing.assert_array_equal(again(tmp_path)[["x", "y"]], expected)
    with pytest.raises(TypeError):
        again(None)


def test_any_other_input_is_computed(tmp_path, counted, monkeypatch):
    again(tmp_path)
    again(tmp_path, method="gim", classes=("b",) * IMAGES)  # no place depends on these
    assert counted.calls == 1
    values = features().features.copy()
    values[5, 1] = np.nextafter(values[5, 1], 1.0)
    np.testing.assert_array_equal(
        again(tmp_path, features=values)[["x", "y"]], values[:, :2].astype(np.float32)
    )
    assert counted.calls == 2
    again(tmp_path, features=features().features.reshape(2 * IMAGES, 2), classes=("a",) * 24)
    assert counted.calls == 3
    with monkeypatch.context() as changed:
        changed.setattr(results.figures.tsne, "PERPLEXITY", 2)
        again(tmp_path)
        changed.setattr(results.figures.tsne, "SEED", 1)
        again(tmp_path)
        assert counted.calls == 5
        changed.setattr(
            results.figures.tsne.metadata, "version", lambda name: f"{name} of tomorrow"
        )
        again(tmp_path)
        assert counted.calls == 6
    again(tmp_path)
    assert counted.calls == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept[:-1],
        lambda kept: kept[4:],
        lambda kept: b"",
        lambda kept: b"no places",
        lambda kept: bytes([kept[0] ^ 1]) + kept[1:],
        lambda kept: kept[:-1] + bytes([kept[-1] ^ 128]),
        lambda kept: kept[:-40] + hashlib.sha256(kept[:-40]).digest(),  # of an image less
        lambda kept: pickle.dumps(print) + hashlib.sha256(pickle.dumps(print)).digest(),
    ],
)
def test_a_damaged_file_is_computed_again_and_mended(damage, tmp_path, counted):
    expected = again(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    np.testing.assert_array_equal(again(tmp_path)[["x", "y"]], expected[["x", "y"]])
    assert counted.calls == 2 and file.read_bytes() == whole
    assert again(tmp_path).equals(expected) and counted.calls == 2
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_command_draws_the_same_figure_again_and_leaves_nothing_else(tmp_path, counted):
    given = features()
    np.savez(
        tmp_path / "loco.npz", features=given.features, labels=np.arange(IMAGES) % 2,
        class_names=np.array(["a", "b"]), stage="res5", method="loco", encoder="resnet50",
        epochs=800, weights_sha256="sha",
    )  # fmt: skip
    pictures = []
    for _ in range(2):
        results.figures.tsne._places.cache_clear()
        assert main([str(tmp_path / "loco.npz"), "--out", str(tmp_path / "out" / "fig3")]) == 0
        pictures.append((tmp_path / "out" / "fig3.png").read_bytes())
    assert pictures[0] == pictures[1] and counted.calls == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fig3.pdf", "fig3.png"]


def test_tables_keep_the_embeddings_of_their_runs(tmp_path, counted):
    """They are drawn again whenever a run ends."""
    record = make_record(
        kind="linear", dataset="imagenet1k", protocol="linear", metrics={"top1": 50.0},
        artifacts={"features": "features.npz"},
    )  # fmt: skip
    folder = write_records(tmp_path / "runs", record)
    np.savez(
        folder / "run0/features.npz", features=features().features, labels=np.arange(IMAGES) % 2,
        class_names=np.array(["a", "b"]), stage="res5", method="loco", encoder="resnet50",
        epochs=800, weights_sha256="sha",
    )  # fmt: skip
    for _ in range(2):
        results.figures.tsne._places.cache_clear()
        assert tables([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert counted.calls == 1 and len(list((tmp_path / "out" / CACHE).iterdir())) == 1


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
