"""When two configs describe the same run: which values count, their hash, and what differs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from results.record.text import some_of

# Where and how a run is carried out, not what is run.
CIRCUMSTANCES = (
    "work_dir", "launcher", "resume", "load_from", "log_level", "config_file", "default_hooks",
    "log_processor",
)  # fmt: skip
LOADING = (
    "num_workers", "persistent_workers", "pin_memory", "prefetch_factor", "worker_init_fn",
    "timeout",
)  # fmt: skip
PLACES = {"ann_file", "backbone_file", "data_root", "folder", "root"}  # last part of a name


def config_text(cfg: Config) -> str:
    """All that decides what a run computes, as JSON."""
    content = {k: v for k, v in cfg.to_dict().items() if k not in CIRCUMSTANCES}
    for name in content:
        if name.endswith("_dataloader") and content[name]:
            content[name] = {k: v for k, v in content[name].items() if k not in LOADING}
    return json.dumps(content, sort_keys=True, default=str)


def config_hash(cfg: Config) -> str:
    """sha256 of all that counts in a config, wherever its data lie."""
    return hash_of(config_text(cfg))


def hash_of(config_text: str) -> str:
    """As :func:`config_hash`, from :func:`config_text`."""
    text = json.dumps(what_counts(json.loads(config_text)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_hash_of(digest: str, config_text: str) -> bool:
    """Whether a record's ``config_hash`` is this config's; older ones are of the text itself."""
    return digest in (hash_of(config_text), hashlib.sha256(config_text.encode()).hexdigest())


def what_counts(config: dict[str, Any]) -> dict[str, Any]:
    """The values of a config that decide what a run is, by their dotted names.

    Where data, backbone and run folder lie does not; what lies there does, by its fingerprint.
    """
    return {
        name: value
        for name, value in leaves(config).items()
        if name.rpartition(".")[2] not in PLACES and not name.endswith("dataset.name")
    }


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """The values of a nested config by their dotted names."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = dict(enumerate(value)).items()
    else:
        return {name: value}
    return {
        leaf: content
        for key, item in parts
        for leaf, content in leaves(item, f"{name}.{key}" if name else str(key)).items()
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Dotted names of what counts and differs between two configs, with both values."""
    old, new = what_counts(then), what_counts(now)
    return [
        f"{some_of([name])}: {some_of([old.get(name, 'nothing')])} in the checkpoint, "
        f"{some_of([new.get(name, 'nothing')])} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, ...) != new.get(name, ...)
    ]


def config_in(meta: dict[str, Any], path: Path) -> dict[str, Any]:
    """The config that a checkpoint carries; older pretrainings have the images' fingerprint beside.

    Raises:
        ValueError: it is no JSON object; names the file.
    """
    try:
        content = json.loads(meta["config_text"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} carries a config that is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} carries a {type(content).__name__}, expected a config")
    if isinstance(provenance := meta.get("provenance"), dict):
        content.setdefault("dataset", {"fingerprint": provenance.get("dataset_fingerprint")})
    return content
