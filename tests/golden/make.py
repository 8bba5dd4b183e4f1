"""Adds the golden bytes of facts that have none yet: `python -m tests.golden.make [--force [TYPE ...]]`.

Bytes that exist are never written again, with one exception: `--force` while a type is not yet published (no type
named: all of those).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from events.envelope import Draft, Fact, encode_data, fact_id, open_record, seal_record
from infra.schemas import published
from services.kernel.group import outcome_key
from tests.golden.samples import ADA, FACT_ID, samples

RECORDS: Final = Path(__file__).parent / "records"


def record(stream: str, fact: Fact) -> bytes:
    """Return a whole record around a fact, everything in it fixed."""
    service = fact.TYPE.partition(".")[0]
    draft = Draft(
        id=fact_id(outcome_key(ADA, f"golden {fact.TYPE}"), 0),
        source=f"golden.commons.example/{service}",
        type=fact.TYPE,
        subject=stream,
        data=encode_data(fact),
        actor=ADA,
        commandid=f"golden {fact.TYPE}",
        causationid=FACT_ID,
        correlationid=FACT_ID,
    )
    return seal_record(open_record(draft), 17, "2026-11-20T12:00:00.000000Z", 123_456)


def make(force: Sequence[str] = (), folder: Path = RECORDS) -> list[str]:
    """Write what is missing or forced; return the types written. Asserts that nothing published is forced."""
    frozen = published()
    for name in force:
        assert name not in frozen, f"{name} is published: its golden bytes are never written again"
    written = []
    for name, (stream, fact) in samples().items():
        path = folder / f"{name}.json"
        if not path.exists() or name in force:
            path.write_bytes(record(stream, fact))
            written.append(name)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make")
    parser.add_argument("--force", nargs="*", metavar="TYPE", help="write again, while unpublished")
    forced = parser.parse_args().force
    for line in make(sorted(set(samples()) - published()) if forced == [] else forced or ()):
        print(f"wrote {line}")  # noqa: T201 - a tool people run by hand
