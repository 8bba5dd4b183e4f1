"""All facts of all services, and the catalog over them."""

from __future__ import annotations

from events import metering, registry, treasury
from events.catalog import Catalog, Retired

FACTS_BY_SERVICE = {
    "registry": registry.FACTS,
    "metering": metering.FACTS,
    "treasury": treasury.FACTS,
}
"""The owner of each fact type. A fact is only ever written by its owner."""

RETIRED: tuple[Retired, ...] = ()
"""Published versions no longer written, each with what it means today. Empty until a version is replaced."""


def catalog() -> Catalog:
    """Return a new catalog of everything published."""
    return Catalog((fact for facts in FACTS_BY_SERVICE.values() for fact in facts), RETIRED)
