"""What a method is: its units, decoder, sharing and loss. This is the one place that says so.

A new method is an entry of :data:`METHODS`, or a layout in :data:`pretrain.units.LAYOUTS`, whose
name is a method's too.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pretrain.decoders import Decoder
from pretrain.sharing import Sharing
from pretrain.units import LAYOUTS, StageSpans
from results.record.protocol import short


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method as it is; the defaults are those of the local methods.

    Attributes:
        units: a name in :data:`pretrain.units.LAYOUTS`, or a list of stage spans.
        decoder: arguments of :class:`Decoder`.
        loss: config of one of :mod:`pretrain.losses`.
        sharing: arguments of :class:`Sharing`; None: what units overlap in is shared.
    """

    units: str | StageSpans
    # section 5.4: one conv block; section 5.1: an MLP of two layers, 128 numbers out
    decoder: Mapping[str, Any] = field(
        default_factory=lambda: {"conv_blocks": 1, "mlp_layers": 2, "out_dim": 128}
    )
    loss: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "InfoNCE", "temperature": 0.1}  # SimCLR's tau of Eq. 1
    )
    sharing: Mapping[str, Any] | None = None


METHODS: dict[str, Method] = {
    # section 5.4: SimCLR's decoder has no conv block
    "simclr": Method(units="simclr", decoder={"conv_blocks": 0, "mlp_layers": 2, "out_dim": 128}),
    "gim": Method(units="gim"),
    "loco": Method(units="loco"),
}


def method_of(name: str) -> Method:
    """The method of a name.

    Raises:
        ValueError: nothing has that name; lists what has.
    """
    if name not in METHODS and name not in LAYOUTS:
        known = dict.fromkeys([*METHODS, *LAYOUTS])
        raise ValueError(f"unknown method {name!r}; the methods are: {', '.join(known)}")
    return METHODS.get(name, Method(units=name))


def complete(model: dict[str, Any], method: str) -> None:
    """Fill in what the config of a model leaves to its method.

    Args:
        model: arguments of :class:`pretrain.model.LocalContrastive`; is changed.
        method: a name, see :func:`method_of`.

    Raises:
        ValueError: no method has that name.
    """
    _fill(model, method_of(method))


def _fill(model: dict[str, Any], own: Method) -> None:
    model.setdefault("units", own.units)
    model["decoder"] = {**own.decoder, **(model.get("decoder") or {})}
    loss = model.get("loss") or {}
    another = loss.get("type", own.loss["type"]) != own.loss["type"]
    model["loss"] = {**({} if another else own.loss), **loss}
    if own.sharing is not None:
        model.setdefault("sharing", dict(own.sharing))


def settings_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """What Tables 4 and 5 vary of a complete model's config; records and backbone files say it."""
    loss = dict(model["loss"])
    return {
        "units": model["units"],
        "decoder": dict(model["decoder"]),
        "temperature": loss.get("temperature"),
        "sharing": dict(model["sharing"]) if model.get("sharing") else None,
        **({} if loss["type"] == "InfoNCE" else {"loss": loss}),
    }


def setting_of(method: str, settings: Mapping[str, Any]) -> str:
    """What a pretraining changed of its method, in words: ``conv_blocks=2 units=loco_1_block``.

    Args:
        method: its name; one that is not known here is compared with a local method of that name.
        settings: see :func:`settings_of`; {} where nobody knows.

    Returns:
        "" for the method as it is, and where nobody knows.
    """
    if not settings:
        return ""
    model: dict[str, Any] = {}
    _fill(model, METHODS.get(method, Method(units=method)))
    own, found = _flat(settings_of(model)), _flat(settings)
    changed = [f"{name}={found[name]}" for name in sorted(found) if found[name] != own.get(name)]
    return short(" ".join(changed))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """One level of names, with the defaults of what is not said; lists as JSON has them."""
    arguments = inspect.signature(Decoder).parameters.values()
    flat = {each.name: each.default for each in arguments if each.name in _DECODER}
    flat |= asdict(Sharing())
    for name, value in json.loads(json.dumps(settings)).items():
        flat |= value if isinstance(value, dict) else {name: value}
    if flat.get("sharing", ...) is None:
        del flat["sharing"]
    if "type" in flat:  # of a loss that is not InfoNCE
        flat["loss"] = flat.pop("type")
    if flat.get("temperature", ...) is None:
        del flat["temperature"]
    return flat


# Of a decoder's arguments; out_dim is always said.
_DECODER = ("conv_blocks", "downsample", "further_stages", "mlp_layers")
