"""What a protocol states against what a run did."""

import hashlib
from collections.abc import Mapping
from typing import Any

MAX_VALUE = 300  # characters of a value; a footnote below a table has to hold it

# The files of torchvision that the supervised rows take, by the first digits of their sha256, which
# stand in their names: resnet50-19c8e357.pth.
SUPERVISED = {"resnet50": "19c8e357"}


def is_published(encoder: object, sha256: object) -> bool:
    """Whether a file of this sha256 has torchvision's supervised weights of an encoder."""
    known = SUPERVISED.get(encoder) if isinstance(encoder, str) else None
    return known is not None and isinstance(sha256, str) and sha256.startswith(known)


def deviations(stated: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """In words, every point in which a run differs from its protocol.

    Args:
        stated: the protocol's values; a tuple or list means that any of its members will do.
        found: the run's values, for the same keys at least.

    Returns:
        For example ``("max_epochs: 1 instead of 12",)``; empty when the run kept to the protocol.
        A long value is told by its beginning and a digest, so that two that differ stay different.

    Raises:
        ValueError: the protocol states what no run says of itself.
    """
    if unknown := sorted(stated.keys() - found.keys()):
        raise ValueError(
            f"protocol.states has {', '.join(unknown)}; it can state {', '.join(found)}"
        )
    differences = []
    for key, value in stated.items():
        allowed = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if found[key] not in allowed:
            wanted = " or ".join(map(short, allowed))
            differences.append(f"{key}: {short(found[key])} instead of {wanted}")
    return tuple(differences)


def short(value: Any) -> str:
    """A value in words; of a long one the beginning and a digest, so that two stay different."""
    text = str(value)
    if len(text) <= MAX_VALUE:
        return text
    return f"{text[:MAX_VALUE]}... (sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"


def incomplete(evaluated: int | None, expected: int | None) -> tuple[str, ...]:
    """The deviation of metrics that were computed on fewer images than there are, in words.

    Args:
        evaluated: images that were looked at; None where nobody knows.
        expected: images of the dataset; None where nobody knows.
    """
    if evaluated is None or expected is None or evaluated >= expected:
        return ()
    return (f"incomplete: evaluated on {evaluated} of {expected} images",)
