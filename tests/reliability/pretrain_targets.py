"""The readers of pretrain/."""

import json
import struct
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import torch

from pretrain.backbone_file import Provenance, load_backbone, read_provenance, weights_sha256
from pretrain.encoders import build_encoder
from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.resume import checkpoint_to_resume
from pretrain.engine.run_folder import LAST
from pretrain.export import export_checkpoint, import_torchvision
from pretrain.images.image_lists import ImageList
from pretrain.images.labelled_images import LabelledImages
from pretrain.images.two_views import TwoViewImages
from pretrain.train import NAMES
from results.record.protocol import SUPERVISED
from tests.reliability.mutations import (
    TEXTS,
    canary,
    changed,
    hostile_bytes,
    hostile_checkpoint,
    hostile_json,
    hostile_picture,
    write,
)
from tests.reliability.targets import Read, Spoil, Target

ENCODER = "shufflenetv2_tiny"
CONFIG = {"model": {"type": "A", "units": ["a", "b"]}, "epochs": 3, "seed": 0}
PROVENANCE = {
    **asdict(Provenance.from_elsewhere("loco", ENCODER, "drawn", 0)),
    "epochs": 1, "settings": {"units": "loco"},
}  # fmt: skip


def backbone_file(folder: Path) -> tuple[Spoil, Read]:
    """Its header is JSON, its tensors are raw bytes."""
    encoder = build_encoder(ENCODER)
    tensors, body = encoder.state_dict(), b""
    entries: dict[str, Any] = {}
    for name, tensor in tensors.items():
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        start, body = len(body), body + tensor.numpy().tobytes()
        offsets = [start, len(body)]
        entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": offsets}
    valid = PROVENANCE | {"weights_sha256": weights_sha256(tensors)}

    def spoil(random: Random) -> Path:
        how = random.randrange(20)
        texts: Any = changed(random, valid, random.choice((0, 1, 1, 2)) if how < 10 else 0)
        if isinstance(texts, dict):
            texts = {key: json.dumps(value) for key, value in texts.items()}
            if texts and random.randrange(5) == 0:
                odd = (*TEXTS, "[" * 100_000, "1" * 5_000, "{", "NaN")
                texts[random.choice(list(texts))] = random.choice(odd)
        header = {"__metadata__": texts, **entries}
        if 10 <= how < 16:
            chosen = random.choice(list(header))
            header |= changed(random, {chosen: header[chosen]})
        if how == 19:
            header |= {f"extra{i}": texts for i in range(3)}
        text = json.dumps(header).encode()
        length = random.choice((0, 2**63, 2**64 - 1, 7, *[len(text)] * 60))
        content = struct.pack("<Q", length) + text + body
        content = hostile_bytes(random, content) if 16 <= how < 19 else content
        return write(folder / "backbone.safetensors", content)

    def read(path: Path) -> None:
        read_provenance(path)
        found = load_backbone(encoder, path)
        assert Provenance(**asdict(found)) == found
        assert [type(value) for value in found.mean + found.std] == [float] * 6

    return spoil, read


def pretraining_checkpoint(folder: Path) -> tuple[Spoil, Read]:
    """Exported to a backbone file, which then can be loaded."""
    tensors = build_encoder(ENCODER).state_dict()
    state = {f"encoder.{name}": tensor for name, tensor in tensors.items()}
    valid = {"provenance": PROVENANCE, "config_text": '{"train_cfg": {"max_epochs": 1}}'}

    def spoil(random: Random) -> Path:
        meta = changed(random, valid, random.choice((0, 1, 1, 3)))
        content = hostile_checkpoint(random, {"meta": meta, "state_dict": state})
        return write(folder / "epoch_1.pth", content)

    def read(path: Path) -> None:
        export_checkpoint(path, folder / "out.safetensors")
        load_backbone(build_encoder(ENCODER), folder / "out.safetensors")

    return spoil, read


def torchvision_weights(folder: Path) -> tuple[Spoil, Read]:
    """Imported to a backbone file, which then can be loaded."""
    state = dict(build_encoder(ENCODER).state_dict())

    def spoil(random: Random) -> Path:
        content: Any = state
        if random.randrange(10) == 0:
            content = {random.choice((1, None, ("a",), b"fc.")): state}
        return write(folder / "weights.pth", hostile_checkpoint(random, content))

    def read(path: Path) -> None:
        with patch.dict(SUPERVISED, {ENCODER: ""}):  # weights of any sha256
            import_torchvision(path, ENCODER, folder / "out.safetensors")
        load_backbone(build_encoder(ENCODER), folder / "out.safetensors")

    return spoil, read


