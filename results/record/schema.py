"""The run record's JSON Schema, for readers in other languages.

    python -m results.record.schema > results/record/record.schema.json

msgspec generates it from the types of `results.record.run_record.RunRecord`; a test compares the
file with it. How deep values lie in each other, at most MAX_DEPTH, is a limit that it cannot say.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import msgspec

from results.record.plain_json import MAX_ENTRIES
from results.record.run_record import RunRecord
from results.record.text import MAX_TEXT

_ANY: dict[str, Any] = {"$ref": "#/$defs/json"}
ANY_JSON = {
    "anyOf": [
        {"type": ["boolean", "number", "null"]},
        {"type": "string", "maxLength": MAX_TEXT},
        {"type": "array", "items": _ANY, "maxItems": MAX_ENTRIES},
        {
            "type": "object",
            "additionalProperties": _ANY,
            "propertyNames": {"maxLength": MAX_TEXT},
            "maxProperties": MAX_ENTRIES,
        },
    ]
}


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) that every record of SCHEMA_VERSION meets."""
    _, parts = msgspec.json.schema_components([RunRecord], ref_template="#/$defs/{name}")
    record = parts.pop("RunRecord")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **record,
        "title": "loco-transfer run record",
        "description": (RunRecord.__doc__ or "").partition("\n")[0],
        "required": list(record["properties"]),  # defaults are for who builds one
        "additionalProperties": False,
        "$defs": parts | {"json": ANY_JSON},
    }


def stored_schema() -> dict[str, Any]:
    """The schema as the package carries it."""
    text = resources.files("results.record").joinpath("record.schema.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
