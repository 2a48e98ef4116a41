"""``--cfg-options NAME=VALUE``: names that the config has, values that are constants.

A name may have dots; its last part may be an argument that the config leaves at its default, the
others have to be there. A value in a text's place is that text, as it stands, blanks and commas
too. Elsewhere it is a number, ``True``, ``False``, a text, or ``[a,b]`` and ``(a,b)`` of these;
``None`` is None everywhere. None is ever run.
"""

import difflib
import math
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from pretrain.engine.documented_names import Names

DEEPEST = 20  # brackets within brackets
NEVER_RUN = ("test_dataloader", "test_evaluator", "test_cfg")  # mmdetection's configs have them


class Options(Action):
    """Collects the values as they were written; what they mean depends on the config."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for option in values:
            name, equals, value = option.partition("=")
            if not equals or not all(name.split(".")):
                parser.error(f"--cfg-options {option[:100]!a}: expected NAME=VALUE")
            options[name] = value
        setattr(namespace, self.dest, options)


def merge(cfg: Config, options: Mapping[str, str], path: str, names: Names) -> None:
    """Set the options in a config.

    Args:
        cfg: is changed.
        options: values as they were written, by dotted names.
        path: of the config's file, for messages.
        names: the documented ones, see :mod:`pretrain.engine.documented_names`.

    Raises:
        ValueError: the config has no such name, or the value is of another kind; says so of all.
    """
    values, faults = {}, []
    for name, text in options.items():
        try:
            present = _present(cfg, name.split("."))
            is_text = names[name].kind == "a text" if name in names else isinstance(present, str)
            values[name] = _value(text, is_text)
            if name not in names:
                _check_kind(present, values[name])
        except ValueError as error:
            faults.append(f"--cfg-options {name[:100]!a}: {path} {error}")
    if faults:
        raise ValueError("\n  ".join(faults))
    try:
        cfg.merge_from_dict(values)
    except (AttributeError, KeyError, TypeError, AssertionError) as error:
        named = ", ".join(name[:100] for name in options)
        raise ValueError(
            f"--cfg-options {named!a}: {path} cannot take them together ({error})"
        ) from error


def _value(text: str, is_text: bool) -> Any:
    if text == "None":
        return None
    return text if is_text else parse(text)


def parse(text: str, depth: int = 0) -> Any:
    """A value outside a text's place: ``1e-3``, ``true``, ``res2``, ``[res2, 'a, b']``, ``(1,2)``.

    Raises:
        ValueError: brackets or quotes that do not match, or a mapping.
    """
    bare = text.strip()
    if bare.startswith(("{", "dict(")):
        raise ValueError(
            f"would get the mapping {text[:100]!a}; set its names one by one, with dots, or write "
            "a config over this one"
        )
    if depth > DEEPEST:
        raise ValueError(f"would get brackets more than {DEEPEST} deep")
    parts = _elements(bare)
    if len(parts) > 1:  # 1,2 is [1,2]
        return [parse(part, depth + 1) for part in parts if part.strip() or part is not parts[-1]]
    if bare[:1] + bare[-1:] in ("[]", "()"):
        inside = bare[1:-1]
        whole = f"{inside}," if inside.strip() and not inside.rstrip().endswith(",") else inside
        found = parse(whole, depth + 1) if whole.strip() else []
        return tuple(found) if bare[0] == "(" else found
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        return bare[1:-1]
    if bare.lower() in ("true", "false"):
        return bare.lower() == "true"
    if bare == "None":
        return None
    for kind in (int, float):
        try:
            return kind(bare)
        except ValueError:
            continue
    return bare if depth else text


def _elements(text: str) -> list[str]:
    """Cut at the commas outside brackets and quotes; a quote opens where an element begins."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and parts[-1].rstrip()[-1:] in ("", ",", "[", "("):
            quote = char
        depth += 0 if quote else (char in "[(") - (char in "])")
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
        if depth < 0:
            break
    if depth or quote:
        raise ValueError(f"would get {text[:100]!a}, whose brackets or quotes do not match")
    return parts


def _present(cfg: Config, parts: Sequence[str]) -> Any:
    """The value that the config has under a dotted name; None where an argument is new."""
    if parts[0] in NEVER_RUN:
        raise ValueError(f"is never tested by {parts[0]}; set val_{parts[0][5:]}")
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
        ((list, tuple), "a list, such as [a,b]"),
    ):
        if isinstance(present, kinds):
            other = isinstance(value, bool) and kinds == (int, float)
            if value is not None and (other or not isinstance(value, kinds)):
                raise ValueError(
                    f"has {str(present)[:100]} there, found {value!r:.100}, expected {expected}"
                )
            return