def resumed_checkpoint(folder: Path) -> tuple[Spoil, Read]:
    """What --resume continues from, and the file that names it."""

    def spoil(random: Random) -> Path:
        meta: Any = {"iter": 5, "world_size": 1, "config_text": json.dumps(CONFIG)}
        if random.randrange(2):
            meta = changed(random, meta)
        elif random.randrange(5) < 3:
            meta["config_text"] = hostile_json(random, CONFIG).decode(errors="replace")
        content = {"meta": meta, "state_dict": {"a": torch.zeros(2)}}
        write(folder / "epoch_1.pth", hostile_checkpoint(random, content))
        odd = (b"", b"..", b"../../etc/passwd", b"\xff", b"\0", b"x" * 5_000)
        return write(folder / LAST, random.choice((*odd, *[b"epoch_1.pth"] * 24)))

    def read(path: Path) -> None:
        checkpoint_to_resume(folder, LAST, json.dumps(CONFIG, sort_keys=True), 1)

    return spoil, read


def list_of_images(folder: Path) -> tuple[Spoil, Read]:
    """A ``.txt`` file with an image a line: what it gives are files."""
    lines = ("images/a.jpg", "images/b c.png", "images/d.jpg")
    for name in lines:
        write(folder / name, b"1")
    (folder / "images/loop.jpg").symlink_to("loop.jpg")
    odd = (*TEXTS, "/dev/zero", "/dev/stdin", "images", "images/loop.jpg", "#", "a" * 5_000)

    def spoil(random: Random) -> Path:
        found = list(lines)
        for _ in range(random.randrange(3)):
            found.insert(random.randrange(4), random.choice(odd))
        content = random.choice(("\n", "\r\n", "\r")).join(found).encode(errors="surrogatepass")
        content = hostile_bytes(random, content) if random.randrange(5) < 2 else content
        return write(folder / "list.txt", content)

    def read(path: Path) -> None:
        found = ImageList.read(path)
        found.describe().encode(errors="surrogateescape")
        assert all(found.path(index).is_file() for index in range(len(found)))

    return spoil, read


def pretraining_image(folder: Path) -> tuple[Spoil, Read]:
    """Two views of one image, whose name need not tell its format."""

    def spoil(random: Random) -> Path:
        for path in folder.iterdir():
            path.unlink()
        names = ("a.jpg", "a.jpeg", "a.png", "a.webp", "a.bmp", "a.JPG")
        return write(folder / random.choice(names), hostile_picture(random)).parent

    def read(path: Path) -> None:
        images = TwoViewImages(str(path), "drawn", {"size": 16}, max_unreadable_share=0)
        views = images[0]["views"]
        assert views.shape == (2, 3, 16, 16) and views.dtype == torch.uint8

    return spoil, read


def labelled_image(folder: Path) -> tuple[Spoil, Read]:
    """An image of a class, cropped in the middle and at random."""

    def spoil(random: Random) -> Path:
        return write(folder / "train/a/x.png", hostile_picture(random))

    def read(path: Path) -> None:
        for augment in (False, True):
            image = LabelledImages(str(folder), "train", 16, 24, augment=augment)[0]["image"]
            assert image.shape == (3, 16, 16) and image.dtype == torch.uint8

    return spoil, read


OPTIONS = (
    "epochs=3", "epochs=x", "epocs=3", "seed=[1,2", "seed=(1", "seed=" + "[" * 2_000,
    "model.type=__import__('os').mkdir('{canary}')", "seed={canary}", "model.unit=1", "model=1",
    "model.type.x=1", "model.units.0=x", "model.units.7=x", "model.units.a=x", "=1", "a", "",
    "model._delete_=True", "_base_=x", "model.=1", ".model=1", "model..type=1", "seed=1e999",
    "seed=" + "9" * 5_000, "seed=nan", "custom_imports.imports=os", "epochs=\ud800", "epochs=\0",
    "seed=exec('1')", "__class__=1", "model.__class__=1", "keys=1", "model.keys=1", "copy.x=1",
    "model.units=[a,b]", "seed=((1,2),[3])", "model={type:B}", "model={'type':'B'}", "seed=,",
)  # fmt: skip


def config_options(folder: Path) -> tuple[Spoil, Read]:
    """--cfg-options: a name is taken or refused, and no value is ever run."""
    text = "".join(f"{key} = {value!r}\n" for key, value in CONFIG.items())
    options: list[str] = []

    def spoil(random: Random) -> Path:
        chosen = [random.choice(OPTIONS) for _ in range(random.choice((1, 1, 2)))]
        options[:] = [option.replace("{canary}", canary()) for option in chosen]
        if random.randrange(3) == 0:
            at = random.randrange(len(options[0]) + 1)
            odd = random.choice("[](){},.=' \"_\\\0")
            options[0] = options[0][:at] + odd + options[0][at:]
        return write(folder / "config.py", text.encode())

    def read(path: Path) -> None:
        parsed = argument_parser("x").parse_args([str(path), "--cfg-options", *options])
        load_config(parsed, NAMES)

    return spoil, read


TARGETS: dict[str, Target] = {
    "backbone file": backbone_file,
    "pretraining checkpoint": pretraining_checkpoint,
    "torchvision weights": torchvision_weights,
    "resumed checkpoint": resumed_checkpoint,
    "list of images": list_of_images,
    "pretraining image": pretraining_image,
    "labelled image": labelled_image,
    "config options": config_options,
}
