"""Run records of older schema versions, brought up to date one version at a time.

A version that adds, drops or renames a field of the run record adds its step here; what an old
record cannot know becomes the value that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from results.record.protocol import short

Content = dict[str, Any]


def migrate(content: Content, newest: int) -> Content:
    """A record's JSON object as version `newest` has it; `content` itself is left alone.

    A version without a step, or none at all, comes back as it is: the reader's check refuses it.
    """
    version = content.get("schema_version")
    while type(version) is int and version < newest and version in _STEPS:
        content = _STEPS[version](content)
        version += 1
        content["schema_version"] = version
    return content


def setting_until_version_3(method: str, settings: Mapping[str, Any]) -> str:
    """What `settings` change of the method's own, as methods were up to version 3.

    "conv_blocks=2", "units=loco_1_block"; "" for the method as it is, and where nobody knows
    (`settings` empty).
    """
    if not settings:
        return ""
    no_decoder = {"conv_blocks": 0, "downsample": True, "further_stages": 0, "mlp_layers": 2}
    no_sharing = {"upper_gradient_only": False, "l2": None}
    own = {
        "units": method,
        "temperature": 0.1,  # SimCLR
        **no_decoder,
        "conv_blocks": 0 if method == "simclr" else 1,  # section 5.4
        "out_dim": 128,  # section 5.1
        **no_sharing,
    }
    found: dict[str, Any] = {**no_decoder, **no_sharing}
    for name, value in settings.items():
        found |= value if isinstance(value, Mapping) else {name: value}
    if found.get("sharing") is None:
        found.pop("sharing", None)
    changed = (name for name in sorted(found) if name not in own or found[name] != own[name])
    return short(" ".join(f"{name}={found[name]}" for name in changed))


def _add_settings(content: Content) -> Content:
    """Version 1 did not tell how the backbone's pretraining was set."""
    return {"settings": {}, **content}


def _add_evaluated_images(content: Content) -> Content:
    """Version 2 did not tell how many images its metrics were computed on."""
    return {"evaluated_images": None, "expected_images": None, **content}


def _add_setting(content: Content) -> Content:
    """Version 3 left it to the tables to say what the settings change of the method."""
    settings = content.get("settings")
    known = settings if isinstance(settings, Mapping) else {}  # the reader's check refuses others
    return {"setting": setting_until_version_3(content.get("method", ""), known), **content}


_STEPS: dict[int, Callable[[Content], Content]] = {
    1: _add_settings,
    2: _add_evaluated_images,
    3: _add_setting,
}
