"""Every number this software tells, with its labels and its unit; docs/operations.md shows the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

MICROS: Final = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
"""Bounds of times in microseconds, from 0.1 ms to 1 s, and two more for what should not happen."""

TIMES: Final = (*MICROS, 5_000_000, 30_000_000)
SIZES: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number: `name` is the one in Prometheus text, without what the kind appends (`_total`, `_bucket`)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[int, ...] = ()

    @property
    def timed(self) -> bool:
        """Tell whether it is a time: kept in microseconds, told in seconds."""
        return self.name.endswith("_seconds")


METRICS: Final = (
    Metric("commons_facts_appended", "counter", ("service",), "facts recorded by this process"),
    Metric("commons_group_commands", "histogram", ("service",), "commands decided and committed together", SIZES),
    Metric("commons_group_facts", "histogram", ("service",), "facts recorded in one commit", SIZES),
    Metric("commons_decide_seconds", "histogram", ("service",), "time to decide one group of commands", TIMES),
    Metric("commons_commit_seconds", "histogram", ("service",), "time of a group from lock to answers", TIMES),
    Metric("commons_queue_commands", "gauge", ("service",), "submissions that wait for the writer now"),
    Metric("commons_refusals", "counter", ("service", "type"), "commands refused by their decision, or undecidable"),
    Metric("commons_http_requests", "counter", ("route", "method", "status"), "requests answered"),
    Metric("commons_http_seconds", "histogram", ("route",), "time to answer a request", TIMES),
    Metric("commons_http_refusals", "counter", ("service", "type"), "commands refused over HTTP, for any reason"),
    Metric("commons_nonces_taken", "counter", (), "nonces of signed requests used up"),
    Metric("commons_nonces_replayed", "counter", (), "requests refused because their nonce was used before"),
    Metric("commons_spool_hours_open", "gauge", (), "hours of late readings that wait for more parts"),
    Metric("commons_spool_parts_waiting", "gauge", (), "parts of late readings kept until their hour is whole"),
    Metric("commons_follower_lag_facts", "gauge", ("follower", "channel"), "facts a follower has not folded yet"),
    Metric("commons_view_parked_facts", "gauge", ("follower",), "facts a view has set aside"),
    Metric("commons_policy_parked_facts", "gauge", ("follower",), "facts a policy has set aside"),
    Metric("commons_view_facts", "counter", ("view",), "facts folded into a view by this process"),
    Metric("commons_view_fold_seconds", "histogram", ("view",), "time to fold and commit one page", TIMES),
    Metric("commons_policy_facts", "counter", ("policy",), "facts a policy has looked at in this process"),
    Metric("commons_relay_position", "gauge", ("service",), "position up to which the brokers have a service's facts"),
    Metric("commons_relay_lag_facts", "gauge", ("service",), "facts the brokers do not have yet"),
    Metric("commons_relay_facts", "counter", ("service",), "facts the brokers have acknowledged to this process"),
)


def by_name() -> Mapping[str, Metric]:
    """Return the metrics by name."""
    return {metric.name: metric for metric in METRICS}
