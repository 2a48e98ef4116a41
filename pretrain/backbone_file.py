"""The backbone file: an encoder's tensors with their provenance, and its strict reader.

The only thing that crosses from pretraining to transfer. It is a safetensors file, so reading it
runs no code. The tensors carry torchvision's names; the metadata holds one JSON object a key of
:class:`Provenance`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pretrain.encoders import Encoder
from pretrain.engine.file_kinds import other_kind
from results.record.files import write_atomically
from results.record.plain_json import plain
from results.record.protocol import is_published
from results.record.text import MAX_TEXT, some_of

FORMAT = "loco-transfer backbone"
FORMAT_VERSION = 3  # 1 had no settings, 2 no source_sha256
MAX_FAULTS = 50  # tensors named in an error
MAX_DEVIATIONS = 100  # of a pretraining; a run record has to hold them
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
    source_sha256: str = ""  # of the file that somebody else published; "": ours
    settings: dict[str, Any] = field(default_factory=dict)  # units, decoder, ...; {}: not known
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(cls, values: Mapping[str, Any], path: str | Path) -> "Provenance":
        """From the values that a file holds, each of its kind.

        Raises:
            ValueError: a key is missing or unknown, or a value is of another kind; names the file.
        """
        names = {each.name for each in fields(cls)}
        if odd := sorted(names ^ values.keys(), key=str):
            raise ValueError(f"{path}: provenance with other keys than ours: {some_of(odd)}")
        for name, (fits, expected) in _KINDS.items():
            if not fits(values[name]):
                raise ValueError(
                    f"{path}: {name} in its provenance is a {type(values[name]).__name__} that is "
                    f"not {expected}; export or copy the file again"
                )
        lists = {name: tuple(values[name]) for name in ("deviations", "mean", "std")}
        return cls(**{**values, **lists})

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
        try:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, RuntimeError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} holds a tensor of a kind that cannot be read ({str(error)[:300]}); "
                "export it again"
            ) from error
    if provenance.encoder != encoder.name:
        raise ValueError(
            f"{path} holds the weights of {provenance.encoder}, but the config asks for "
            f"{encoder.name}; name a file of that encoder"
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
    """Compare names, shapes and types of numbers.

    Raises:
        ValueError: lists every tensor that is missing, unexpected, misshapen or of another type.
    """
    faults = [f"missing: {key}" for key in expected if key not in found]
    faults += [f"unexpected: {some_of([key])}" for key in found if key not in expected]
    faults += [
        f"type of {key}: found {found[key].dtype}, expected {tensor.dtype}"
        for key, tensor in expected.items()
        if key in found and found[key].dtype != tensor.dtype
    ]
    faults += [
        f"shape of {key}: found {tuple(found[key].shape)}, expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise ValueError(
            f"the tensors in {path} are not this encoder's; nothing was loaded:\n  "
            + "\n  ".join(faults[:MAX_FAULTS] + more)
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
            "(`bash tools/pretrain.sh CONFIG`, then WORK_DIR/backbone.safetensors)"
        )
    kind = other_kind(path) or "a file of torch.save"
    if kind not in ("a safetensors file", "an empty file", "of an unknown kind"):
        raise ValueError(
            f"{path} is {kind}; expected a backbone file. `python -m pretrain.export checkpoint "
            "WORK_DIR/epoch_N.pth --out FILE` makes one"
        )
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is no readable backbone file ({str(error)[:300]}); it is cut "
            "short or of another format. Export or copy it again"
        ) from error


def _parse(metadata: Mapping[str, str] | None, path: str | Path) -> Provenance:
    metadata = metadata or {}
    names = {each.name for each in fields(Provenance)}
    if (version := metadata.get("format_version")) in ("1", "2"):
        settings = {"settings": "{}"} if version == "1" else {}
        metadata = {**metadata, **settings, "source_sha256": '""'}
    missing = sorted(names - metadata.keys())
    if missing:
        raise ValueError(
            f"{path} is a safetensors file without provenance ({', '.join(missing)} missing), so "
            "no result could be tied to it. Make a backbone file with `python -m pretrain.export`"
        )
    try:
        values = {key: json.loads(metadata[key]) for key in names}
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: its provenance is no JSON ({error}); export or copy it again"
        ) from error
    if values["format"] != FORMAT or values["format_version"] not in (1, 2, 3):
        found = [f"{values['format']} version {values['format_version']}"]
        raise ValueError(
            f"{path} is {some_of(found)}; "
            f"this release reads '{FORMAT}' up to version {FORMAT_VERSION}"
        )
    provenance = Provenance.of(values, path)
    source = provenance.source_sha256
    if provenance.method == "supervised" and not is_published(provenance.encoder, source):
        raise ValueError(
            f"{path} says that it is supervised, but not that it was made from a file that "
            "torchvision published; make it again: `python -m pretrain.export torchvision "
            f"resnet50-19c8e357.pth --out {path}`"
        )
    return provenance


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_colour(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(type(number) in (int, float) and 0 <= number <= 1 for number in value)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= MAX_TEXT


def _is_texts(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_DEVIATIONS:
        return False
    return all(map(_is_text, value))


def _is_json(value: object) -> bool:
    try:
        plain("settings", value)  # as a run record will
        return isinstance(value, dict) and len(json.dumps(value, allow_nan=False)) <= MAX_TEXT
    except (TypeError, ValueError, RecursionError):
        return False


_TEXT = (_is_text, "a printable text")
_NUMBER = (lambda value: value is None or _is_whole(value), "a whole number or None")
_COLOUR = (_is_colour, "three numbers in 0..1, of red, green and blue")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # of a provenance's values
    **dict.fromkeys(("method", "encoder", "dataset", "dataset_fingerprint", "format"), _TEXT),
    **dict.fromkeys(("config_hash", "git_commit", "weights_sha256", "source_sha256"), _TEXT),
    **dict.fromkeys(("epochs", "seed", "format_version"), _NUMBER),
    **dict.fromkeys(("mean", "std"), _COLOUR),
    "deviations": (_is_texts, "a list of printable texts"),
    "settings": (_is_json, "an object of plain JSON"),
}
