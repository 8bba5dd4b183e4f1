"""Members, roles, keys and API keys."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from events.registry import ApiKeyIssued, ApiKeyRevoked, KeyRotated, MemberRegistered, RoleGranted, RoleRevoked
from events.values import DAY_MS
from services.kernel.errors import InvalidField, PermissionDenied
from services.registry import commands, errors
from services.registry.service import service
from tests.registry_world import World, key, member, node, registration
from tests.spec import NOW_US, Spec

SECRET = hashlib.sha256(b"a secret only the member knows").hexdigest()
TOMORROW_MS = NOW_US // 1_000 + DAY_MS


def newcomer(handle: str = "willow", name: str = "willow") -> commands.RegisterMember:
    return commands.RegisterMember(handle, "human", key(name), None, "jws")


def api_key(key_id: str = "0123456789abcdef", expires_ms: int = TOMORROW_MS) -> commands.IssueApiKey:
    return commands.IssueApiKey(key_id, SECRET, "dashboard", expires_ms)


def test_a_steward_registers_a_member_whose_id_follows_from_its_key() -> None:
    (fact,) = World().when(newcomer(), "steward")
    assert fact == MemberRegistered(member("willow"), "willow", "human", key("willow"), None, member("steward"), "jws")


def test_a_provider_registers_nobody() -> None:
    with pytest.raises(PermissionDenied):
        World().when(newcomer(), "aurora")


def test_before_the_founding_there_is_nobody_to_ask() -> None:
    with pytest.raises(errors.NotFounded):
        Spec(service()).when(newcomer(), member("steward"))


def test_a_handle_is_taken_once() -> None:
    with pytest.raises(errors.HandleTaken):
        World().when(newcomer("aurora"), "steward")


def test_a_key_is_one_members_only() -> None:
    with pytest.raises(errors.KeyInUse):
        World().when(newcomer("willow", "aurora"), "steward")


@pytest.mark.parametrize("handle", ["", "Willow", "a b", "-a", "a" * 65, "w\x00"])
def test_a_handle_is_a_short_lower_case_name(handle: str) -> None:
    with pytest.raises(InvalidField):
        World().when(newcomer(handle), "steward")


def test_a_key_with_another_thumbprint_is_refused() -> None:
    forged = msgspec.structs.replace(key("willow"), kid=key("other").kid)
    with pytest.raises(InvalidField, match="thumbprint"):
        World().when(commands.RegisterMember("willow", "human", forged, None, "jws"), "steward")


def test_a_role_is_granted_and_revoked_with_the_signature_inside() -> None:
    world = World()
    grant = commands.GrantRole(member("lab"), "provider", "jws-grant")
    assert world.when(grant, "steward") == [RoleGranted(member("lab"), "provider", "jws-grant")]
    with pytest.raises(errors.RoleAlreadyHeld):
        world.when(grant, "steward")
    revoke = commands.RevokeRole(member("lab"), "provider", "jws-revoke")
    assert world.when(revoke, "steward") == [RoleRevoked(member("lab"), "provider", "jws-revoke")]
    with pytest.raises(errors.RoleNotHeld):
        world.when(revoke, "steward")


def test_a_role_for_nobody_is_refused() -> None:
    with pytest.raises(errors.UnknownMember):
        World().when(commands.GrantRole(member("nobody"), "provider", "jws"), "steward")


def test_a_steward_cannot_raise_itself_to_operator() -> None:
    with pytest.raises(PermissionDenied):
        World().when(commands.GrantRole(member("steward"), "operator", "jws"), "steward")


def test_the_last_operator_stays() -> None:
    world = World()
    with pytest.raises(errors.LastOperator):
        world.when(commands.RevokeRole(member("operator"), "operator", "jws"), "operator")
    world.when(commands.GrantRole(member("steward"), "operator", "jws"), "operator")
    world.when(commands.RevokeRole(member("operator"), "operator", "jws"), "operator")
    assert world.state.members[member("operator")].roles == frozenset()


def test_a_revoked_role_permits_nothing_from_the_next_decision_on() -> None:
    world = World()
    world.when(commands.RevokeRole(member("steward"), "steward", "jws"), "operator")
    with pytest.raises(PermissionDenied):
        world.when(newcomer(), "steward")


def test_a_rotated_key_replaces_the_old_one_and_the_member_keeps_its_id() -> None:
    world = World()
    rotate = commands.RotateKey(key("aurora").kid, key("aurora-2"), "old-jws", "new-jws")
    (fact,) = world.when(rotate, "aurora")
    assert fact == KeyRotated(member("aurora"), key("aurora").kid, key("aurora-2"), "old-jws", "new-jws")
    assert world.state.members[member("aurora")].kid == key("aurora-2").kid
    assert key("aurora").kid not in world.state.keys
    assert world.state.dead_keys[key("aurora").kid] == member("aurora")


def test_an_old_key_never_comes_back() -> None:
    world = World()
    world.when(commands.RotateKey(key("aurora").kid, key("aurora-2"), "jws", "jws"), "aurora")
    with pytest.raises(errors.KeyInUse):
        world.when(commands.RotateKey(key("aurora-2").kid, key("aurora"), "jws", "jws"), "aurora")
    with pytest.raises(errors.KeyInUse):
        world.when(newcomer("willow", "aurora"), "steward")


def test_a_dead_key_rotates_nothing() -> None:
    world = World()
    world.when(commands.RotateKey(key("aurora").kid, key("aurora-2"), "jws", "jws"), "aurora")
    with pytest.raises(errors.KeyNotLiving):
        world.when(commands.RotateKey(key("aurora").kid, key("aurora-3"), "jws", "jws"), "aurora")


def test_a_node_rotates_its_own_key_and_keeps_its_id() -> None:
    world = World()
    one = world.joins("one")
    world.spec.when(commands.RotateKey(key("one").kid, key("one-2"), "jws", "jws"), one)
    assert world.state.nodes[one].kid == key("one-2").kid
    with pytest.raises(errors.KeyInUse):
        world.when(registration("one"), "aurora")


def test_an_unknown_node_rotates_nothing() -> None:
    with pytest.raises(errors.UnknownNode):
        World().spec.when(commands.RotateKey("kid", key("x"), "jws", "jws"), node("nowhere"))


def test_an_api_key_is_known_by_the_hash_of_its_secret_only() -> None:
    world = World()
    (fact,) = world.when(api_key(), "lab")
    assert fact == ApiKeyIssued(member("lab"), "0123456789abcdef", SECRET, "dashboard", TOMORROW_MS)
    (ended,) = world.when(commands.RevokeApiKey("0123456789abcdef"), "lab")
    assert ended == ApiKeyRevoked(member("lab"), "0123456789abcdef")
    assert "0123456789abcdef" not in world.state.api_keys


def test_the_id_of_an_api_key_is_used_once_for_ever() -> None:
    world = World()
    world.when(api_key(), "lab")
    with pytest.raises(errors.ApiKeyInUse):
        world.when(api_key(), "aurora")
    world.when(commands.RevokeApiKey("0123456789abcdef"), "lab")
    with pytest.raises(errors.ApiKeyInUse):
        world.when(api_key(), "lab")


def test_nobody_revokes_another_members_api_key() -> None:
    world = World()
    world.when(api_key(), "lab")
    with pytest.raises(errors.UnknownApiKey):
        world.when(commands.RevokeApiKey("0123456789abcdef"), "aurora")


@pytest.mark.parametrize(
    "command",
    [
        api_key("short"),
        api_key("0123456789ABCDEF"),
        api_key(expires_ms=NOW_US // 1_000),
        api_key(expires_ms=NOW_US // 1_000 + 401 * DAY_MS),
        commands.IssueApiKey("0123456789abcdef", "the secret itself", "", TOMORROW_MS),
        commands.IssueApiKey("0123456789abcdef", SECRET, "a\nb", TOMORROW_MS),
    ],
)
def test_an_api_key_out_of_form_is_refused(command: commands.IssueApiKey) -> None:
    with pytest.raises(InvalidField):
        World().when(command, "lab")


def test_a_member_has_at_most_sixteen_living_api_keys() -> None:
    world = World()
    for number in range(16):
        world.when(api_key(f"{number:016x}"), "lab")
    with pytest.raises(errors.TooManyApiKeys):
        world.when(api_key("f" * 16), "lab")
    world.spec.at((TOMORROW_MS + 1) * 1_000)
    world.when(api_key("f" * 16, TOMORROW_MS + DAY_MS), "lab")
