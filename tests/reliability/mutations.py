"""How a valid input becomes a hostile one: changes of bytes, of JSON, of pictures and archives.

Every change is drawn from a ``random.Random``, so that one seed makes one input, and a property
test may hand in hypothesis' own (``strategies.randoms``) and have what fails made small.
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

from PIL import Image

CANARY = "HOSTILE_CANARY"  # names the file that every payload tries to make

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


class Payload:
    """Makes a file when it is unpickled. It never should be."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (canary(),)


def canary() -> str:
    """The path that payloads make; a harness names it, and looks whether it is there."""
    return os.environ.get(CANARY, "/nonexistent/canary")


# ---- JSON ----------------------------------------------------------------------------------------


def odd_value(random: Random) -> Any:
    """A value that a reader may not have thought of."""
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 6:
        return random.choice(TEXTS) if random.random() < 0.95 else LONG
    if kind == 6:
        return random.choice((None, True, False))
    nested: Any = random.choice(([], {}, [[]], {"": {}}, [None] * 3, {"a": [1]}, [1.5, "b"]))
    for _ in range(random.choice((0, 0, 0, 5, 90, 400))):
        nested = [nested] if random.random() < 0.5 else {"k": nested}
    return nested


def changed(random: Random, document: Any, times: int = 1) -> Any:
    """A copy of a JSON value with as many places changed: another value, less, more, swapped."""
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
            holder[random.choice(TEXTS) if change == 8 else str(key).upper()] = holder.pop(key)
        else:
            holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value; long lists by their first entries."""
    if not isinstance(value, (dict, list)):
        return []
    keys = value.keys() if isinstance(value, dict) else range(min(len(value), 8))
    found = [(value, key) for key in keys]
    for holder, key in list(found):
        found += _places(holder[key])
    return found


def hostile_json(random: Random, document: Any) -> bytes:
    """A document changed in its values, in its text, or in its bytes."""
    how = random.random()
    times = random.choice((1, 1, 1, 2, 5))
    content = json.dumps(changed(random, document, times) if how < 0.75 else document).encode()
    if 0.7 < how < 0.8:
        return _other_text(random, content)
    return content if how < 0.8 else hostile_bytes(random, content)


def _other_text(random: Random, content: bytes) -> bytes:
    depth = random.choice((50, 1_000, 100_000))
    return random.choice(
        (
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
        )
    )  # fmt: skip


# ---- bytes ---------------------------------------------------------------------------------------


def hostile_bytes(random: Random, content: bytes) -> bytes:
    """Bytes flipped, cut, repeated, inserted, or taken from elsewhere in the file."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        if random.random() < 0.5:
            at = min(at, random.randrange(400))  # headers decide
        length = random.choice((1, 1, 2, 4, 8, 64))
        piece = random.choice((b"\0", b"\xff", b"\x7f", b"\x80", random.randbytes(1))) * length
        change = random.randrange(6)
        if change < 3:
            data[at : at + length] = piece[: len(data[at : at + length])]
        elif change == 3:
            del data[at : random.choice((at + length, len(data)))]
        elif change == 4:
            data[at:at] = piece
        elif data:
            source = random.randrange(len(data))
            data[at : at + length] = data[source : source + length]
    return bytes(data)


# ---- pickles and archives ------------------------------------------------------------------------


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
    """A zip archive with an entry swapped for a payload, a bomb, rubbish, or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        names = source.namelist()
        chosen, change = random.choice([*names, names[0]]), random.randrange(6)
        with zipfile.ZipFile(out, "w") as target:
            for name in names:
                data = source.read(name)
                if name != chosen:
                    target.writestr(name, data)
                elif change == 0:
                    target.writestr(name, payload_pickle(random))
                elif change == 1:
                    target.writestr(name, bomb(random), zipfile.ZIP_DEFLATED)
                elif change == 2:
                    target.writestr(name, hostile_bytes(random, data))
                elif change == 3:
                    target.writestr("../" * 5 + name, data)
                elif change == 4:
                    target.writestr(name, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def bomb(random: Random) -> bytes:
    """Bytes that shrink a thousandfold; drawn seldom at their full size, for it takes a while."""
    return bytes((2 << 30) if random.random() < 0.005 else (4 << 20))


# ---- pictures ------------------------------------------------------------------------------------

MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr", "F", "I")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "ICO", "TGA", "EPS", "PDF")
ORIENTATION = 0x0112
PICKY = (OSError, ValueError, KeyError, TypeError, RuntimeError, struct.error)  # Pillow, in writing


def picture(random: Random, formats: tuple[str, ...] = FORMATS) -> bytes:
    """A small picture of any mode and format, perhaps with an orientation of its own."""
    size = random.choice(((1, 1), (1, 40), (33, 1), (3, 2), (32, 24), (64, 48), (17, 65)))
    mode = random.choice(MODES)
    image = Image.new(mode, size, random.randrange(2))
    image.paste(random.randrange(256), (0, 0, (size[0] + 1) // 2, (size[1] + 1) // 2))
    options: dict[str, Any] = {}
    if random.random() < 0.3:
        exif = Image.Exif()
        exif[ORIENTATION] = random.choice((1, 2, 3, 6, 8, 9, 70_000 % 2**16))
        options["exif"] = exif
    if mode == "P" and random.random() < 0.5:
        options["transparency"] = random.choice((0, b"\x00\x80"))
    if random.random() < 0.2:
        options["icc_profile"] = random.randbytes(64)
    for _ in range(8):
        out = io.BytesIO()
        try:
            image.save(out, random.choice(formats), **options)
            return out.getvalue()
        except PICKY:  # this mode in this format
            continue
    image.convert("RGB").save(out := io.BytesIO(), formats[0])
    return out.getvalue()


def hostile_picture(random: Random, formats: tuple[str, ...] = FORMATS) -> bytes:
    """A picture that is odd, broken, of a size that it lies about, or none at all."""
    change = random.randrange(12)
    if change < 4:
        return picture(random, formats)
    if change < 10:
        return hostile_bytes(random, picture(random, formats))
    sizes = ((60_000, 60_000), (1, 2**31 - 1), (2**31 - 1, 1), (0, 0), (9_400, 9_400), (1, 60_000))
    if change == 10:
        return png_of_size(*random.choice(sizes))
    return random.choice(
        (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"<svg onload='alert(1)'/>", b"%!PS-Adobe-3.0\n",
         payload_pickle(random), LONG.encode())
    )  # fmt: skip


def png_of_size(width: int, height: int, rows: int = 4) -> bytes:
    """A PNG whose header promises so many grey pixels, and that holds a few rows of zeros."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min(rows * (width + 1), 1 << 20)))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write(path: Path, content: bytes) -> Path:
    """Write a hostile file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
