"""Metering's refusals about what is held back and disputed, named for the rule.

Refusal
|-- NothingHeld              nothing that is held back can end, or be disputed, now
|-- NotADisputant            neither a steward nor a consumer of the node
|-- DisputeKnown             one disputes an epoch of a node once
|-- UnknownDispute, DisputeOver
|-- NotAJudge                a steward rules who neither opened it nor owns the node
"""

from __future__ import annotations

from services.kernel.errors import Refusal


class NothingHeld(Refusal):
    """Nothing that is held back of the epoch can end, or be disputed, now."""

    slug = "nothing-held"
    title = "Nothing held back"


class NotADisputant(Refusal):
    """Stewards dispute usage, and those whose project had a lease on the node in one of the epochs."""

    slug = "not-a-disputant"
    title = "May not dispute this usage"


class DisputeKnown(Refusal):
    """The actor has disputed one of these epochs of the node before."""

    slug = "dispute-known"
    title = "Disputed before"


class UnknownDispute(Refusal):
    """There is no such dispute, or nothing it names is held any more."""

    slug = "unknown-dispute"
    title = "Unknown dispute"


class DisputeOver(Refusal):
    """The dispute has its ruling."""

    slug = "dispute-over"
    title = "Dispute is over"


class NotAJudge(Refusal):
    """A steward rules on a dispute who neither opened it nor owns the node."""

    slug = "not-a-judge"
    title = "May not rule on this dispute"
