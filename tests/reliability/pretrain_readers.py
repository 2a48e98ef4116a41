"""The readers of pretrain/, each with a valid input and a way to spoil it."""

import io
import json
import struct
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import torch

from pretrain.encoders import build_encoder
from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.resume import LAST, checkpoint_to_resume
from pretrain.export import (
    Provenance,
    export_checkpoint,
    import_torchvision,
    load_backbone,
    read_provenance,
    weights_sha256,
)
from pretrain.images.image_lists import ImageList
from pretrain.images.labelled_images import LabelledImages
from pretrain.images.two_views import TwoViewImages
from pretrain.train import NAMES
from results.record.protocol import SUPERVISED
from tests.reliability.mutations import (
    TEXTS,
    changed,
    hostile_archive,
    hostile_bytes,
    hostile_json,
    hostile_picture,
    odd_value,
    payload_pickle,
    write,
)

ENCODER = "shufflenetv2_tiny"
CONFIG = {"model": {"type": "A", "units": ["a", "b"]}, "epochs": 3, "seed": 0}


def provenance() -> dict[str, Any]:
    """Of a pretraining with LoCo."""
    found = asdict(Provenance.from_elsewhere("loco", ENCODER, "drawn", 0))
    return {**found, "epochs": 1, "settings": {"units": "loco"}}


def odd_tensor(random: Random, tensor: torch.Tensor) -> torch.Tensor:
    """One of another shape, type or kind, or with numbers that are none."""
    return random.choice(
        (
            tensor.new_zeros(()), tensor.new_zeros(0), tensor.double(), tensor.half(),
            tensor.bool(), tensor.flatten()[:1], tensor.unsqueeze(0), torch.full_like(tensor, 7),
            tensor.to(torch.complex64), tensor.float() * float("nan"), tensor.to("meta"),
            torch.zeros(1).expand(1 << 40), tensor.to(torch.bfloat16), tensor.flatten(),
        )
    )  # fmt: skip


class BackboneFile:
    """A backbone file; its header is JSON, its tensors are raw bytes."""

    share = 12.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "backbone.safetensors"
        self.encoder = build_encoder(ENCODER)
        tensors = self.encoder.state_dict()
        self.header: dict[str, Any] = {
            "__metadata__": provenance() | {"weights_sha256": weights_sha256(tensors)}
        }
        body, names = bytearray(), {torch.float32: "F32", torch.int64: "I64"}
        for name, tensor in tensors.items():
            data = tensor.numpy().tobytes()
            place = [len(body), len(body) + len(data)]
            shape = list(tensor.shape)
            entry = {"dtype": names[tensor.dtype], "shape": shape, "data_offsets": place}
            self.header[name] = entry
            body += data
        self.body = bytes(body)

    def spoil(self, random: Random) -> Path:
        header, how = dict(self.header), random.random()
        metadata = header["__metadata__"]
        if how < 0.5:
            metadata = changed(random, metadata, random.choice((0, 1, 1, 2)))
        texts = metadata
        if isinstance(metadata, dict):
            texts = {key: json.dumps(value) for key, value in metadata.items()}
            if texts and random.random() < 0.2:
                name = random.choice(list(texts))
                texts[name] = random.choice((*TEXTS, "[" * 100_000, "1" * 5_000, "{", "NaN"))
        header["__metadata__"] = texts
        if 0.5 < how < 0.8:
            chosen = random.choice(list(header))
            header |= changed(random, {chosen: header[chosen]})
        if how > 0.95:
            header |= {f"extra{i}": header["__metadata__"] for i in range(3)}
        text = json.dumps(header).encode()
        length = len(text) if random.random() < 0.95 else random.choice((0, 2**63, 2**64 - 1, 7))
        content = struct.pack("<Q", length) + text + self.body
        if 0.8 < how < 0.95:
            content = hostile_bytes(random, content)
        return write(self.file, content)

    def read(self, path: Path) -> None:
        read_provenance(path)
        found = load_backbone(self.encoder, path)
        assert Provenance(**asdict(found)) == found
        assert [type(value) for value in found.mean + found.std] == [float] * 6


