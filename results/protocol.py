"""What a protocol states against what a run did. Standard library only."""

from collections.abc import Mapping
from typing import Any


def deviations(stated: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """In words, every point in which a run differs from its protocol.

    Args:
        stated: the protocol's values; a tuple or list means that any of its members will do.
        found: the run's values, for the same keys at least.

    Returns:
        For example ``("max_epochs: 1 instead of 12",)``; empty when the run kept to the protocol.
    """
    differences = []
    for key, value in stated.items():
        allowed = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if found[key] not in allowed:
            wanted = " or ".join(str(one) for one in allowed)
            differences.append(f"{key}: {found[key]} instead of {wanted}")
    return tuple(differences)


def incomplete(evaluated: int | None, expected: int | None) -> tuple[str, ...]:
    """The deviation of metrics that were computed on fewer images than there are, in words.

    Args:
        evaluated: images that were looked at; None where nobody knows.
        expected: images of the dataset; likewise.
    """
    if evaluated is None or expected is None or evaluated >= expected:
        return ()
    return (f"incomplete: evaluated on {evaluated} of {expected} images",)
