"""What flows over Kafka, as an AsyncAPI 3.0 document in `events/asyncapi.json`: generated, kept in git, judged.

One channel per service's topic, one message per fact type and one for watermarks, each with headers, schema and an
example whose bytes are the golden ones. `python -m infra.asyncapi` writes it. `--check` compares it with the code and
judges it by AsyncAPI's own JSON Schema, which lies in `tests/vectors` (so this runs in the repository only).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from eventsourcing.persistence import Notification

import events
from events.envelope import Envelope, decode_envelope
from events.facts import FACTS_BY_SERVICE, catalog
from infra.asyncapi_schemas import ROOM, definitions, top
from infra.kafka.records import FACT, WATERMARK, Headers, fact_headers, watermark
from infra.schemas import Schema, generate, text

PATH: Final = Path(events.__file__).parent / "asyncapi.json"
JUDGE: Final = PATH.parent.parent / "tests" / "vectors" / "asyncapi-3.0.0.json.gz"
EXAMPLES: Final = PATH.parent.parent / "tests" / "golden" / "records"

VERSION: Final = "1.0.0"
"""Of topics, keys, headers and watermarks. Facts carry versions of their own, in the names of their types."""

PARTITIONS: Final = 6
MARK: Final = "watermark"
_BINDING: Final = "0.5.0"
_NUMBER: Final = {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}
_TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_ENVELOPE: Final[Mapping[str, Schema]] = {
    "specversion": {"const": "1.0"},
    "id": {"type": "string", "format": "uuid", "description": "The same however often the fact comes."},
    "source": {"type": "string", "description": "<origin of the community>/<service>"},
    "type": {"type": "string", "description": "The published name of the fact's type, with its version."},
    "subject": {"type": "string", "description": "The stream: what the fact is about."},
    "datacontenttype": {"const": "application/json"},
    "data": {"type": "object"},
    "streamversion": {**_NUMBER, "description": "1, 2, 3 ... within the stream, without a hole."},
    "time": {"type": "string", "format": "date-time", "description": "UTC; never decreases along positions."},
    "position": {**_NUMBER, "description": "1, 2, 3 ... within the service, without a hole."},
    "actor": {"type": "string", "description": "Who asked for it. Absent where a policy or a clock did."},
    "commandid": {"type": "string"},
    "causationid": {"type": "string", "description": "The id of the fact that caused this one."},
    "correlationid": {"type": "string", "description": "The id of the fact that began the story."},
}

_HEADERS: Final[Mapping[str, Schema]] = {
    "content-type": {"enum": [FACT.decode(), WATERMARK.decode()]},
    "position": {**_NUMBER, "description": "As in the record; of a watermark: everything up to here has been sent."},
    "previous": {
        **_NUMBER,
        "description": "Position of the fact before this one in the same partition, 0 for none. One you have not "
        "seen: facts are missing, stop.",
    },
    "type": {"type": "string", "description": "The fact's type. Absent from watermarks."},
    "streamversion": {**_NUMBER, "description": "As in the record. Absent from watermarks."},
    "traceparent": {
        "type": "string",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        "description": "W3C Trace Context. Only while tracing is on; never part of the record.",
        "examples": [_TRACE],
    },
}


def document(examples: Path = EXAMPLES) -> Schema:
    """Return the document; `examples` holds a golden record per fact type."""
    schemas = generate()
    shared = {"Record": _record(), "Headers": _headers()}
    for name, schema in schemas.items():
        shared |= definitions(name, schema)
    messages = {name: _message(name, schemas[name], (examples / f"{name}.json").read_bytes()) for name in schemas}
    return {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": FACT.decode(),
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka", "description": "Yours: COMMONS_BUS."}},
        "channels": {service: _channel(service) for service in FACTS_BY_SERVICE},
        "operations": {f"{service}.publish": _operation(service) for service in FACTS_BY_SERVICE},
        "components": {"messages": {**messages, MARK: _watermark()}, "schemas": shared},
    }


def _info() -> Schema:
    return {
        "title": "Compute Commons",
        "version": VERSION,
        "description": "Every fact of a community, byte for byte as it was recorded, at least once, in order within a "
        "stream and a partition. The key is the stream; its partition is that of Kafka's default partitioner "
        "(murmur2). A community may put a prefix before the names of its topics, and a later generation of a topic "
        "ends in .g2, .g3 ... How to follow: docs/consuming.md.",
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    }


def _channel(service: str) -> Schema:
    names = [*sorted(fact.TYPE for fact in FACTS_BY_SERVICE[service]), MARK]
    forever = {"cleanup.policy": ["delete"], "retention.ms": -1, "retention.bytes": -1}
    kafka = {"partitions": PARTITIONS, "topicConfiguration": forever, "bindingVersion": _BINDING}
    return {
        "address": f"{service}.events",
        "description": f"The facts of {service}. Partitions: as configured when the topic was made, then fixed.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": kafka},
    }


def _operation(service: str) -> Schema:
    summary = f"The relay of {service} publishes; anyone may follow."
    return {"action": "send", "summary": summary, "channel": {"$ref": f"#/channels/{service}"}}


def _message(name: str, schema: Schema, golden: bytes) -> Schema:
    struct = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    service = name.partition(".")[0]
    narrowed = {
        "type": {"const": name},
        "source": {"type": "string", "pattern": f"/{service}$"},
        "data": top(name, schema),
    }
    envelope = decode_envelope(golden)
    stored = Notification(envelope.subject, int(envelope.streamversion), name, golden, int(envelope.position))
    headers = fact_headers(stored, stored.id - 1)
    key = {"type": "string", "description": "The stream, as in `subject`."}
    return {
        "name": name,
        "title": struct["title"],
        "summary": struct.get("description", ""),
        "tags": [{"name": service}, *([{"name": "retired"}] if name in catalog().upcasts else [])],
        "contentType": FACT.decode(),
        "headers": {"$ref": f"{ROOM}Headers"},
        "payload": {"allOf": [{"$ref": f"{ROOM}Record"}, {"type": "object", "properties": narrowed}]},
        "bindings": {"kafka": {"key": key, "bindingVersion": _BINDING}},
        "examples": [{"name": "golden", "headers": _texts(headers), "payload": json.loads(golden)}],
    }


def _watermark() -> Schema:
    value, headers = watermark(123_456, bytes(32), 123_400)
    sha = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the record at that position."}
    payload = {"type": "object", "properties": {"position": _NUMBER, "sha256": sha}, "additionalProperties": False}
    return {
        "name": MARK,
        "title": "Watermark",
        "summary": "Not a fact, and without a key: this partition holds everything up to the position.",
        "contentType": WATERMARK.decode(),
        "headers": {"$ref": f"{ROOM}Headers"},
        "payload": {**payload, "required": ["position", "sha256"]},
        "examples": [{"name": "idle", "headers": _texts(headers), "payload": json.loads(value)}],
    }


def _record() -> Schema:
    fields = msgspec.structs.fields(Envelope)
    return {
        "title": "Record",
        "description": "A CloudEvents 1.0 object. Hash the bytes as they came; never encode them again.",
        "type": "object",
        "properties": {field.name: _ENVELOPE[field.name] for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def _headers() -> Schema:
    return {
        "title": "Headers",
        "description": "Values are UTF-8; numbers are decimal.",
        "type": "object",
        "properties": dict(_HEADERS),
        "required": ["content-type", "position", "previous"],
    }


def _texts(headers: Headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


def judge(found: Any) -> Sequence[str]:
    """Return what AsyncAPI's own JSON Schema finds wrong in a document, one line each."""
    import jsonschema_rs  # noqa: PLC0415 - of the development group, like the judge itself

    validator = jsonschema_rs.validator_for(json.loads(gzip.decompress(JUDGE.read_bytes())))
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(found)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (1: stale, or not a valid document)."""
    parser = argparse.ArgumentParser(prog="python -m infra.asyncapi", description="The AsyncAPI document.")
    parser.add_argument("--check", action="store_true", help="compare and judge only")
    checking = parser.parse_args(arguments).check
    made = document()
    if checking and (not PATH.exists() or PATH.read_text(encoding="utf-8") != text(made)):
        sys.stderr.write(f"{PATH.name} is out of date: run 'make schemas' and commit what it writes\n")
        return 1
    wrong = judge(made)
    for line in wrong:
        sys.stderr.write(f"not AsyncAPI 3.0.0: {line[:300]}\n")
    if wrong:
        return 1
    if not checking:
        PATH.write_text(text(made), encoding="utf-8")
    channels, messages = len(made["channels"]), len(made["components"]["messages"])
    sys.stdout.write(f"AsyncAPI 3.0.0: {channels} channels, {messages} messages\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