def saved(random: Random, content: Any) -> bytes:
    """``content`` as a checkpoint: sound, old, spoilt, or no checkpoint."""
    out, how = io.BytesIO(), random.random()
    if how < 0.1:
        return payload_pickle(random)
    torch.save(content, out, _use_new_zipfile_serialization=random.random() < 0.8)
    data = out.getvalue()
    if how < 0.3:
        return hostile_bytes(random, data)
    return hostile_archive(random, data) if how < 0.5 and data[:2] == b"PK" else data


def odd_content(random: Random, content: dict[str, Any]) -> Any:
    """Other tensors, other values, other kinds of things; perhaps a value that holds itself."""
    how = random.random()
    if how < 0.1:
        return odd_value(random)
    if how < 0.2:
        knot: dict[str, Any] = {}
        knot["a"] = knot
        laughs: list[Any] = ["ha"] * 10
        for _ in range(30):
            laughs = [laughs] * 10
        content = {**content, random.choice(list(content)): random.choice((knot, laughs))}
    elif how < 0.6 and content.get("state_dict"):
        tensors = dict(content["state_dict"])
        name = random.choice(list(tensors))
        tensors[name] = random.choice((odd_tensor(random, tensors[name]), odd_value(random)))
        content = {**content, "state_dict": tensors}
    return content


class PretrainingCheckpoint:
    """A checkpoint of a pretraining, made into a backbone file."""

    share = 1.5

    def __init__(self, folder: Path) -> None:
        self.file, self.out = folder / "epoch_1.pth", folder / "out.safetensors"
        state = build_encoder(ENCODER).state_dict()
        self.state = {f"encoder.{name}": tensor for name, tensor in state.items()}

    def spoil(self, random: Random) -> Path:
        told = {"provenance": provenance(), "config_text": '{"train_cfg": {"max_epochs": 1}}'}
        meta = changed(random, told, random.choice((0, 1, 1, 3)))
        content = {"meta": meta, "state_dict": self.state}
        return write(self.file, saved(random, odd_content(random, content)))

    def read(self, path: Path) -> None:
        export_checkpoint(path, self.out)
        load_backbone(build_encoder(ENCODER), self.out)


class TorchvisionWeights:
    """torchvision's weights, made into a backbone file."""

    share = 1.5

    def __init__(self, folder: Path) -> None:
        self.file, self.out = folder / "weights.pth", folder / "out.safetensors"
        SUPERVISED[ENCODER] = ""  # of any sha256
        self.state = dict(build_encoder(ENCODER).state_dict())

    def spoil(self, random: Random) -> Path:
        content: Any = dict(self.state)
        if random.random() < 0.6:
            name = random.choice(list(content))
            content[name] = random.choice((odd_tensor(random, content[name]), odd_value(random)))
        if random.random() < 0.1:
            content = {random.choice((1, None, ("a",), b"fc.")): content}
        return write(self.file, saved(random, odd_content(random, content)))

    def read(self, path: Path) -> None:
        import_torchvision(path, ENCODER, self.out)
        load_backbone(build_encoder(ENCODER), self.out)


class ResumedCheckpoint:
    """What ``--resume`` continues from."""

    share = 2.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spoil(self, random: Random) -> Path:
        for path in self.folder.iterdir():
            path.unlink()
        meta: Any = {"iter": 5, "world_size": 1, "config_text": json.dumps(CONFIG)}
        if random.random() < 0.5:
            meta = changed(random, meta)
        elif random.random() < 0.6:
            meta["config_text"] = hostile_json(random, CONFIG).decode(errors="replace")
        content = {"meta": meta, "state_dict": {"a": torch.zeros(2)}}
        name = "epoch_1.pth"
        write(self.folder / name, saved(random, odd_content(random, content)))
        named = name.encode()
        if random.random() < 0.2:
            named = random.choice((b"", b"..", b"../../etc/passwd", b"\xff", b"\0", b"x" * 5_000))
        return write(self.folder / LAST, named)

    def read(self, path: Path) -> None:
        checkpoint_to_resume(self.folder, LAST, json.dumps(CONFIG, sort_keys=True), 1)


