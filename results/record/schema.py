"""The run record's JSON Schema, for readers in other languages.

    python -m results.record.schema > results/record/record.schema.json

Generated from `results.record.run_record.RunRecord`; a test compares the file with it.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from importlib import resources
from typing import Any

from results.record.field_types import ANY_JSON, MAX_NAME, json_type
from results.record.run_record import KINDS, METHODS, NAMES, SCHEMA_VERSION, RunRecord

SHA256 = "^[0-9a-f]{64}$"
RULES: dict[str, dict[str, Any]] = {  # what types cannot say
    "kind": {"enum": list(KINDS)},
    "method": {"enum": list(METHODS)},
    "schema_version": {"const": SCHEMA_VERSION},
    "dataset_fingerprint": {"pattern": SHA256},
    "config_hash": {"pattern": SHA256},
    "world_size": {"minimum": 1},
    "global_batch_size": {"minimum": 1},
    "wall_time_s": {"minimum": 0},
    "started_at": {"format": "date-time"},
    "finished_at": {"format": "date-time"},
    "metrics": {"propertyNames": {"maxLength": MAX_NAME}},
    **{name: {"minLength": 1, "maxLength": MAX_NAME} for name in NAMES},
}


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) that every record of SCHEMA_VERSION meets."""
    hints = typing.get_type_hints(RunRecord)
    names = [field.name for field in dataclasses.fields(RunRecord)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "loco-transfer run record",
        "description": (RunRecord.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": {name: json_type(hints[name]) | RULES.get(name, {}) for name in names},
        "required": names,
        "$defs": {"json": ANY_JSON},
        "additionalProperties": False,
    }


def stored_schema() -> dict[str, Any]:
    """The schema as the package carries it."""
    text = resources.files("results.record").joinpath("record.schema.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
