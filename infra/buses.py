"""Which bus followers get facts from, chosen by the scheme of COMMONS_BUS; Kafka's client is loaded only for Kafka."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from events.bus import Bus
from events.store import Store
from events.telemetry import Telemetry
from infra.postgres.alone import alone
from infra.settings import TAIL, Settings
from infra.tail import TailBus

if TYPE_CHECKING:
    from infra.kafka.topics import Cluster

RELAY: Final = "relay"
"""The role that publishes every service; `relay:<service>` publishes one."""


def open_bus(settings: Settings, stores: Mapping[str, Store]) -> Bus:
    """Return the bus of the settings over the stores."""
    if settings.bus == TAIL:
        return TailBus(stores)
    from infra.kafka.bus import KafkaBus  # noqa: PLC0415 - not where followers read the stores

    if settings.log_level != "debug":  # the client calls everything an error that it tries again by itself
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return KafkaBus(cluster_of(settings), stores)


def relays(
    settings: Settings, roles: Sequence[str], stores: Mapping[str, Store], dsn: str, telemetry: Telemetry
) -> list[Awaitable[None]]:
    """Return the relays that `roles` name, each of which works while no other process holds its service."""
    named = [name for name in stores if RELAY in roles or f"{RELAY}:{name}" in roles]
    if not named or settings.bus == TAIL:
        return []
    from infra.kafka.relay import Relay  # noqa: PLC0415 - as above

    cluster = cluster_of(settings)
    return [
        Relay(stores[name], cluster, partial(alone, dsn, f"{RELAY}/{name}"), telemetry=telemetry).run()
        for name in named
    ]


def cluster_of(settings: Settings) -> Cluster:
    """Return where the brokers are and what topics look like there."""
    from infra.kafka.topics import Cluster  # noqa: PLC0415 - as above

    return Cluster(
        settings.brokers,
        settings.kafka_partitions,
        settings.kafka_replication,
        settings.kafka_generation,
        settings.kafka_prefix,
    )
