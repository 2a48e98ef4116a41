"""How a valid file becomes a hostile one: changes of bytes, JSON, archives and pictures.

All draws come from the ``Random`` that is passed in. Hypothesis passes its own
(``st.randoms(use_true_random=False)``), so that it can make an input small that fails.
"""

import copy
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

CANARY = "HOSTILE_CANARY"  # environment variable: the folder that every payload tries to make
LONG = "x" * 20_000
TEXTS = (
    "", " ", "\0", "\ud800", "\x1b[31m", "é" * 300, "<script>alert(1)</script>", "=1+1", "@SUM(A1)",
    "../../x", "/etc/passwd", "~", "NaN", "1e400", "__class__", "{0.__class__}", "%s%n", "\u202e",
    "\\input{/etc/passwd}", "a\nb\r\nc", "nul", "resnet50", "0" * 64, "'; DROP TABLE runs; --",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 255, 2**31, -(2**31), 2**53 + 1, 2**63, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def canary() -> str:
    """The path that payloads make."""
    return os.environ.get(CANARY, "/nonexistent/canary")


class Payload:
    """Makes a folder when it is unpickled, which should never happen."""

    def __init__(self, path: object = None) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path or canary()),)


def write(path: Path, content: bytes) -> Path:
    """Write a hostile file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- JSON ----------------------------------------------------------------------------------------


def odd_value(random: Random) -> Any:
    """A value that a reader may not have thought of."""
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 6:
        return random.choice((*TEXTS, LONG))
    if kind == 6:
        return random.choice((None, True, False))
    nested: Any = random.choice(([], {}, [[]], {"": {}}, [None] * 3, {"a": [1]}, [1.5, "b"]))
    for _ in range(random.choice((0, 0, 0, 5, 90, 400))):
        nested = random.choice(([nested], {"k": nested}))
    return nested


def changed(random: Random, document: Any, times: int = 1) -> Any:
    """A copy of a JSON value with so many places changed, removed, swapped, renamed or repeated."""
    document = copy.deepcopy(document)
    for _ in range(times):
        places = _places(document)
        if not places:
            return odd_value(random)
        holder, key = random.choice(places)
        change = random.randrange(10)
        if change < 6:
            holder[key] = odd_value(random)
        elif change == 6:
            del holder[key]
        elif change == 7:
            other, place = random.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, dict):
            holder[random.choice((*TEXTS, str(key).upper()))] = holder.pop(key)
        else:
            holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value; long lists by their first entries."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 8))
    return [(value, key) for key in keys] + [p for key in keys for p in _places(value[key])]


def hostile_json(random: Random, document: Any) -> bytes:
    """A document changed in its values, its text or its bytes."""
    how, depth = random.randrange(20), random.choice((50, 1_000, 100_000))
    times = random.choice((1, 1, 1, 2, 5)) if how < 15 else 0
    content = json.dumps(changed(random, document, times)).encode()
    if how >= 16:
        return hostile_bytes(random, content)
    texts = (
        b"\xef\xbb\xbf" + content,  # a byte order mark
        content.decode().encode("utf-16"),
        content.replace(b"{", b'{"seed": 1, "seed": 2, ', 1),
        content.replace(b": ", b": " + b"[" * depth, 1),
        b"[" * depth + b"]" * depth,
        b'{"a":' * depth + b"1" + b"}" * depth,
        content.replace(b"1", b"1" * 5_000, 1),
        content.replace(b"1", b"1e999", 1),
        content.replace(b"a", b"\xff\xfe", 1),
        content + content,
        content.replace(b'"', b"'"),
        b"null", b"0", b'""', b"[]", b"{}", b"", b" ", b"\0" * 50,
    )  # fmt: skip
    return random.choice(texts) if how >= 14 else content


# ---- bytes, pickles and archives -----------------------------------------------------------------


def hostile_bytes(random: Random, content: bytes) -> bytes:
    """Bytes replaced, cut, inserted, or copied from elsewhere in the file."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        if random.randrange(2):
            at = min(at, random.randrange(400))  # headers decide
        length = random.choice((1, 1, 2, 4, 8, 64))
        piece = random.choice((b"\0", b"\xff", b"\x7f", b"\x80", random.randbytes(1))) * length
        change = random.randrange(6)
        if change < 3:
            data[at : at + length] = piece[: len(data[at : at + length])]
        elif change == 3:
            del data[at : random.choice((at + length, len(data)))]
        elif change == 4 or not data:
            data[at:at] = piece
        else:
            source = random.randrange(len(data))
            data[at : at + length] = data[source : source + length]
    return bytes(data)


def payload_pickle(random: Random) -> bytes:
    """A pickle that runs something where it is unpickled without care."""
    return random.choice(
        (
            pickle.dumps(Payload(), protocol=random.choice((0, 2, 4))),
            pickle.dumps({"meta": Payload(), "state_dict": {}}, protocol=2),
            b"cposix\nmkdir\n(V" + canary().encode() + b"\ntR.",
            b"c__builtin__\nexec\n(Vimport os; os.mkdir(" + repr(canary()).encode() + b")\ntR.",
        )
    )