class ListOfImages:
    """A ``.txt`` file that lists images."""

    share = 4.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "list.txt"
        for name in ("a.jpg", "b c.png", "d.jpg"):
            write(folder / "images" / name, b"1")
        (folder / "images" / "loop.jpg").symlink_to("loop.jpg")

    def spoil(self, random: Random) -> Path:
        lines = [f"images/{name}" for name in ("a.jpg", "b c.png", "d.jpg")]
        odd = (*TEXTS, "/dev/zero", "/dev/stdin", "images", "images/loop.jpg", "#", "a" * 5_000)
        for _ in range(random.randrange(3)):
            lines.insert(random.randrange(4), random.choice(odd))
        content = random.choice(("\n", "\r\n", "\r")).join(lines).encode(errors="surrogatepass")
        content = hostile_bytes(random, content) if random.random() < 0.4 else content
        return write(self.file, content)

    def read(self, path: Path) -> None:
        found = ImageList.read(path)
        found.describe().encode(errors="surrogateescape")
        assert all(found.path(index).is_file() for index in range(len(found)))


class PretrainingImage:
    """An image as two views."""

    share = 10.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spoil(self, random: Random) -> Path:
        for path in self.folder.iterdir():
            path.unlink()
        name = random.choice(("a.jpg", "a.jpeg", "a.png", "a.webp", "a.bmp", "a.JPG"))
        write(self.folder / name, hostile_picture(random))
        return self.folder

    def read(self, path: Path) -> None:
        images = TwoViewImages(str(path), "drawn", {"size": 16}, max_unreadable_share=0)
        views = images[0]["views"]
        assert views.shape == (2, 3, 16, 16) and views.dtype == torch.uint8


class LabelledImage:
    """An image with a label, whole or cropped at random."""

    share = 3.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "train" / "a").mkdir(parents=True)

    def spoil(self, random: Random) -> Path:
        self.augment = random.random() < 0.5
        return write(self.folder / "train" / "a" / "x.png", hostile_picture(random))

    def read(self, path: Path) -> None:
        images = LabelledImages(str(self.folder), "train", 16, 24, augment=self.augment)
        image = images[0]["image"]
        assert image.shape == (3, 16, 16) and image.dtype == torch.uint8


OPTIONS = (
    "epochs=3", "epochs=x", "epocs=3", "seed=[1,2", "seed=(1", "seed=" + "[" * 2_000,
    "model.type=__import__('os').mkdir('{canary}')", "seed={canary}", "model.unit=1", "model=1",
    "model.type.x=1", "model.units.0=x", "model.units.7=x", "model.units.a=x", "=1", "a", "",
    "model._delete_=True", "_base_=x", "model.=1", ".model=1", "model..type=1", "seed=1e999",
    "seed=" + "9" * 5_000, "seed=nan", "custom_imports.imports=os", "epochs=\ud800", "epochs=\0",
    "seed=exec('1')", "__class__=1", "model.__class__=1", "keys=1", "model.keys=1", "copy.x=1",
    "model.units=[a,b]", "seed=((1,2),[3])", "model={type:B}", "model={'type':'B'}", "seed=,",
)  # fmt: skip


class ConfigOptions:
    """``--cfg-options``: a name is taken or refused, and no value is ever run."""

    share = 3.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.py"
        write(self.file, "".join(f"{key} = {value!r}\n" for key, value in CONFIG.items()).encode())

    def spoil(self, random: Random) -> Path:
        from tests.reliability.mutations import canary

        chosen = [random.choice(OPTIONS) for _ in range(random.choice((1, 1, 2)))]
        self.options = [option.replace("{canary}", canary()) for option in chosen]
        if random.random() < 0.3:
            option = list(self.options[0])
            option.insert(random.randrange(len(option) + 1), random.choice("[](){},.=' \"_\\\0"))
            self.options[0] = "".join(option)
        return self.file

    def read(self, path: Path) -> None:
        parsed = argument_parser("x").parse_args([str(path), "--cfg-options", *self.options])
        load_config(parsed, NAMES)


READERS = {
    "backbone file": BackboneFile,
    "pretraining checkpoint": PretrainingCheckpoint,
    "torchvision weights": TorchvisionWeights,
    "resumed checkpoint": ResumedCheckpoint,
    "list of images": ListOfImages,
    "pretraining image": PretrainingImage,
    "labelled image": LabelledImage,
    "config options": ConfigOptions,
}
