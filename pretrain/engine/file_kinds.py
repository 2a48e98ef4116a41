"""What a file is, in words for an error, told from its bytes; nothing in it is run or unpickled."""

import re
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

READ_BYTES = 1 << 20  # a checkpoint says at its beginning who wrote it
UNREADABLE = (  # what zipfile raises
    OSError, ValueError, RuntimeError, EOFError, LookupError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
PROGRAMS = {  # what a checkpoint calls the version of the program that wrote it
    "mmdet_version": "mmdetection",
    "mmcv_version": "mmcv",
    "mmengine_version": "mmengine",
    "pytorch-lightning_version": "Lightning",
}


def other_kind(path: Path, takes_old: bool = True) -> str | None:
    """What a file is that torch.save did not write, such as "a safetensors file"; else None.

    Args:
        path: of the file.
        takes_old: whether torch's old format, before 1.6, is none of these.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "an empty file"
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = {Path(name).name for name in archive.namelist()}
        except UNREADABLE:  # cut short
            return None
        if "data.pkl" not in inside:
            return "a zip archive that torch.save did not write"
        return "a TorchScript archive" if "constants.pkl" in inside else None
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 10**8:  # of its header
        return "a safetensors file"
    if head.startswith(b"\x80\x02"):
        return None if takes_old else f"{foreign(path)}, in torch's old format"
    start = head.decode(errors="ignore")
    if all(letter.isprintable() or letter.isspace() for letter in start[:100]):
        return f"a text that begins with {start[:40]!a}"
    return "of an unknown kind"


def foreign(path: Path) -> str:
    """What a file is that torch.save wrote, but no run of this project."""
    author = program_of(path)
    if author:
        return f"a checkpoint of {author} that this project did not write"
    return "no checkpoint that this project wrote"


def program_of(path: Path) -> str:
    """Who says in a checkpoint to have written it, such as "mmengine 0.10.7"; "" if nobody."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if Path(name).name == "data.pkl"]
            with archive.open(pickles[0]) as file:
                content = file.read(READ_BYTES)
    except UNREADABLE:  # damaged, or torch's old format
        with path.open("rb") as whole:
            content = whole.read(READ_BYTES)
    texts = _texts(content)
    found = ["mmdetection"] if any("default_scope = 'mmdet'" in text for text in texts) else []
    for name, version in pairwise(texts):
        # mmengine puts the commit of the folder that it was started in behind its version
        known = re.fullmatch(r"([\w.+]{1,20}?)([0-9a-f]{40}|unknown)?", version)
        if known and name in PROGRAMS:
            found += [f"{PROGRAMS[name]} {known[1]}"]
    return ", ".join(found)


def _texts(pickled: bytes) -> list[str]:
    """The texts in a pickle, in order: each stands behind an X and its length."""
    found = re.finditer(rb"X(..\0\0)", pickled, re.DOTALL)
    places = ((text.end(), int.from_bytes(text[1], "little")) for text in found)
    return [pickled[start : start + length].decode(errors="ignore") for start, length in places]
