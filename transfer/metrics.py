"""What a detector is judged by: COCO's box and mask AP, on Cityscapes that of its own tool too.

mmdetection's ``CocoMetric`` collects the detections and pycocotools evaluates them. The figures are
read from pycocotools itself, since ``CocoMetric`` rounds them to a tenth of a percent, gives -1
where there is nothing to find, nothing at all where nothing was found, and with ``classwise`` it
writes the masks' AP of a category over that of its boxes.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from copy import copy
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as cityscapes_tool
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.labels import name2label
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.fileio import load
from mmengine.logging import MMLogger
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from transfer.data.annotations import indexed, read_annotations
from transfer.data.cityscapes import PICTURE, TRUTH

# The twelve of cocodataset.org/#detection-eval, in the order of pycocotools' stats.
FIGURES = (
    "ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l", "ar1", "ar10", "ar100", "ar_s", "ar_m", "ar_l",
)  # fmt: skip
KINDS = {"bbox": "box", "segm": "mask"}  # pycocotools' name -> ours
MAX_DETECTIONS = (1, 10, 100)  # per image; what ar1, ar10 and ar100 are named after
MAX_THREADS = 8  # the tool's time goes into NumPy, which lets others run meanwhile

Figures = dict[str, float]
Results = list[tuple[dict[str, Any], dict[str, Any]]]  # (about the image, detections) each


@METRICS.register_module()
class CocoAP(CocoMetric):
    """``box_ap``, ``box_ap50``, ... ``mask_ar_l`` in percent; one that is not defined is left out.

    After an evaluation ``per_category`` holds, on the main process, the first six figures of every
    category: ``{"box": {"person": {"ap": 40.1, ...}, ...}, "mask": ...}``; and
    ``evaluated_images``, ``annotated_images`` how many images came through the detector, of how
    many that the annotations have.

    Args:
        ann_file: COCO-style annotation file. Of its images those count that were evaluated.
    """

    def __init__(self, ann_file: str) -> None:
        super().__init__(metric=list(KINDS), proposal_nums=MAX_DETECTIONS)
        self._coco_api = indexed(read_annotations(Path(ann_file))[0])
        self.per_category: dict[str, dict[str, Figures]] = {}
        self.evaluated_images = self.annotated_images = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the detections of a batch.

        Raises:
            ValueError: an image has another size than the annotations say; pycocotools would find
                no overlap with any mask, and not say why.
        """
        super().process(data_batch, data_samples)
        for sample in data_samples:
            entry = self._coco_api.imgs[sample["img_id"]]
            height, width = sample["ori_shape"]
            if (height, width) != (entry["height"], entry["width"]):
                raise ValueError(
                    f"{sample['img_path']} has {width}x{height} pixels, the annotations say "
                    f"{entry['width']}x{entry['height']}. Take the images that the annotations "
                    "were made for"
                )

    def compute_metrics(self, results: Results) -> Figures:
        truths, detected = zip(*results, strict=True)
        truth: COCO = self._coco_api
        self.cat_ids = truth.getCatIds(catNms=self.dataset_meta["classes"])  # by label
        image_ids = [image["img_id"] for image in truths]
        self.evaluated_images = len(set(image_ids))
        self.annotated_images = len(truth.getImgIds())
        with TemporaryDirectory() as folder:
            files = self.results2json(detected, f"{folder}/detections")
            detections = {kind: load(files[kind]) for kind in KINDS}
        for detection in detections["segm"]:
            del detection["bbox"]  # else its area, not the mask's, says what is small
        figures = {}
        for kind, name in KINDS.items():
            with redirect_stdout(StringIO()):
                evaluation = evaluate(truth, detections[kind], kind, self.cat_ids, image_ids)
            with redirect_stdout(StringIO()) as summary:
                evaluation.summarize()
            MMLogger.get_current_instance().info(f"{name} AP\n{summary.getvalue().rstrip()}")
            for figure, value in zip(FIGURES, evaluation.stats, strict=True):
                if value >= 0:
                    figures[f"{name}_{figure}"] = percent(value)
            self.per_category[name] = by_category(truth, evaluation)
        return figures


