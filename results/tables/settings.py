"""How a pretraining was set beyond its method, in one line: what the paper's ablations vary.

A run record's `settings` has the units, decoder, temperature and sharing of the pretraining. What
they change of the method's own (sections 4 and 5.1) makes an ablation: "conv_blocks=2",
"units=loco_1_block", "" for the method as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

EXPLAINED = ("units", "decoder", "temperature", "sharing")  # by the setting

_NO_DECODER = {"conv_blocks": 0, "downsample": True, "further_stages": 0, "mlp_layers": 2}
_NO_SHARING = {"upper_gradient_only": False, "l2": None}


def setting(method: str, settings: Mapping[str, Any]) -> str:
    """What `settings` change of the method's own; "" also where nobody knows (`settings` empty)."""
    if not settings:
        return ""
    own = {
        "units": method,
        "temperature": 0.1,  # SimCLR
        **_NO_DECODER,
        "conv_blocks": 0 if method == "simclr" else 1,  # section 5.4
        "out_dim": 128,  # section 5.1
        **_NO_SHARING,
    }
    found = {**_NO_DECODER, **_NO_SHARING}
    for name, value in settings.items():
        found |= value if isinstance(value, Mapping) else {name: value}
    if found.get("sharing") is None:
        found.pop("sharing", None)
    changed = (name for name in sorted(found) if name not in own or found[name] != own[name])
    return " ".join(f"{name}={found[name]}" for name in changed)


def unexplained(deviations: Iterable[str], setting: str) -> tuple[str, ...]:
    """The deviations of a backbone that its setting does not already state."""
    told = tuple(f"backbone: {name}: " for name in EXPLAINED) if setting else ()
    return tuple(text for text in deviations if not text.startswith(told))
