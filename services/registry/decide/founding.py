"""Found a community: the genesis document becomes the first facts, all in one commit."""

from __future__ import annotations

from collections.abc import Iterator

from events.genesis import Community
from events.registry import CommunityFounded, MemberRegistered, PerformanceTableAdopted, RoleGranted
from events.values import member_id
from services.kernel.decider import Context, Decision, Emit
from services.kernel.directory import raw_key
from services.registry.commands import FoundCommunity
from services.registry.errors import AlreadyFounded, CommunityUnsound
from services.registry.genesis import FOUNDER, check, instant_ms, sha256, table_sha256
from services.registry.state import Directory


def found_community(command: FoundCommunity, state: Directory, context: Context) -> Decision:
    """Decide the founding. Raises AlreadyFounded for another document, CommunityUnsound for one that breaks rules."""
    assert context.actor == FOUNDER, context.actor
    community = command.community
    digest = sha256(community)
    answer = {"sha256": digest, "origin": community.origin}
    if state.genesis_sha256 == digest:
        return Decision((), answer)
    if state.community is not None:
        raise AlreadyFounded(
            f"{state.origin} was founded here from another document", sha256=state.genesis_sha256, offered=digest
        )
    problems = check(community) or _too_early(community, context.time_ms)
    if problems:
        raise CommunityUnsound("; ".join(problems), problems=problems)
    return Decision(tuple(_facts(community, digest)), answer)


def _too_early(community: Community, now_ms: int) -> list[str]:
    """List what must lie in the past when the community is founded: epoch zero and every backfill's span."""
    times = [("epochs.zero", community.epochs.zero)]
    times += [(f"backfills[{index}].end", backfill.end) for index, backfill in enumerate(community.backfills)]
    return [f"{path}: {text} lies after the founding" for path, text in times if instant_ms(text) > now_ms]


def _facts(community: Community, digest: str) -> Iterator[Emit]:
    yield Emit("community", CommunityFounded(community, digest))
    for founder in community.members:
        member = member_id(raw_key(founder.key))
        yield Emit(member, MemberRegistered(member, founder.handle, founder.kind, founder.key, founder.guild))
        for role in founder.roles:
            yield Emit(member, RoleGranted(member, role))
    # In force from epoch zero on, not from the founding: a backfill's epochs lie before it.
    zero_ms = instant_ms(community.epochs.zero)
    for table in community.performance_tables:
        yield Emit(f"table/{table.work_class}", PerformanceTableAdopted(table, table_sha256(table), zero_ms))
