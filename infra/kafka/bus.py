"""The bus `kafka:`: followers read the topics that the relays fill."""

from __future__ import annotations

from collections.abc import Mapping

from events.bus import Follower, Subscription
from events.store import Store
from infra.kafka.ordered import OrderedSubscription
from infra.kafka.outage import Outage, WatchedSubscription
from infra.kafka.partitioned import PartitionedSubscription
from infra.kafka.topics import BrokersAway, Cluster, ensure_topics


class KafkaBus:
    """Subscribes followers to topics. The stores are read only where a checkpoint is compared with its record."""

    def __init__(self, cluster: Cluster, stores: Mapping[str, Store]) -> None:
        """Follow the topics of `stores`, by service name."""
        self._cluster = cluster
        self._stores = stores
        self._outage = Outage(cluster.bootstrap)

    async def subscribe(self, follower: Follower) -> Subscription:
        """Return a subscription after the follower's checkpoints, which are read again after every rebalance.

        Raises StoreUnavailable, PartitionsDiffer. A store that was rewound is told by the first `fetch`, because
        only then it is known which channels this process has.
        """
        made = OrderedSubscription if follower.in_order else PartitionedSubscription
        try:
            await ensure_topics(self._cluster, follower.services)
            subscription = made(self._cluster, follower, self._stores)
            await subscription.start()
        except BrokersAway as error:
            self._outage.tell(away=True, why=str(error))
            raise
        self._outage.tell(away=False)
        return WatchedSubscription(subscription, self._outage)
