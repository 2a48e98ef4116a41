"""The resolved config in a run's folder: JSON, so that nobody has to run it to read it.

JSON has no tuples, which some of mmdetection's transforms insist on: one is stored as
``{"tuple": [...]}``.
"""

import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from results.record.files import regular_file, write_atomically

CONFIG = "config.json"
MAX_BYTES = 16 << 20


def write_config(cfg: Config, path: Path) -> None:
    """Write a config, whole or not at all.

    Raises:
        NotWritten: no room, no right, or another fault of the file system.
    """
    write_atomically(path, json.dumps(_tagged(cfg.to_dict()), indent=1, default=str).encode())


def read_config(path: Path) -> dict[str, Any]:
    """The values of a config by name, as :func:`write_config` was given them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no config that a run wrote; names the file.
    """
    if regular_file(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB; expected a run's config")
    try:
        content = json.loads(path.read_bytes(), object_hook=_untagged)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no config that a run wrote ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a run's config")
    return content


def _tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_tagged(item) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    return value


def _untagged(value: dict[str, Any]) -> Any:
    items = value.get("tuple")
    return tuple(items) if len(value) == 1 and isinstance(items, list) else value
