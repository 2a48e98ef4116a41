"""t-SNE of frozen features, Fig. 3 (appendix C): `python -m results.tsne FILE.npz... --out FIG3`.

A feature file is what `python -m pretrain.readout.features` and every readout write. The embedding
is scikit-learn's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

from results.figures.artifacts import MAX_PANELS, free_name, in_order
from results.figures.figure_files import write_figure
from results.figures.plots import tsne_panels
from results.record.files import regular_file, write_atomically
from results.record.labels import METHODS, backbone_label, rank
from results.record.text import is_printable
from results.tables.load import Problem, Run, artifact_path

SEED = 0  # the start is the principal components', so little is left to it
PERPLEXITY = 30  # scikit-learn's default; the paper does not say
MAX_IMAGES = 5000  # a plot of more shows no more; Fig. 3 has 500
MAX_BYTES = 1 << 30
PLACE = np.dtype("<f4")  # of a coordinate, also in a kept file
CACHE = ".tsne"  # a folder beside tables, with one file for every embedding


@dataclass(frozen=True)
class Features:
    """Features of some images, (N, C), and what they come from."""

    features: np.ndarray
    classes: tuple[str, ...]  # of each image, by name
    stage: str
    method: str
    encoder: str
    epochs: int | None  # of pretraining
    weights_sha256: str

    @property
    def title(self) -> str:
        """The backbone in words: "LoCo, 800 epochs"."""
        return backbone_label(self.method, self.epochs)


def read_features(path: str | Path) -> Features:
    """Read a feature file, running nothing that it holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one, or its arrays do not fit each other or are too many.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no feature file at {path}; `python -m pretrain.readout.features --backbone FILE "
            "--data DIR --out FILE.npz` writes one"
        )
    if Path(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB; export fewer --classes")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"unpacked {size >> 20} MiB, expected {MAX_BYTES >> 20} at most")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # zip, zlib and NumPy's headers: of every kind
        raise ValueError(f"{path} is no readable feature file ({str(error)[:300]})") from error
    wanted = ("features", "labels", "class_names", "stage", "method", "encoder", "epochs",
              "weights_sha256")  # fmt: skip
    if absent := [name for name in wanted if name not in arrays]:
        raise ValueError(f"{path} is no feature file: it lacks {', '.join(absent)}")
    features, labels, names = arrays["features"], arrays["labels"], arrays["class_names"]
    texts = [arrays[name] for name in ("stage", "method", "encoder", "weights_sha256")]
    fits = (
        features.ndim == 2
        and np.issubdtype(features.dtype, np.floating)
        and names.ndim == 1
        and all(np.issubdtype(each.dtype, np.str_) for each in (names, *texts))
        and all(each.ndim == 0 for each in (*texts, arrays["epochs"]))
        and np.issubdtype(arrays["epochs"].dtype, np.integer)
        and all(is_printable(str(each)) for each in (*names.tolist(), *texts))
        and labels.shape == (len(features),)
        and np.issubdtype(labels.dtype, np.integer)
        and len(features) > 1
        and 0 <= labels.min() <= labels.max() < len(names)
    )
    if not fits or not np.isfinite(features).all():
        raise ValueError(
            f"{path}: features {features.shape}, labels {labels.shape} and classes {names.shape} "
            "do not fit, or a feature is not finite; expected (N, C), (N,), N of 2 or more, and "
            "names that can be printed"
        )
    if len(features) > MAX_IMAGES:
        raise ValueError(
            f"{path} holds {len(features)} images, more than the {MAX_IMAGES} that a plot shows; "
            "export fewer --classes"
        )
    epochs = int(arrays["epochs"])
    return Features(
        features=features.astype(np.float64),
        classes=tuple(str(names[label]) for label in labels),
        stage=str(arrays["stage"]),
        method=str(arrays["method"]),
        encoder=str(arrays["encoder"]),
        epochs=None if epochs < 0 else epochs,
        weights_sha256=str(arrays["weights_sha256"]),
    )


def embed(features: Features, cache: Path | None = None) -> pd.DataFrame:
    """Two-dimensional places of the images: columns `x`, `y`, `class`; the same each time.

    What `cache`, a folder, has of these features is not computed again.
    """
    content, shape = features.features.tobytes(), features.features.shape
    file = None if cache is None else cache / f"{_key(content, shape)}.places"
    places = None if file is None else _read_places(file, shape[0])
    if places is None:
        places = _places(content, shape)
        if file is not None:
            kept = places.tobytes()
            write_atomically(file, kept + hashlib.sha256(kept).digest())
    return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "class": features.classes})


