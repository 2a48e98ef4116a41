"""``--cfg-options NAME=VALUE``: names that the config has, values that are constants.

A name may have dots; its last part may be an argument that the config leaves at its default, the
others have to be there. Values are numbers, texts, ``None``, lists and tuples; none is ever run.
"""

import difflib
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, DictAction


class Options(DictAction):
    """mmengine's action, which explains what it cannot read."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        for option in values:
            name, equals, _ = option.partition("=")
            if not equals or not all(name.split(".")):
                parser.error(f"--cfg-options {option[:100]!a}: expected NAME=VALUE")
            try:
                super().__call__(parser, namespace, [option], option_string)
            except (AssertionError, ValueError, OverflowError, RecursionError) as error:
                parser.error(f"--cfg-options {option[:100]!a}: {str(error)[:100]!a}")


def merge(cfg: Config, options: Mapping[str, Any], path: str) -> None:
    """Set the options in a config.

    Args:
        cfg: is changed.
        options: values by dotted names.
        path: of the config's file, for messages.

    Raises:
        ValueError: the config has no such name, or the value is of another kind; says what it has.
    """
    for name, value in options.items():
        try:
            _check_kind(_present(cfg, name.split(".")), value)
        except ValueError as error:
            raise ValueError(f"--cfg-options {name[:100]!a}: {path} {error}") from None
    try:
        cfg.merge_from_dict(dict(options))
    except (AttributeError, KeyError, TypeError, AssertionError) as error:
        names = ", ".join(name[:100] for name in options)
        raise ValueError(
            f"--cfg-options {names!a}: {path} cannot take them together ({error})"
        ) from error


def _present(cfg: Config, parts: Sequence[str]) -> Any:
    """The value that the config has under a dotted name; None where an argument is new."""
    place: Any = cfg
    for depth, part in enumerate(parts):
        if isinstance(place, (list, tuple)):
            known = [str(index) for index in range(len(place))]
        elif isinstance(place, Mapping) or place is cfg:
            known = list(place.keys())
        else:
            raise ValueError(f"has nothing inside {'.'.join(parts[:depth])!a}, which is {place!r}")
        if part not in known:
            argument = 0 < depth == len(parts) - 1 and isinstance(place, Mapping)
            if argument and part.isidentifier() and not part.startswith("_"):
                return None
            raise ValueError(f"has no {part[:100]!a} there; {_near(part, known)}")
        place = place[int(part)] if isinstance(place, (list, tuple)) else place[part]
    return place


def _near(part: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(part[:100], known, n=1)
    return f"did you mean {near[0]}?" if near else f"it has: {', '.join(sorted(known))}"


def _check_kind(present: Any, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"would get {value}, expected a finite number")
    for kinds, expected in (
        (Mapping, "one of its names, with a dot"),
        (bool, "True or False"),
        ((int, float), "a number"),
        (str, "a text; quote a number as a path: ./7"),
    ):
        if isinstance(present, kinds):
            other = isinstance(value, bool) and kinds == (int, float)
            if value is not None and (other or not isinstance(value, kinds)):
                raise ValueError(
                    f"has {str(present)[:100]} there, found {value!r:.100}, expected {expected}"
                )
            return
