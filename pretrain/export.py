"""``python -m pretrain.export``: a checkpoint, or torchvision's weights, as a backbone file."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretrain.backbone_file import FORMAT_VERSION, Provenance, check_tensors, write_backbone
from pretrain.encoders import Encoder, build_encoder
from pretrain.engine.file_kinds import foreign
from pretrain.engine.stored_tensors import read_stored, tensors_of
from results.record.files import sha256_file
from results.record.protocol import SUPERVISED, is_published


def export_checkpoint(checkpoint: str | Path, out: str | Path) -> Provenance:
    """A checkpoint of ``tools/pretrain.sh`` -> backbone file."""
    content = read_stored(checkpoint)
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    stored = meta.get("provenance")
    if not isinstance(stored, dict):
        kind = (
            "a checkpoint of another training"
            if "config_text" in meta
            else foreign(Path(checkpoint))
        )
        raise ValueError(
            f"{checkpoint} is {kind}: it carries no provenance; expected a checkpoint that `bash "
            "tools/pretrain.sh` wrote (WORK_DIR/epoch_N.pth)"
        )
    defaults = {"weights_sha256": "", "source_sha256": ""}
    provenance = Provenance.of({**defaults, **stored}, checkpoint)
    planned = _planned(meta, checkpoint)
    if provenance.epochs is not None and provenance.epochs < planned:
        # 100 of 800 epochs are not the 100 epochs of the paper: the learning rate is still high.
        cut = f"{provenance.epochs} of {planned} epochs, learning rate not decayed"
        provenance = replace(provenance, deviations=(*provenance.deviations, cut))
    provenance = replace(provenance, format_version=FORMAT_VERSION)
    encoder = _encoder_of(provenance, checkpoint)
    tensors = tensors_of(content.get("state_dict"), checkpoint, prefix="encoder.")
    check_tensors(encoder.state_dict(), tensors, checkpoint)
    encoder.load_state_dict(tensors)
    return write_backbone(encoder, out, provenance)


def _planned(meta: Mapping[str, Any], path: str | Path) -> int:
    """Of how many epochs a checkpoint's run was to be."""
    try:
        planned = json.loads(meta["config_text"])["train_cfg"]["max_epochs"]
    except (KeyError, TypeError, ValueError, RecursionError):
        planned = None
    if type(planned) is not int or not 0 <= planned < 2**63:
        raise ValueError(f"{path} does not say how many epochs its run was to have")
    return planned


def _encoder_of(provenance: Provenance, path: str | Path) -> Encoder:
    try:
        return build_encoder(provenance.encoder)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def import_torchvision(weights: str | Path, encoder_name: str, out: str | Path) -> Provenance:
    """torchvision's supervised ImageNet weights (``resnet50-19c8e357.pth``) -> backbone file."""
    stored = tensors_of(read_stored(weights), weights)
    digest = sha256_file(weights)
    if not is_published(encoder_name, digest):
        expected = ", ".join(f"{name}-{sha256}.pth" for name, sha256 in SUPERVISED.items())
        raise ValueError(
            f"{weights} has sha256 {digest[:8]}... and is to be weights of {encoder_name}; only "
            f"torchvision's {expected}, with that sha256, may be called supervised"
        )
    tensors = {key: value for key, value in stored.items() if not key.startswith("fc.")}
    encoder = build_encoder(encoder_name)
    # Old files have no num_batches_tracked; nothing reads it while momentum is a constant.
    for key, value in encoder.state_dict().items():
        if key.endswith("num_batches_tracked"):
            tensors.setdefault(key, value)
    check_tensors(encoder.state_dict(), tensors, weights)
    encoder.load_state_dict(tensors)
    provenance = Provenance.from_elsewhere("supervised", encoder_name, dataset="imagenet1k")
    return write_backbone(encoder, out, replace(provenance, source_sha256=digest))


def main() -> None:
    """The command line: ``python -m pretrain.export {checkpoint,torchvision} ...``."""
    parser = argparse.ArgumentParser(description="Write a backbone file.")
    commands = parser.add_subparsers(dest="command", required=True)
    checkpoint = commands.add_parser("checkpoint", help="from WORK_DIR/epoch_N.pth")
    torchvision = commands.add_parser("torchvision", help="from torchvision's supervised weights")
    torchvision.add_argument("--encoder", default="resnet50")
    for command in (checkpoint, torchvision):
        command.add_argument("source")
        command.add_argument("--out", required=True)
    args = parser.parse_args()
    try:
        if args.command == "checkpoint":
            provenance = export_checkpoint(args.source, args.out)
        else:
            provenance = import_torchvision(args.source, args.encoder, args.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{args.out}: {provenance.method} {provenance.encoder}, sha256 {provenance.weights_sha256}"
    )


if __name__ == "__main__":
    main()