@lru_cache(maxsize=MAX_PANELS)  # figures and report want the same ones
def _places(content: bytes, shape: tuple[int, int]) -> np.ndarray:
    """(N, 2) from the bytes of float64 (N, C)."""
    tsne = TSNE(**_parameters(shape))
    return tsne.fit_transform(np.frombuffer(content).reshape(shape)).astype(PLACE)


def _parameters(shape: tuple[int, int]) -> dict[str, Any]:
    """Of scikit-learn's TSNE, for (N, C)."""
    return {
        "perplexity": min(PERPLEXITY, (shape[0] - 1) / 3),
        "init": "pca" if min(shape) > 1 else "random",
        "random_state": SEED,
    }


def _key(content: bytes, shape: tuple[int, int]) -> str:
    """A digest of all that the places depend on: features, parameters and versions."""
    versions = [metadata.version(name) for name in ("scikit-learn", "scipy", "numpy")]
    said = json.dumps([shape, _parameters(shape), versions])
    return hashlib.sha256(said.encode() + b"\0" + content).hexdigest()


def _read_places(file: Path, images: int) -> np.ndarray | None:
    """(N, 2) as `embed` has kept them, a digest behind; None where they are not, or damaged."""
    try:
        content = regular_file(file).read_bytes()
    except (OSError, ValueError):
        return None
    kept, digest = content[:-32], content[-32:]
    if hashlib.sha256(kept).digest() != digest or len(kept) != images * 2 * PLACE.itemsize:
        return None
    return np.frombuffer(kept, PLACE).reshape(images, 2)


def side_by_side(found: Sequence[Features], cache: Path | None = None) -> dict[str, pd.DataFrame]:
    """Embeddings by title, in the order of methods; `cache` as in `embed`.

    Raises:
        ValueError: the files show different classes.
    """
    if len({frozenset(features.classes) for features in found}) > 1:
        raise ValueError("the feature files show different classes, so no legend fits them all")
    embeddings: dict[str, pd.DataFrame] = {}
    for features in sorted(found, key=lambda f: (rank(METHODS)(f.method), f.epochs or 0)):
        title = features.title
        title += f", {features.encoder}" if len({f.encoder for f in found}) > 1 else ""
        if title in embeddings:
            title += f", weights {features.weights_sha256[:8]}"
        embeddings[free_name(title, embeddings)] = embed(features, cache)
    return embeddings


def load_features(runs: Iterable[Run]) -> tuple[dict[str, list[Features]], list[Problem]]:
    """Features of every readout by what they can be compared on: encoder and data."""
    groups: dict[str, list[Features]] = {}
    problems = []
    having = [run for run in in_order(runs, "linear") if "features" in run.record.artifacts]
    if len(having) > MAX_PANELS:
        left = len(having) - MAX_PANELS
        reason = f"features of {left} readouts beyond {MAX_PANELS} are not drawn"
        problems.append(Problem("warning", "t-SNE", reason))
    for run in having[:MAX_PANELS]:
        record = run.record
        try:
            features = read_features(artifact_path(run.path, record.artifacts["features"]))
        except (OSError, ValueError) as error:
            problems.append(Problem("warning", run.path, f"features: {error}"))
            continue
        group = groups.setdefault(f"{record.encoder}, {record.dataset}", [])
        if group and set(features.classes) != set(group[0].classes):
            reason = "features: other classes than the runs beside it; not drawn"
            problems.append(Problem("warning", run.path, reason))
        elif features.weights_sha256 not in {other.weights_sha256 for other in group}:
            group.append(features)
    return groups, problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Write FIG3.png and FIG3.pdf."""
    parser = argparse.ArgumentParser(prog="python -m results.tsne", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="one for every panel")
    parser.add_argument("--out", required=True, type=Path, metavar="FIG3", help="without suffix")
    options = parser.parse_args(arguments)
    try:
        found = [read_features(path) for path in options.files]
        figure = tsne_panels(side_by_side(found))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in write_figure(figure, options.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
