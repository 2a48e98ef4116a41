"""Run records of older schema versions, brought up to date one version at a time.

Standard library only. A version that adds, drops or renames a field of the run record adds its step
here; what an old record cannot know becomes the value that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def _add_settings(content: Content) -> Content:
    """Version 1 did not tell how the backbone's pretraining was set."""
    return {"settings": {}, **content}


def _add_evaluated_images(content: Content) -> Content:
    """Version 2 did not tell how many images its metrics were computed on."""
    return {"evaluated_images": None, "expected_images": None, **content}


_STEPS: dict[int, Callable[[Content], Content]] = {1: _add_settings, 2: _add_evaluated_images}
