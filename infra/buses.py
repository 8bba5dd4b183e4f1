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
from infra.postgres.view_bus import keep_to_bus, move_views
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


def relay_channels(settings: Settings, services: Sequence[str]) -> dict[str, str]:
    """Return by service the channel a relay's checkpoint stands on; none where nothing is relayed."""
    if settings.bus == TAIL:
        return {}
    cluster = cluster_of(settings)
    return {service: cluster.relay_channel(service) for service in services}


async def refuse_another_bus(settings: Settings, dsn: str) -> None:
    """Raise BusChanged when the views of the database follow another bus than the settings name."""
    await keep_to_bus(dsn, bus_name(settings))


async def move_to_bus(settings: Settings, dsn: str) -> int:
    """Let the views go on along the bus the settings name; return how many. Raises NotDrained.

    Nothing may follow meanwhile; who does finds its checkpoints gone, and stops.
    """

    def channels(service: str) -> Sequence[str]:
        if settings.bus == TAIL:
            return [service]
        cluster = cluster_of(settings)
        return [cluster.channel(service, partition) for partition in range(cluster.partitions)]

    return await move_views(dsn, bus_name(settings), channels)


def bus_name(settings: Settings) -> str:
    """Return what the bus is noted as; brokers may change their addresses, a generation has topics of its own."""
    return TAIL if settings.bus == TAIL else f"kafka:{settings.kafka_prefix}generation-{settings.kafka_generation}"


def cluster_of(settings: Settings) -> Cluster:
    """Return where the brokers are and what topics look like there."""
    from infra.kafka.security import Security  # noqa: PLC0415 - as above
    from infra.kafka.topics import Cluster  # noqa: PLC0415 - as above

    return Cluster(
        settings.brokers,
        settings.kafka_partitions,
        settings.kafka_replication,
        settings.kafka_generation,
        settings.kafka_prefix,
        Security(
            settings.kafka_security,
            settings.kafka_ca_file,
            settings.kafka_mechanism,
            settings.kafka_user,
            settings.kafka_password,
        ),
    )
