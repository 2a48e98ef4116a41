"""cityscapesScripts' own instance AP, which is not COCO's (they differ a lot: mmdetection#1414).

It leaves out objects below 100 pixels and predictions that lie on groups or unlabelled ground, lets
any number of predictions enter, matches at an overlap *above* the threshold, and steps along the
precision-recall curve where COCO interpolates.

The tool's own functions do the work, called one by one: its ``evaluateImgLists`` takes one image
after the other, leaves files in the working directory, and its arguments are a global object.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as tool
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.labels import name2label
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

WORKERS = 8  # threads at most; the tool's time goes into NumPy, which lets others run meanwhile


def with_in1d(numpy: ModuleType) -> ModuleType:
    """NumPy as cityscapesScripts 2.3.0 wants it: with ``in1d``, which NumPy 2.4 has no more."""
    module = ModuleType(numpy.__name__)
    module.__dict__.update(vars(numpy))
    module.__dict__.setdefault("in1d", lambda a, b: numpy.isin(numpy.ravel(a), b))
    return module


tool.np = with_in1d(np)  # for this tool alone


@dataclass(frozen=True)
class Prediction:
    """One predicted object."""

    category: str  # Cityscapes' name
    score: float
    mask: dict[str, Any]  # COCO's run lengths


def instance_ap(
    predictions: Mapping[Path, Sequence[Prediction]], progress: bool = False
) -> dict[str, dict[str, float]]:
    """``ap`` (overlaps 0.5 to 0.95) and ``ap50``, as fractions, of every class and their average.

    Args:
        predictions: what was found on each image, by the image's ``*_gtFine_instanceIds.png``.
        progress: show a progress bar with the remaining time on stderr.

    Returns:
        By the class's name, and ``"average"``; a class of which there is no object is left out,
        and the average where that is every class.

    Raises:
        FileNotFoundError: an instance image is not there.
    """
    arguments = copy(tool.args)
    arguments.quiet = True
    tool.setInstanceLabels(arguments)
    matches: dict[str, Any] = {}
    bar = {"total": len(predictions), "desc": "cityscapesScripts", "unit": "image"}
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        found = pool.map(partial(_match, arguments=arguments), predictions.items())
        for of_image in tqdm(found, **bar, disable=not progress, mininterval=1):
            matches |= of_image
    averages = tool.computeAverages(tool.evaluateMatches(matches, arguments), arguments)
    table = {"average": {"ap": averages["allAp"], "ap50": averages["allAp50%"]}}
    for category, values in averages["classes"].items():
        table[category] = {"ap": values["ap"], "ap50": values["ap50%"]}
    return {
        name: {figure: float(value) for figure, value in values.items()}
        for name, values in table.items()
        if not np.isnan(values["ap"])
    }


def _match(image: tuple[Path, Sequence[Prediction]], arguments: Any) -> dict[str, Any]:
    """The tool's matches of one image; it wants a list of mask files, which go away again."""
    truth, predictions = str(image[0]), image[1]
    with TemporaryDirectory() as folder:
        lines = []
        for number, prediction in enumerate(predictions):
            mask = coco_mask.decode(prediction.mask).astype(bool)
            Image.fromarray(mask).save(f"{folder}/{number}.pbm")  # neither compressed nor large
            label_id = name2label[prediction.category].id
            lines.append(f"{number}.pbm {label_id} {prediction.score!r}\n")
        listing = Path(folder, "predictions.txt")
        listing.write_text("".join(lines))
        arguments = copy(arguments)
        arguments.predictionPath = os.path.abspath(folder)
        matches: dict[str, Any] = tool.matchGtWithPreds(
            [str(listing)], [truth], instances2dict([truth]), arguments
        )
    return matches
