"""Detections and masks of several runs side by side on given images (Fig. 4).

python -m transfer.visualize RUN [RUN ...] --images FILE [FILE ...] --out figure.pdf
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from matplotlib import colormaps, font_manager
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from mmcv.transforms import Compose
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from results.record.files import regular_file, write_atomically
from results.record.labels import backbone_label
from results.record.run_record import FILE_NAME, RunRecord
from transfer.data.annotations import indexed, read_annotations
from transfer.stored_detector import load_detector
from transfer.train import classes_of

COLUMN_INCHES = 3.2
TITLE_INCHES, LINE_INCHES = 0.35, 0.18  # a title of one line, each more
DPI = 200
FORMATS = (".png", ".pdf")
MIN_SIDE = 384  # pixels; smaller images are enlarged first, so that labels can be read
PLACES = (0, 2, 4, 6, 8, 10, 12, 16, 18, 1, 3, 5, 7, 9, 11, 13, 17, 19)  # in tab20: dark, light
LARGE_SIDE = 640  # pixels; on longer images labels and lines grow, to be seen in print

Picture = NDArray[np.uint8]  # (H, W, 3), RGB


def draw_detections(
    image_path: str | Path,
    objects: InstanceData,
    categories: Sequence[str],
    score_threshold: float = 0.5,
) -> Image.Image:
    """Boxes, masks, names and scores on an image, the most certain on top.

    Args:
        image_path: the image that was detected on.
        objects: ``bboxes`` (N, 4), x1 y1 x2 y2 in its pixels; ``labels`` (N,), index into
            ``categories``; ``masks`` (N, H, W), bool; and ``scores`` (N,), in 0..1, which the
            ground truth has none of.
        categories: names.
        score_threshold: less certain detections are left out.

    Raises:
        ValueError: the file is no image.
    """
    # as mmdetection loads it, turned as the camera says (EXIF)
    pixels = mmcv.imread(str(regular_file(image_path)))
    if pixels is None:
        raise ValueError(f"{image_path} cannot be read as an image")
    image = torch.from_numpy(mmcv.bgr2rgb(pixels)).permute(2, 0, 1).contiguous()  # (3, H, W)
    factor = max(1, round(MIN_SIDE / min(image.shape[1:])))
    image = _enlarged(image, factor)
    scores = objects.get("scores")
    if scores is not None:
        order = scores.argsort()
        objects = objects[order[scores[order] >= score_threshold]]
    if len(objects):
        names = [categories[label] for label in objects.labels.tolist()]
        if scores is not None:
            pairs = zip(names, objects.scores.tolist(), strict=True)
            names = [f"{name} {score:.2f}" for name, score in pairs]
        colours = [colour_of(label) for label in objects.labels.tolist()]
        thicker = max(1.0, max(image.shape[1:]) / LARGE_SIDE)
        masks = _topmost(_enlarged(objects.masks.bool(), factor))
        image = draw_segmentation_masks(image, masks, alpha=0.45, colors=colours)
        image = draw_bounding_boxes(
            image,
            objects.bboxes * factor,
            labels=names,
            colors=colours,
            width=round(3 * thicker),
            font=font_manager.findfont("DejaVu Sans"),
            font_size=round(16 * thicker),
            fill_labels=True,
        )
    return F.to_pil_image(image)


def _enlarged(pixels: Tensor, factor: int) -> Tensor:
    """(N, H, W) -> (N, factor H, factor W)."""
    return pixels.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def _topmost(masks: Tensor) -> Tensor:
    """(N, H, W): of each mask what no later one covers; torchvision blackens pixels of several."""
    covered = masks.flip(0).cumsum(0).flip(0) - masks.int()
    return masks & (covered == 0)


def colour_of(label: int) -> tuple[int, int, int]:
    """Of a category, in RGB."""
    place = PLACES[label % len(PLACES)]
    red, green, blue = (torch.tensor(colormaps["tab20"](place)[:3]) * 255).int().tolist()
    return red, green, blue


def side_by_side(pictures: Sequence[Sequence[Picture]], titles: Sequence[str]) -> Figure:
    """One row an image, one column a method.

    Args:
        pictures: by row and column; those of a row have one shape.
        titles: of the columns.
    """
    assert all(len(row) == len(titles) for row in pictures)
    heights = [COLUMN_INCHES * row[0].shape[0] / row[0].shape[1] for row in pictures]
    above = TITLE_INCHES + LINE_INCHES * max(title.count("\n") for title in titles)
    size = (COLUMN_INCHES * len(titles), sum(heights) + above)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # inches
    figure = Figure(figsize=size, dpi=DPI, layout=tight)
    panels = figure.subplots(
        len(pictures), len(titles), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for row, shown in zip(panels, pictures, strict=True):
        for panel, picture in zip(row, shown, strict=True):
            panel.imshow(picture)
            panel.set_anchor("S")  # what the layout leaves over is the titles'
            panel.set_axis_off()
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=11, pad=4)
    return figure


def detections_of(
    model: nn.Module, cfg: Config, images: Sequence[Path], score_threshold: float
) -> list[Picture]:
    """Each image with what a detector (see :func:`load_detector`) finds on it."""
    steps = cfg.val_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if step["type"] != "LoadAnnotations"])
    categories = classes_of(cfg.val_dataloader.dataset)
    pictures = []
    for image in images:
        objects = inference_detector(model, str(image), pipeline).pred_instances.cpu()
        pictures.append(draw_detections(image, objects, categories, score_threshold))
    return [np.asarray(picture) for picture in pictures]


def ground_truth(
    annotations: Path, images: Sequence[Path], categories: Sequence[str]
) -> list[Picture]:
    """Each image with its annotated objects, crowds left out.

    Args:
        annotations: COCO-style annotation file.
        images: files whose paths end with the file names in it.
        categories: the names in the order of the detectors' labels, so that colours agree.

    Raises:
        FileNotFoundError, ValueError: the file is not COCO's; an image or category is not in it.
    """
    document, _ = read_annotations(annotations)
    truth = indexed(document)
    names = {category["id"]: category["name"] for category in document["categories"]}
    if odd := set(categories) - set(names.values()):
        raise ValueError(
            f"{annotations} lacks categories of the runs: {', '.join(sorted(odd)[:5])}. Name the "
            "annotation file of the runs' validation images"
        )
    ours = [number for number, name in names.items() if name in set(categories)]
    pictures = []
    for image in images:
        ids = [
            entry["id"]
            for entry in document["images"]
            if f"/{image.as_posix()}".endswith(f"/{entry['file_name']}")
        ]
        if not ids:
            raise ValueError(f"{annotations} does not list {image}; leave out --annotations")
        listed = truth.loadAnns(truth.getAnnIds(ids[:1], ours, iscrowd=False))
        boxes = torch.tensor([thing["bbox"] for thing in listed]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # x y w h -> x1 y1 x2 y2
        masks = [torch.from_numpy(truth.annToMask(thing)) for thing in listed]
        objects = InstanceData(
            bboxes=boxes,
            labels=torch.tensor([categories.index(names[a["category_id"]]) for a in listed]),
            masks=torch.stack(masks) if masks else torch.zeros(0, 1, 1),
        )
        pictures.append(np.asarray(draw_detections(image, objects, categories)))
    return pictures


def titles_of(runs: Sequence[Path]) -> list[str]:
    """What the tables call each run's backbone, its folder's name where it has not finished.

    Runs that would be called the same have their folders below.
    """
    titles = []
    for run in runs:
        record = RunRecord.read(run / FILE_NAME) if (run / FILE_NAME).is_file() else None
        titles.append(backbone_label(record.method, record.pretrain_epochs) if record else run.name)
    names = [run.name if len({run.name for run in runs}) == len(runs) else str(run) for run in runs]
    return [
        title if titles.count(title) == 1 else f"{title}\n{name}"
        for title, name in zip(titles, names, strict=True)
    ]


def compare(options: argparse.Namespace) -> Figure:
    """The figure that the command line asks for.

    Raises:
        FileNotFoundError, ValueError: what was found, what was expected, what to do.
    """
    if options.out.suffix not in FORMATS:
        raise ValueError(f"--out {options.out}: expected a name with {' or '.join(FORMATS)}")
    for image in options.images:
        if not image.is_file():
            raise FileNotFoundError(f"there is no image {image}")
        Image.open(image).close()
    titles = options.titles or titles_of(options.runs)
    if len(titles) != len(options.runs):
        raise ValueError(f"{len(titles)} --titles for {len(options.runs)} runs; give one for each")
    columns: list[list[Picture]] = []
    for run in options.runs:
        model, cfg = load_detector(run, get_device())
        if options.annotations and not columns:
            titles = ["Ground truth", *titles]
            names = classes_of(cfg.val_dataloader.dataset)
            columns.append(ground_truth(options.annotations, options.images, names))
        columns.append(detections_of(model, cfg, options.images, options.score_threshold))
    return side_by_side(list(zip(*columns, strict=True)), titles)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m transfer.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".png or .pdf")
    parser.add_argument("--titles", nargs="+", help="of the columns; default: the methods' names")
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="COCO-style annotations of the images: a first column with the ground truth",
    )
    parser.add_argument("--score-threshold", type=float, default=0.5, metavar="S", help="in 0..1")
    options = parser.parse_args(arguments)
    try:
        figure = compare(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    buffer = io.BytesIO()
    figure.savefig(buffer, format=options.out.suffix[1:])
    write_atomically(options.out, buffer.getvalue())
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