def hostile_archive(random: Random, content: bytes) -> bytes:
    """A zip archive with an entry replaced by a payload, a bomb or rubbish, packed or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        chosen, change = random.choice([*names, names[0]]), random.randrange(6)
        for name in names:
            data = source.read(name)
            if name != chosen:
                target.writestr(name, data)
            elif change == 0:
                target.writestr(name, payload_pickle(random))
            elif change == 1:  # a bomb; seldom a large one, for it takes a while
                size = (2 << 30) if random.randrange(200) == 199 else (4 << 20)
                target.writestr(name, bytes(size), zipfile.ZIP_DEFLATED)
            elif change == 2:
                target.writestr(name, hostile_bytes(random, data))
            elif change == 3:
                target.writestr("../" * 5 + name, data)
            elif change == 4:
                target.writestr(name, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def hostile_checkpoint(random: Random, content: Any) -> bytes:
    """``content`` as torch saves it: changed in a value or a tensor, spoilt, or a payload."""
    how, out = random.randrange(20), io.BytesIO()
    if how < 2:
        return payload_pickle(random)
    if how < 4:
        content = odd_value(random)
    elif how < 6:  # a value that holds itself, and one of 10^31 values
        knot: dict[str, Any] = {}
        knot["a"] = knot
        laughs: list[Any] = ["ha"] * 10
        for _ in range(30):
            laughs = [laughs] * 10
        content = {**content, random.choice(list(content)): random.choice((knot, laughs))}
    elif how < 12:
        tensors = dict(content.get("state_dict") or content)
        name = random.choice(list(tensors))
        odd = odd_tensor(random, tensors[name]) if torch.is_tensor(tensors[name]) else None
        tensors[name] = random.choice((odd, odd_value(random)))
        content = {**content, "state_dict": tensors} if content.get("state_dict") else tensors
    torch.save(content, out, _use_new_zipfile_serialization=random.randrange(5) > 0)
    data = out.getvalue()
    if how in (12, 13, 14):
        return hostile_bytes(random, data)
    return hostile_archive(random, data) if how > 15 and data[:2] == b"PK" else data


def odd_tensor(random: Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of another shape, type or layout, or with values that are no numbers."""
    odd = (
        tensor.new_zeros(()), tensor.new_zeros(0), tensor.double(), tensor.half(),
        tensor.bool(), tensor.flatten()[:1], tensor.unsqueeze(0), torch.full_like(tensor, 7),
        tensor.to(torch.complex64), tensor.float() * float("nan"), tensor.to("meta"),
        torch.zeros(1).expand(1 << 40), tensor.to(torch.bfloat16), tensor.flatten(),
    )  # fmt: skip
    return random.choice(odd)


# ---- pictures ------------------------------------------------------------------------------------

MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr", "F", "I")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "ICO", "TGA", "EPS", "PDF")
PICKY = (OSError, ValueError, KeyError, TypeError, RuntimeError, struct.error)  # Pillow's, writing


def picture(random: Random) -> bytes:
    """A small picture of any mode and format, perhaps turned by EXIF, transparent, with ICC."""
    size = random.choice(((1, 1), (1, 40), (33, 1), (3, 2), (32, 24), (64, 48), (17, 65)))
    image = Image.new(random.choice(MODES), size, random.randrange(2))
    image.paste(random.randrange(256), (0, 0, (size[0] + 1) // 2, (size[1] + 1) // 2))
    options: dict[str, Any] = {}
    if random.randrange(3) == 0:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = random.choice((1, 2, 3, 6, 8, 9, 4464))  # orientation
    if image.mode == "P" and random.randrange(2):
        options["transparency"] = random.choice((0, b"\x00\x80"))
    if random.randrange(5) == 0:
        options["icc_profile"] = random.randbytes(64)
    out = io.BytesIO()
    try:
        image.save(out, random.choice(FORMATS), **options)
    except PICKY:  # this mode in this format
        image.convert("RGB").save(out := io.BytesIO(), "PNG")
    return out.getvalue()


def hostile_picture(random: Random) -> bytes:
    """A picture that is odd, broken, of a size that it lies about, or none at all."""
    change = random.randrange(12)
    if change < 10:
        content = picture(random)
        return content if change < 4 else hostile_bytes(random, content)
    sizes = ((60_000, 60_000), (1, 2**31 - 1), (2**31 - 1, 1), (0, 0), (9_400, 9_400), (1, 60_000))
    none = (
        b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"<svg onload='alert(1)'/>", b"%!PS-Adobe-3.0\n",
        payload_pickle(random), LONG.encode(),
    )  # fmt: skip
    return png_of_size(*random.choice(sizes)) if change == 10 else random.choice(none)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises so many grey pixels, and that holds a few rows of zeros."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min(4 * (width + 1), 1 << 20)))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