def evaluate(
    truth: COCO,
    detections: list[dict[str, Any]],
    kind: str,
    category_ids: Sequence[int],
    image_ids: Sequence[int],
) -> COCOeval:
    """pycocotools' evaluation of detections in COCO's result format, up to ``summarize``.

    Args:
        truth: the annotations.
        detections: may be empty, which pycocotools' own ``loadRes`` refuses.
        kind: ``bbox`` or ``segm``.
        category_ids: those that count.
        image_ids: those that were looked at.
    """
    if detections:
        found = truth.loadRes(detections)
    else:
        found = COCO()
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
    evaluation = COCOeval(truth, found, kind)
    evaluation.params.catIds = list(category_ids)
    evaluation.params.imgIds = list(image_ids)
    evaluation.params.maxDets = list(MAX_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def by_category(truth: COCO, evaluation: COCOeval) -> dict[str, Figures]:
    """The six APs of each category in percent, those left out that are not defined."""
    precision = evaluation.eval["precision"]  # (IoU, recall, category, area, most), or -1
    table = {}
    for place, category in enumerate(truth.loadCats(evaluation.params.catIds)):
        of_all_sizes = precision[:, :, place, 0, -1]
        parts = [of_all_sizes, of_all_sizes[0], of_all_sizes[5]]  # IoU 0.5 to 0.95, 0.5, 0.75
        parts += [precision[:, :, place, area, -1] for area in (1, 2, 3)]
        table[category["name"]] = {
            figure: percent(np.mean(part[part > -1]))
            for figure, part in zip(FIGURES[:6], parts, strict=True)
            if (part > -1).any()
        }
    return table


def percent(fraction: float) -> float:
    """A fraction in percent, without the last bits (99.99999999999999)."""
    return round(100 * float(fraction), 9)


# ---- Cityscapes ----------------------------------------------------------------------------------


@METRICS.register_module()
class CityscapesAP(CocoAP):
    """Beside COCO's figures ``cityscapes_ap`` and ``cityscapes_ap50``, cityscapesScripts' own.

    ``per_category["cityscapes"]`` holds both for every class. The instance ids are read from
    ``gtFine``, beside the ``leftImg8bit`` that the images come from.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        before = len(self.results)
        super().process(data_batch, data_samples)
        for (image, _), sample in zip(self.results[before:], data_samples, strict=True):
            image["instance_ids"] = str(instance_ids_file(Path(sample["img_path"])))

    def compute_metrics(self, results: Results) -> Figures:
        figures = super().compute_metrics(results)
        names = [category["name"] for category in self._coco_api.loadCats(self.cat_ids)]
        predictions = {
            Path(image["instance_ids"]): [
                Prediction(names[label], float(score), mask)
                for label, score, mask in zip(
                    found["labels"], found["scores"], found["masks"], strict=True
                )
            ]
            for image, found in results
        }
        table = {
            name: {figure: percent(value) for figure, value in values.items()}
            for name, values in instance_ap(predictions, progress=True).items()
        }
        average = table.pop("average", {})  # of no class, where none has an object that counts
        self.per_category["cityscapes"] = table
        return figures | {f"cityscapes_{figure}": value for figure, value in average.items()}


def instance_ids_file(picture: Path) -> Path:
    """leftImg8bit/<split>/<city>/<name>_leftImg8bit.png -> its *_instanceIds.png under gtFine."""
    root, split, city = picture.parents[3], picture.parts[-3], picture.parts[-2]
    return root / "gtFine" / split / city / (picture.name.removesuffix(PICTURE) + TRUTH)


# cityscapesScripts 2.3.0 wants ``in1d``, which NumPy 2.4 has no more; for this tool alone
cityscapes_tool.np = SimpleNamespace(**{"in1d": lambda a, b: np.isin(np.ravel(a), b)} | vars(np))


class Prediction(NamedTuple):
    """One predicted object."""

    category: str  # Cityscapes' name
    score: float
    mask: dict[str, Any]  # COCO's run lengths


def instance_ap(
    predictions: Mapping[Path, Sequence[Prediction]], progress: bool = False
) -> dict[str, Figures]:
    """``ap`` (overlaps 0.5 to 0.95) and ``ap50``, as fractions, of every class and their average.

    Cityscapes' AP is not COCO's (mmdetection#1414): it leaves out objects below 100 pixels and
    predictions on groups or unlabelled ground, lets any number of predictions enter, matches at an
    overlap *above* the threshold, and steps along the precision-recall curve where COCO
    interpolates. cityscapesScripts' own functions do the work, called one by one: its
    ``evaluateImgLists`` takes one image after the other and leaves files in the working directory.

    Args:
        predictions: the objects predicted on each image, by its ``*_gtFine_instanceIds.png``.
        progress: show a progress bar with the remaining time on stderr.

    Returns:
        By the class's name, and ``"average"``; a class of which there is no object is left out,
        and the average where that is every class.

    Raises:
        FileNotFoundError: an instance image is not there.
    """
    arguments = copy(cityscapes_tool.args)
    arguments.quiet = True
    cityscapes_tool.setInstanceLabels(arguments)
    matches: dict[str, Any] = {}
    bar = {"total": len(predictions), "desc": "cityscapesScripts", "unit": "image"}
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        of_images = pool.map(partial(_match, arguments=arguments), predictions.items())
        for of_image in tqdm(of_images, **bar, disable=not progress, mininterval=1):
            matches |= of_image
    averages = cityscapes_tool.computeAverages(
        cityscapes_tool.evaluateMatches(matches, arguments), arguments
    )
    table = {"average": (averages["allAp"], averages["allAp50%"])}
    table |= {name: (of["ap"], of["ap50%"]) for name, of in averages["classes"].items()}
    return {
        name: {"ap": float(ap), "ap50": float(ap50)}
        for name, (ap, ap50) in table.items()
        if not np.isnan(ap)
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
        matches: dict[str, Any] = cityscapes_tool.matchGtWithPreds(
            [str(listing)], [truth], instances2dict([truth]), arguments
        )
    return matches
