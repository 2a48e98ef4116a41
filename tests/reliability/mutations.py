"""How a valid file becomes a hostile one, by its kind.

All draws come from the ``Random`` that is passed in. Hypothesis passes its own
(``st.randoms(use_true_random=False)``), so that it can make an input small that fails.
"""

import copy
import csv
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
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
Odd = Mapping[Any, Sequence[Any]]  # by key or index: more values to put there


def canary() -> str:
    """The path that payloads make."""
    return os.environ.get(CANARY, "/nonexistent/canary")


class Payload:
    """Makes a folder when it is unpickled, which should never happen."""

    def __init__(self, path: object = None) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path or canary()),)


def hostile_file(random: Random, suffix: str, content: bytes, odd: Odd) -> bytes:
    """The content of a valid file, spoilt: its bytes, or what they say."""
    if suffix in (".png", ".jpg"):
        return hostile_picture(random)
    if suffix in (".pth", ".npz") and random.randrange(10) == 0:
        return payload_pickle(random)
    content = MUTATIONS[suffix](random, content, odd)
    if content[:2] == b"PK" and random.randrange(3) == 0:
        return hostile_archive(random, content)
    return hostile_bytes(random, content) if random.randrange(5) == 0 else content


# ---- values --------------------------------------------------------------------------------------


def odd_value(random: Random) -> Any:
    """A value that a reader may not have thought of."""
    nested: Any = random.choice(([], {}, [[]], {"": {}}, [None] * 3, {"a": [1]}, [1.5, "b"]))
    for _ in range(random.choice((0, 0, 0, 5, 90, 400))):
        nested = random.choice(([nested], {"k": nested}))
    other = random.choice((nested, None, True, False))
    return random.choice((random.choice(NUMBERS), random.choice((*TEXTS, LONG)), other))


def changed(random: Random, document: Any, odd: Odd, times: int = 1) -> Any:
    """A copy of a value with so many places changed, removed, swapped, renamed or repeated."""
    document = copy.deepcopy(document)
    for _ in range(times):
        if not isinstance(document, (dict, list)) or not document:
            return odd_value(random)
        holder, key = _place(random, document)
        change = random.randrange(10)
        if change < 6:
            holder[key] = _odd_at(random, key, holder[key], odd)
        elif change == 6:
            del holder[key]
        elif change == 7:
            other, place = _place(random, document)
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, dict):
            holder[random.choice((*TEXTS, str(key).upper()))] = holder.pop(key)
        else:
            holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    return document


def _place(random: Random, holder: Any) -> tuple[Any, Any]:
    """A container inside a value, and one of its keys: a random walk inwards."""
    while True:
        key = (
            random.choice(list(holder))
            if isinstance(holder, dict)
            else random.randrange(len(holder))
        )
        inner = holder[key]
        if not isinstance(inner, (dict, list)) or not inner or random.randrange(6) == 0:
            return holder, key
        holder = inner


def _odd_at(random: Random, key: Any, value: Any, odd: Odd) -> Any:
    """An odd value that suits what stands there."""
    if key in odd and random.randrange(4):
        return random.choice(odd[key])
    if isinstance(value, torch.Tensor) and random.randrange(2):
        return odd_tensor(random, value)
    if isinstance(value, str) and value[:1] == "{" and random.randrange(2):
        return hostile_json(random, value.encode(), odd).decode(errors="replace")
    return odd_value(random)


