"""The documented names of a run: what each may hold, and which places of the config it sets.

A trainer has one table of them. It is held against the whole config, wherever a value comes from,
before anything is read; all faults are told at once.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from pretrain.engine.same_config import leaves
from pretrain.engine.stated_protocol import assignments

# Of mmengine's Runner, and what a run adds to its config. Everything else at a config's top is a
# variable of the file, which matters where its value stands.
READ = (
    "model", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg",
    "test_cfg", "auto_scale_lr", "optim_wrapper", "param_scheduler", "val_evaluator",
    "test_evaluator", "default_hooks", "custom_hooks", "load_from", "resume", "launcher",
    "env_cfg", "log_processor", "log_level", "visualizer", "default_scope", "randomness",
    "experiment_name", "model_wrapper_cfg", "sync_bn", "find_unused_parameters",
    "activation_checkpointing", "efficient_conv_bn_eval", "compile", "custom_imports",
    "work_dir", "config_file", "protocol", "dataset", "backbone_sha256",
)  # fmt: skip

KINDS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str) and bool(value.strip()),
    "a whole number": lambda value: type(value) is int,
    "a number above 0": lambda value: _is_number(value) and value > 0,
    "a share from 0 to 1": lambda value: _is_number(value) and 0 <= value <= 1,
    "True or False": lambda value: type(value) is bool,
    "a list of whole numbers": lambda value: (
        isinstance(value, (list, tuple)) and all(type(item) is int for item in value)
    ),
    "a text or a list of texts": lambda value: (
        isinstance(value, (str, list, tuple)) and all(isinstance(item, str) for item in value)
    ),
}


class Name(NamedTuple):
    """What a documented name holds.

    Args:
        kind: one of KINDS.
        least: of whole numbers.
        most: of whole numbers.
        none: whether None has a meaning.
        optional: whether a config may leave it out.
        sets: dotted places that the run fills from it, which nobody else may.
    """

    kind: str
    least: int | None = None
    most: int | None = None
    none: bool = False
    optional: bool = False
    sets: tuple[str, ...] = ()


Names = Mapping[str, Name]

LIGHT = Name("a whole number", least=0, optional=True)
SEED = Name("a whole number", least=0, most=2**32 - 1, sets=("randomness.seed",))
COMMON: dict[str, Name] = {
    "base_lr": Name("a number above 0", sets=("optim_wrapper.optimizer.lr", "auto_scale_lr")),
    "protocol.name": Name("a text"),
    "protocol.states.dataset": Name("a text"),
    "train_dataloader.num_workers": LIGHT,
    "val_dataloader.num_workers": LIGHT,
    "train_dataloader.prefetch_factor": LIGHT._replace(least=1, none=True),
    "val_dataloader.prefetch_factor": LIGHT._replace(least=1, none=True),
    "default_hooks.checkpoint.interval": LIGHT._replace(least=1),
    "default_hooks.checkpoint.by_epoch": Name("True or False", optional=True),
    "default_hooks.logger.interval": LIGHT._replace(least=1),
    "sync_bn": Name("a text", none=True, optional=True),
}


def check(cfg: Config, names: Names) -> None:
    """Hold a config against the documented names, before the run fills anything in.

    Raises:
        ValueError: lists everything that is wrong.
    """
    content = _without_scope(cfg.to_dict())
    faults = [
        *_bad_values(content, names),
        *_set_by_hand(content, names),
        *_foreign_weights(content, names),
        *_unread(content, names, _own_names(cfg.filename)),
    ]
    if faults:
        several = f"{len(faults)} things in the config are wrong:\n  " if faults[1:] else ""
        raise ValueError(several + "\n  ".join(faults))
    fit_to_workers(cfg)


def fit_to_workers(cfg: Config) -> None:
    """Switch off what only workers can do, in loaders that have none."""
    for loader in (cfg[name] for name in cfg if name.endswith("_dataloader") and cfg[name]):
        if not loader.get("num_workers"):
            loader.persistent_workers = False
            for argument in ("prefetch_factor", "timeout", "multiprocessing_context"):
                loader.pop(argument, None)


def together(*attempts: Callable[[], object]) -> None:
    """Make every attempt, then raise what went wrong in them.

    Raises:
        ValueError, FileNotFoundError: the only fault, or a list of them.
    """
    faults: list[ValueError | FileNotFoundError] = []
    for attempt in attempts:
        try:
            attempt()
        except (ValueError, FileNotFoundError) as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ValueError(f"{len(faults)} things are wrong:\n  " + "\n  ".join(map(str, faults)))


def forget_what_is_set(cfg: Config, names: Names) -> None:
    """Empty the places that documented names set, in a config that a run has left in its folder."""
    for place in (place for name in names.values() for place in name.sets):
        path, _, last = place.rpartition(".")
        holder = _at(cfg, path) if path else cfg
        if isinstance(holder, (dict, Config)) and holder.get(last) is not None:
            holder[last] = None


def _without_scope(value: Any) -> Any:
    """Without the mark that mmengine puts into bases from another package."""
    if isinstance(value, Mapping):
        return {k: _without_scope(v) for k, v in value.items() if k != "_scope_"}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_scope, value))
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _at(content: Any, place: str) -> Any:
    """What stands at a dotted place; ``...`` where there is no such place."""
    for part in place.split("."):
        content = content.get(part, ...) if isinstance(content, (Mapping, Config)) else ...
    return content


def _bad_values(content: dict[str, Any], names: Names) -> list[str]:
    faults = []
    for name, rule in names.items():
        value = _at(content, name)
        if (value is None and rule.none) or (value is ... and rule.optional):
            continue
        fits = KINDS[rule.kind](value)
        if fits and rule.least is not None:
            fits = rule.least <= value and (rule.most is None or value <= rule.most)
        if not fits:
            bounds = "" if rule.least is None else f" from {rule.least}"
            bounds += "" if rule.most is None else f" to {rule.most}"
            found = "is not set" if value is ... else f"is {value!r:.100}"
            faults.append(
                f"{name} {found}; expected {rule.kind}{bounds}{' or None' if rule.none else ''}: "
                f"set --cfg-options {name}=..."
            )
    return faults


def _set_by_hand(content: dict[str, Any], names: Names) -> list[str]:
    by: dict[str, str] = {}
    for name, rule in names.items():
        for place in rule.sets:
            if name in content:
                by.setdefault(place, name)
    return [
        f"{place} is {str(value)[:60]}, but {name} decides it: set --cfg-options {name}=... "
        f"instead, and leave {place} out"
        for place, name in by.items()
        if (value := _at(content, place)) not in (None, ...)
    ]


_STORED = re.compile(
    r"\.(pth?|ckpt|pkl|bin|safetensors|tar|npz)$|^(torchvision|open-?mmlab|mmcls|jhu|bcls)://"
    r"|^modelzoo",
    re.IGNORECASE,
)
_LOADS = re.compile(
    r"(^|_)(pretrained|checkpoint|ckpt|weights|load_from|resume_from)(_path|_file)?$"
)


def _foreign_weights(content: dict[str, Any], names: Names) -> list[str]:
    """Places by which weights come in that the record would not know."""
    way = (
        "name a backbone file with --cfg-options backbone_file=FILE"
        if "backbone_file" in names
        else "pretraining starts from random weights, and --resume continues a run"
    )
    faults = []
    for place, value in leaves(content).items():
        last = place.rpartition(".")[2]
        if place in (*names, "work_dir", "config_file") or last == "backbone_file":
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            text = item if isinstance(item, str) else ""
            loads = _LOADS.search(last) and (text or item is True)
            type_loads = last == "type" and text.rpartition(".")[2].startswith("Pretrained")
            if loads or type_loads or _STORED.search(text):
                faults.append(f"{place} is {item!r:.100}, weights that no record names; {way}")
    return faults


def check_options(cfg: Config, options: Mapping[str, str], names: Names, path: str) -> None:
    """Refuse options that would change a variable of the config's file, which nothing reads.

    Args:
        cfg: before they are set.
        options: by dotted names.
        names: the documented ones.
        path: of the config's file, for messages.

    Raises:
        ValueError: names the places that hold what the variable held.
    """
    content = _without_scope(cfg.to_dict())
    changed = {name.partition(".")[0]: name for name in options}
    faults = []
    for first, name in changed.items():
        if first in content and first not in (*READ, *names):
            alike = [place for place, value in _places(content) if value == content[first]]
            faults.append(
                f"--cfg-options {name[:100]!a}: {path} uses {first} as a variable, which nothing "
                f"reads any more; set {', '.join(alike) or 'the place that you mean'} instead"
            )
    if faults:
        raise ValueError("\n  ".join(faults))


def _unread(content: dict[str, Any], names: Names, own: Collection[str]) -> list[str]:
    """Of the values that a config file sets itself: what nothing reads, a misspelt name say."""
    read = {name for name in names if "." not in name} | set(READ)
    faults = []
    for name in own:
        value = content.get(name)
        if name in read or value is None:
            continue
        near = difflib.get_close_matches(name, sorted(read), n=1, cutoff=0.85)
        if near or not any(found == value for _, found in _places(content)):
            alike = [place for place, _ in _places(content) if place.rpartition(".")[2] == name]
            hint = f"set {', '.join(alike) or 'the place where its value is to stand'} instead"
            hint = f"did you mean {near[0]}?" if near else hint
            faults.append(f"{name} is set to {str(value)[:60]}, but nothing reads it; {hint}")
    return faults


def _own_names(path: str | None) -> list[str]:
    """What a Python config sets at its top, without its bases; nothing of one that a run left."""
    found = (path and assignments(Path(path))) or {}
    return [] if "config_file" in found else [name for name in found if name != "_base_"]


def _places(content: dict[str, Any]) -> list[tuple[str, Any]]:
    """Everything inside what the run reads, by its dotted name."""
    read = [name for name in content if name in READ and name != "protocol"]
    return [place for name in read for place in _inside(content[name], name)]


def _inside(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    for key, part in parts:
        yield f"{name}.{key}", part
        yield from _inside(part, f"{name}.{key}")
