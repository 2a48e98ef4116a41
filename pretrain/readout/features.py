"""Features of a frozen encoder as a file for the t-SNE of Fig. 3 (appendix C).

python -m pretrain.readout.features --backbone FILE --data DIR --out FILE.npz
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from pretrain.backbone_file import Provenance
from pretrain.images.labelled_images import SPLITS, LabelledImages, decode_once
from pretrain.readout.frozen_encoder import FrozenEncoder
from results.record.files import write_atomically

CLASSES = 10  # the first ones of ImageNet, appendix C


def write_features(
    path: str | Path,
    features: Tensor,
    labels: Tensor,
    class_names: tuple[str, ...],
    stage: str,
    provenance: Provenance,
) -> Path:
    """Write an .npz file that NumPy reads with ``allow_pickle=False``.

    Args:
        path: of the file.
        features: (N, C).
        labels: int64 (N,), places in ``class_names``.
        class_names: of all classes.
        stage: whose features these are.
        provenance: of the weights.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        features=features.float().numpy(),
        labels=labels.numpy(),
        class_names=np.array(class_names),
        stage=np.array(stage),
        method=np.array(provenance.method),
        encoder=np.array(provenance.encoder),
        epochs=np.array(-1 if provenance.epochs is None else provenance.epochs),  # -1: none
        weights_sha256=np.array(provenance.weights_sha256),
    )
    return write_atomically(path, buffer.getvalue())


def first_classes(labels: Tensor, classes: int) -> list[int]:
    """Places of the images of the first ``classes`` classes.

    Raises:
        ValueError: fewer than two classes are asked for.
    """
    if classes < 2:
        raise ValueError(
            f"features of {classes} classes show no clusters; set --classes to 2 or more"
        )
    return torch.nonzero(labels < classes).flatten().tolist()


def embed(
    encoder: FrozenEncoder, images: LabelledImages, places: list[int], num_workers: int = 0
) -> dict[str, Tensor]:
    """Features of the images at ``places``, (N, C) a stage, in memory."""
    encoder.to(get_device())
    some = Subset(images, places)
    loader: DataLoader[Any] = DataLoader(some, batch_size=64, num_workers=num_workers)
    batches = [encoder(batch)["features"] for batch in loader]
    return {stage: torch.cat([b[stage] for b in batches]).cpu() for stage in encoder.stages}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", required=True, metavar="FILE")
    parser.add_argument("--data", required=True, metavar="DIR", help="train/CLASS/, val/CLASS/")
    parser.add_argument("--out", required=True, metavar="FILE.npz")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--classes", type=int, default=CLASSES, help="how many, from the first")
    parser.add_argument("--stage", default="last", help="a name, or last")
    parser.add_argument("--image-size", type=int, default=224, help="pixels")
    parser.add_argument("--resize", type=int, default=256, help="shorter side before the crop")
    parser.add_argument("--num-workers", type=int, default=0)
    args = parser.parse_args()
    try:
        encoder = FrozenEncoder(args.backbone, args.stage)
        images = LabelledImages(args.data, args.split, args.image_size, args.resize)
        labels = torch.from_numpy(images.labels)
        places = first_classes(labels, args.classes)
        print(images.images.describe(), flush=True)
        decode_once((images.images, places))
        stage = encoder.stages[-1]
        features = embed(encoder, images, places, args.num_workers)[stage]
        write_features(
            args.out, features, labels[places], images.classes, stage, encoder.provenance
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {len(places)} images, {features.shape[1]} features each, from {stage}")


if __name__ == "__main__":
    main()