def odd_tensor(random: Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of another shape, type or layout, or with values that are no numbers."""
    odd = (
        tensor.new_zeros(()), tensor.new_zeros(0), tensor.double(), tensor.half(),
        tensor.bool(), tensor.flatten()[:1], tensor.unsqueeze(0), torch.full_like(tensor, 7),
        tensor.to(torch.complex64), tensor.float() * float("nan"), tensor.to("meta"),
        torch.zeros(1).expand(1 << 40), tensor.to(torch.bfloat16), tensor.flatten(),
    )  # fmt: skip
    return random.choice(odd)


# ---- kinds of files ------------------------------------------------------------------------------


def hostile_json(random: Random, content: bytes, odd: Odd) -> bytes:
    """A document with other values, or another text."""
    if random.randrange(5):
        times = random.choice((1, 1, 1, 2, 5))
        return json.dumps(changed(random, json.loads(content), odd, times)).encode()
    depth = random.choice((50, 1_000, 100_000))
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
    return random.choice(texts)


def hostile_lines(random: Random, content: bytes, odd: Odd) -> bytes:
    """A text with lines changed."""
    lines = changed(random, content.decode().splitlines(), odd, random.randrange(3))
    text = random.choice(("\n", "\r\n", "\r")).join(map(str, _as_list(lines)))
    return text.encode(errors="surrogatepass")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def hostile_csv(random: Random, content: bytes, odd: Odd) -> bytes:
    """A table with values or rows changed."""
    rows = changed(
        random, list(csv.reader(io.StringIO(content.decode()))), odd, random.randrange(4)
    )
    writer = csv.writer(out := io.StringIO(), escapechar="\\")
    writer.writerows(row if isinstance(row, list) else [row] for row in _as_list(rows))
    return out.getvalue().encode(errors="surrogatepass")


def hostile_checkpoint(random: Random, content: bytes, odd: Odd) -> bytes:
    """What torch saved with a value or a tensor changed, or one that holds itself."""
    found = torch.load(io.BytesIO(content), weights_only=True)
    how, out = random.randrange(10), io.BytesIO()
    if how == 0:
        knot: dict[str, Any] = {}
        knot["a"] = knot
        laughs: list[Any] = ["ha"] * 10
        for _ in range(30):
            laughs = [laughs] * 10  # 10^31 values
        found[random.choice(list(found))] = random.choice((knot, laughs))
    elif how == 1:
        found = random.choice((odd_value(random), {1: found}, {None: found}, {b"fc.": found}))
    else:
        found = changed(random, found, odd, random.choice((0, 1, 1, 3)))
    torch.save(found, out, _use_new_zipfile_serialization=random.randrange(5) > 0)
    return out.getvalue()


def hostile_safetensors(random: Random, content: bytes, odd: Odd) -> bytes:
    """A backbone file with another header, or a header of another length."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = header["__metadata__"]
    if random.randrange(2):
        header["__metadata__"] = changed(
            random, metadata, {**odd, **dict.fromkeys(metadata, ODD_JSON)}
        )
    else:
        header = changed(random, header, odd)
    text = json.dumps(header).encode()
    told = random.choice((0, 2**63, 2**64 - 1, 7, *[len(text)] * 40))
    return struct.pack("<Q", told) + text + content[8 + length :]


ODD_JSON = (
    *TEXTS,
    "[" * 100_000,
    "1" * 5_000,
    "{",
    "NaN",
    "{}",
    "[]",
    "-1",
    "1e400",
    '"a"',
    "null",
)


def hostile_arrays(random: Random, content: bytes, odd: Odd) -> bytes:
    """An archive of arrays with others in it, or with a header that promises more than there is."""
    arrays: dict[str, Any] = dict(np.load(io.BytesIO(content)))
    others = (
        np.array([]), np.array(0), np.full((6, 4), np.nan), np.ones((6, 4), complex),
        np.array(["x"]), np.array([[1, 2], [3, 4]]), np.array([Payload()], dtype=object),
        np.array([2**63], np.uint64), np.array(["2026"], "M8[Y]"), np.zeros((6, 0)),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), np.array([True] * 6),
    )  # fmt: skip
    for _ in range(random.randrange(3)):
        arrays[random.choice(list(arrays))] = random.choice(others)
        if random.randrange(10) == 0:
            del arrays[random.choice(list(arrays))]
    random.choice((np.savez, np.savez_compressed, np.savez))(out := io.BytesIO(), **arrays)
    if random.randrange(6):
        return out.getvalue()
    shape = random.choice((b"(2**40, 4)", b"(999999999999, 4)", b"(1000000000, 4)", b"(-1, 4)"))
    promising = io.BytesIO()
    with zipfile.ZipFile(out) as source, zipfile.ZipFile(promising, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            old = b"(6, 4), }" + b" " * (len(shape) - 6)
            target.writestr(name, data.replace(old, shape + b", }", 1))
    return promising.getvalue()


MUTATIONS = {
    ".json": hostile_json,
    ".txt": hostile_lines,
    ".csv": hostile_csv,
    ".pth": hostile_checkpoint,
    ".safetensors": hostile_safetensors,
    ".npz": hostile_arrays,
}


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
