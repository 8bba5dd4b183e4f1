"""The JSON Schema of `community.yaml`, generated from the structs, so that editors check it while it is written.

It differs from the document in the first fact (`events/schemas/registry.community-founded.v1.json`) in two places: a
key may be written as `derived`, and a performance table as `{shipped: <name>}`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from events.genesis import Community
from infra.genesis_file import DERIVED, SHIPPED

PATH: Final = Path(__file__).parent / "genesis" / "community.schema.json"


def community_schema() -> dict[str, Any]:
    """Return the schema of what `commons genesis FILE` reads."""
    schema = msgspec.json.schema(Community)
    definitions = schema["$defs"]
    _instead(definitions, "PublicKey", {"const": DERIVED, "description": "The key follows from the operator's key."})
    shipped = {
        "type": "object",
        "description": "A table that comes with the software.",
        "properties": {SHIPPED: {"type": "string"}},
        "required": [SHIPPED],
        "additionalProperties": False,
    }
    _instead(definitions, "PerformanceTable", shipped)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "community.yaml", **schema}


def schema_text() -> str:
    """Return the bytes of the schema file."""
    return json.dumps(community_schema(), indent=2) + "\n"


def _instead(definitions: dict[str, Any], name: str, other: dict[str, Any]) -> None:
    """Let `other` stand wherever the definition `name` may stand."""
    written = f"{name}AsWritten"
    definitions[written] = definitions.pop(name)
    definitions[name] = {"anyOf": [{"$ref": f"#/$defs/{written}"}, other]}


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8")
