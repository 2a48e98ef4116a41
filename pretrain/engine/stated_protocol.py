"""What a protocol states: the values of the config that names it, before anything changes them.

A config says ``protocol = dict(name=...)``, with ``states`` for what stands nowhere else in it (the
dataset's name and size, values of which several will do) and ``open`` for what the protocol leaves
open. Everything else is read from the config itself, so that a change of it by another config over
it, or by an option, is a deviation.
"""

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config


def state(cfg: Config, values: Callable[[Config], Mapping[str, Any]]) -> None:
    """Add to ``cfg.protocol.states`` what the config that names the protocol says.

    Args:
        cfg: of a run; its file is ``cfg.filename``.
        values: reads from a config what a run of it would do, under the names that protocols use;
            leaves out what the config does not say.
    """
    protocol = cfg.protocol
    protocol.setdefault("states", {})
    for name, value in values(stating_config(cfg)).items():
        if name not in protocol.get("open", ()):
            one = isinstance(value, (list, tuple))  # in states a list means any of its members
            protocol.states.setdefault(name, (value,) if one else value)


def stating_config(cfg: Config) -> Config:
    """The config that names ``cfg``'s protocol, with the bases beside it, and nothing over them."""
    path = Path(cfg.filename or "")
    if assignments(path) is None:
        return cfg
    return Config.fromstring(f"_base_ = {_stating_files([str(path.resolve())])!r}", ".py")


def _stating_files(places: list[str]) -> list[str]:
    """Those files, or those that they are made from where the protocol has its name from there."""
    name = next(filter(None, map(_protocol_name, places)), None)
    for place in places:
        below = _bases(place)
        if name is not None and name in map(_protocol_name, below):
            return _stating_files(below)
    return places


def _protocol_name(place: str) -> str | None:
    """What a config file, or one of those that it is made from, calls its protocol."""
    value = None if "::" in place else (assignments(Path(place)) or {}).get("protocol")
    pairs: list[tuple[str | None, ast.expr]] = []
    if isinstance(value, ast.Call):
        pairs = [(each.arg, each.value) for each in value.keywords]
    elif isinstance(value, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
        pairs = list(zip(map(str, keys), value.values, strict=True))
    names = [each.value for key, each in pairs if key == "name" and isinstance(each, ast.Constant)]
    return str(names[0]) if names else next(filter(None, map(_protocol_name, _bases(place))), None)


def _bases(place: str) -> list[str]:
    """What a config file is made from; nothing of one in another package."""
    own = None if "::" in place else assignments(Path(place))
    if not own or "_base_" not in own:
        return []
    bases = ast.literal_eval(own["_base_"])
    folder = Path(place).parent
    return [
        base if "::" in base else str((folder / base).resolve())
        for base in ([bases] if isinstance(bases, str) else bases)
    ]


def assignments(path: Path) -> dict[str, ast.expr] | None:
    """What a Python config sets at its top, without its bases; None for another kind of file."""
    if path.suffix != ".py" or not path.is_file():
        return None
    return {
        part.id: node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for part in node.targets
        if isinstance(part, ast.Name)
    }
