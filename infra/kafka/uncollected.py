"""Pages of facts are made without Python's cyclic collector looking on.

A page is tens of thousands of objects that all live until it has taken effect. Building it would wake the collector
again and again, which would find nothing to free; measured, that is a third of what a consumer does. The pause ends
with the step that builds, so nothing that waits holds it up.
"""

from __future__ import annotations

import gc
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import coroutine
from typing import Any, TypeVar

R = TypeVar("R")


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave the collector out of a block that does not wait."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@coroutine
def uncollected_steps(work: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
    """Await `work` and leave the collector out while it runs, not while it waits."""
    step, given = work.send, None
    while True:
        with uncollected():
            try:
                awaited = step(given)
            except StopIteration as finished:
                result: R = finished.value
                return result
        try:
            given, step = (yield awaited), work.send
        except BaseException as error:  # noqa: BLE001 - a cancellation above all: it is for `work`
            given, step = error, work.throw
