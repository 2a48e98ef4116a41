"""The backbone file: an encoder's tensors with their provenance, and its strict reader.

The only thing that crosses from pretraining to transfer. It is a safetensors file, so reading it
runs no code. The tensors carry torchvision's names; the metadata holds one JSON object a key of
:class:`Provenance`.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pretrain.encoders import Encoder, build_encoder
from results.record import write_atomically

FORMAT = "loco-transfer backbone"
FORMAT_VERSION = 2  # 1 had no settings
# RGB in 0..1; the same in pretraining and transfer (our choice)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the tensors of a backbone file come from."""

    method: str
    encoder: str
    epochs: int | None
    dataset: str
    dataset_fingerprint: str
    deviations: tuple[str, ...]  # in words, from the paper's pretraining; empty: none
    config_hash: str
    git_commit: str
    seed: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # units, decoder, ...; {}: not known
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_elsewhere(
        cls, method: str, encoder: str, dataset: str = "", seed: int | None = None
    ) -> "Provenance":
        """Of weights that no run of this project pretrained: torchvision's, or random ones."""
        return cls(
            method=method,
            encoder=encoder,
            epochs=None,
            dataset=dataset,
            dataset_fingerprint="",
            deviations=(),
            config_hash="",
            git_commit="",
            seed=seed,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )


def write_backbone(encoder: Encoder, path: str | Path, provenance: Provenance) -> Provenance:
    """Write the encoder's tensors and their provenance, all at once or not at all.

    Returns:
        The provenance as written, with the sha256 of the weights.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    provenance = replace(provenance, weights_sha256=weights_sha256(tensors))
    metadata = {key: json.dumps(value) for key, value in asdict(provenance).items()}
    write_atomically(path, save(tensors, metadata))
    return provenance


def read_provenance(path: str | Path) -> Provenance:
    """The provenance of a backbone file, without its tensors.

    Raises:
        FileNotFoundError, ValueError: the file is missing, cut short, or not a backbone file.
    """
    with _open(path) as file:
        return _parse(file.metadata(), path)


def load_backbone(encoder: Encoder, path: str | Path) -> Provenance:
    """Fill ``encoder`` with the tensors of a backbone file, every one of them and no other.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a backbone file, is damaged, was made for another encoder, or a
            tensor is missing, unexpected or of another shape; each is listed.
    """
    with _open(path) as file:
        provenance = _parse(file.metadata(), path)
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if provenance.encoder != encoder.name:
        raise ValueError(
            f"{path} holds the weights of {provenance.encoder}, but the config asks for "
            f"{encoder.name}; name a file of that encoder with --cfg-options backbone_file=FILE"
        )
    check_tensors(encoder.state_dict(), tensors, path)
    if weights_sha256(tensors) != provenance.weights_sha256:
        raise ValueError(
            f"the weights in {path} are not those that were exported: their sha256 differs from "
            "the recorded one. Export or copy the file again"
        )
    encoder.load_state_dict(tensors)
    return provenance


def check_tensors(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path
) -> None:
    """Compare names and shapes.

    Raises:
        ValueError: lists every tensor that is missing, unexpected or misshapen.
    """
    faults = [f"missing: {key}" for key in expected if key not in found]
    faults += [f"unexpected: {key}" for key in found if key not in expected]
    faults += [
        f"shape of {key}: found {tuple(found[key].shape)}, expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if faults:
        raise ValueError(
            f"the tensors in {path} are not this encoder's; nothing was loaded:\n  "
            + "\n  ".join(faults)
        )


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of the tensors, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _open(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no backbone file at {path}; a pretraining writes one "
            "(`bash tools/pretrain.sh CONFIG`, then WORK_DIR/backbone.safetensors). Name it with "
            "--cfg-options backbone_file=FILE"
        )
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is no readable backbone file ({error}); it is cut short or of another format. "
            "Export or copy it again"
        ) from error


def _parse(metadata: Mapping[str, str] | None, path: str | Path) -> Provenance:
    metadata = metadata or {}
    names = {each.name for each in fields(Provenance)}
    if metadata.get("format_version") == "1":
        metadata = {**metadata, "settings": "{}"}
    missing = sorted(names - metadata.keys())
    if missing:
        raise ValueError(
            f"{path} is a safetensors file without provenance ({', '.join(missing)} missing), so "
            "no result could be tied to it. Make a backbone file with `python -m pretrain.export`"
        )
    values = {key: json.loads(metadata[key]) for key in names}
    if values["format"] != FORMAT or values["format_version"] not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{path} is '{values['format']}' version {values['format_version']}; this release "
            f"reads '{FORMAT}' up to version {FORMAT_VERSION}"
        )
    values.update({key: tuple(values[key]) for key in ("deviations", "mean", "std")})
    return Provenance(**values)


def export_checkpoint(checkpoint: str | Path, out: str | Path) -> Provenance:
    """A checkpoint of ``tools/pretrain.sh`` -> backbone file."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    stored = content.get("meta", {}).get("provenance")
    if stored is None:
        raise ValueError(
            f"{checkpoint} carries no provenance; expected a checkpoint that `bash "
            "tools/pretrain.sh` wrote (WORK_DIR/epoch_N.pth)"
        )
    encoder = build_encoder(stored["encoder"])
    prefix = "encoder."
    tensors = {
        key.removeprefix(prefix): value
        for key, value in content["state_dict"].items()
        if key.startswith(prefix)
    }
    check_tensors(encoder.state_dict(), tensors, checkpoint)
    encoder.load_state_dict(tensors)
    return write_backbone(encoder, out, Provenance(**stored))


def import_torchvision(weights: str | Path, encoder_name: str, out: str | Path) -> Provenance:
    """torchvision's supervised ImageNet weights (``resnet50-19c8e357.pth``) -> backbone file."""
    content = torch.load(weights, map_location="cpu", weights_only=True)
    tensors = {key: value for key, value in content.items() if not key.startswith("fc.")}
    encoder = build_encoder(encoder_name)
    # Old files have no num_batches_tracked; nothing reads it while momentum is a constant.
    for key, value in encoder.state_dict().items():
        if key.endswith("num_batches_tracked"):
            tensors.setdefault(key, value)
    check_tensors(encoder.state_dict(), tensors, weights)
    encoder.load_state_dict(tensors)
    provenance = Provenance.from_elsewhere("supervised", encoder_name, dataset="imagenet1k")
    return write_backbone(encoder, out, provenance)


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
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{args.out}: {provenance.method} {provenance.encoder}, sha256 {provenance.weights_sha256}"
    )


if __name__ == "__main__":
    main()
