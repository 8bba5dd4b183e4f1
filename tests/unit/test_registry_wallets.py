"""Wallets as keys of members, decided; and the chain a community's wallets sign for."""

from __future__ import annotations

import msgspec
import pytest

from events.genesis import Chain, chain_of
from events.registry import KeyLinked, MemberRegistered, WalletLinked, WalletRotated, WalletUnlinked
from events.registry_terms import PublicKey, Wallet
from services.kernel.errors import InvalidField, PermissionDenied
from services.kernel.snapshot import freeze, thaw
from services.registry import commands, errors
from services.registry.genesis import canonical, check, sha256
from services.registry.state import Directory
from tests.registry_world import World, community, key, member
from tests.wallet_edge import wallet


def shown(name: str) -> Wallet:
    return Wallet(wallet(name).address, "possession")


def linked(handle: str = "aurora", name: str = "one") -> World:
    world = World()
    world.when(commands.LinkWallet(shown(name), "jws"), handle)
    return world


def test_a_linked_wallet_lives_beside_the_key() -> None:
    world = World()
    assert world.when(commands.LinkWallet(shown("one"), "jws"), "aurora") == [
        WalletLinked(member("aurora"), shown("one"), "jws")
    ]
    address = wallet("one").address
    assert world.state.wallets[address] == member("aurora")
    assert world.state.members[member("aurora")].kid == key("aurora").kid
    assert world.state.lives(address)
    assert world.state.lives(key("aurora").kid)
    assert not world.state.lives(wallet("two").address)


def test_a_member_has_one_wallet() -> None:
    with pytest.raises(errors.WalletLinkedAlready):
        linked().when(commands.LinkWallet(shown("two"), "jws"), "aurora")


def test_a_wallet_is_one_members_once_and_for_ever() -> None:
    world = linked()
    with pytest.raises(errors.KeyInUse):
        world.when(commands.LinkWallet(shown("one"), "jws"), "basalt")
    world.when(commands.RotateWallet(wallet("one").address, shown("two"), "typed"), "aurora")
    with pytest.raises(errors.KeyInUse):
        world.when(commands.LinkWallet(shown("one"), "jws"), "basalt")
    with pytest.raises(errors.KeyInUse):
        world.when(commands.RegisterMember("willow", "human", None, None, "jws", shown("two")), "steward")


def test_only_the_present_wallet_names_its_successor() -> None:
    world = linked()
    with pytest.raises(errors.KeyNotLiving):
        world.when(commands.RotateWallet(wallet("one").address, shown("two"), "typed"), "basalt")
    with pytest.raises(errors.KeyNotLiving):
        world.when(commands.RotateWallet(wallet("other").address, shown("two"), "typed"), "aurora")
    assert world.when(commands.RotateWallet(wallet("one").address, shown("two"), "typed"), "aurora") == [
        WalletRotated(member("aurora"), wallet("one").address, shown("two"), "typed")
    ]
    assert world.state.dead_wallets[wallet("one").address] == member("aurora")
    assert not world.state.lives(wallet("one").address)


def test_an_unlinked_wallet_leaves_the_key() -> None:
    world = linked()
    with pytest.raises(errors.KeyNotLiving):
        world.when(commands.UnlinkWallet(wallet("one").address, "jws"), "basalt")
    assert world.when(commands.UnlinkWallet(wallet("one").address, "jws"), "aurora") == [
        WalletUnlinked(member("aurora"), wallet("one").address, "jws")
    ]
    assert world.state.members[member("aurora")].wallet is None
    world.when(commands.LinkWallet(shown("two"), "jws"), "aurora")


def test_a_member_with_only_a_wallet_keeps_its_id_through_rotations_and_cannot_lose_it() -> None:
    world = World()
    (fact,) = world.when(commands.RegisterMember("willow", "human", None, None, "jws", shown("one")), "steward")
    assert isinstance(fact, MemberRegistered)
    assert fact.member == wallet("one").member
    assert world.state.members[fact.member].kid == wallet("one").address
    world.spec.when(commands.RotateWallet(wallet("one").address, shown("two"), "typed"), fact.member)
    assert world.state.members[fact.member].kid == wallet("two").address
    with pytest.raises(errors.LastKey):
        world.spec.when(commands.UnlinkWallet(wallet("two").address, "typed"), fact.member)
    with pytest.raises(errors.KeyNotLiving):
        world.spec.when(commands.RotateKey(wallet("two").address, key("willow"), "typed", "jws"), fact.member)


def test_a_member_with_only_a_wallet_links_a_first_key_and_may_then_leave_the_wallet() -> None:
    world = World()
    world.when(commands.RegisterMember("willow", "human", None, None, "jws", shown("one")), "steward")
    mine, address = wallet("one").member, wallet("one").address
    taken = commands.LinkKey(key("aurora"), "typed", "possession")
    with pytest.raises(errors.KeyInUse):
        world.spec.when(taken, mine)
    fact = KeyLinked(mine, key("willow"), "typed", "possession")
    assert list(world.spec.when(commands.LinkKey(key("willow"), "typed", "possession"), mine)) == [fact]
    assert world.state.lives(address)
    assert world.state.keys[key("willow").kid].subject == mine
    with pytest.raises(errors.KeyLinkedAlready):
        world.spec.when(commands.LinkKey(key("other"), "typed", "possession"), mine)
    with pytest.raises(errors.KeyLinkedAlready):
        world.when(commands.LinkKey(key("other"), "jws", "possession"), "aurora")
    world.spec.when(commands.UnlinkWallet(address, "jws"), mine)
    assert not world.state.lives(address)
    assert world.state.members[mine].kid == key("willow").kid


@pytest.mark.parametrize(("first", "mine"), [(key("w"), shown("one")), (None, None)], ids=["both", "neither"])
def test_a_member_starts_with_exactly_one_key(first: PublicKey | None, mine: Wallet | None) -> None:
    with pytest.raises(InvalidField, match="one key"):
        World().when(commands.RegisterMember("willow", "human", first, None, "jws", mine), "steward")


def test_a_member_who_may_not_register_others_registers_no_wallet_either() -> None:
    with pytest.raises(PermissionDenied):
        World().when(commands.RegisterMember("willow", "human", None, None, "jws", shown("one")), "aurora")


def test_an_address_in_another_spelling_is_no_key() -> None:
    with pytest.raises(InvalidField, match="EIP-55"):
        World().when(commands.LinkWallet(Wallet(wallet("one").address.lower(), "p"), "jws"), "aurora")


def test_wallets_stay_in_a_snapshot() -> None:
    state = linked().state
    assert thaw(freeze(state), Directory) == state


def test_the_default_chain_changes_no_hash_of_a_document_that_leaves_it_out() -> None:
    document = community()
    assert b"chain" not in canonical(document)
    assert chain_of(document) == Chain(31_337, "0x" + "00" * 20)
    assert sha256(msgspec.structs.replace(document, chain=Chain(1))) != sha256(document)


@pytest.mark.parametrize(
    ("chain", "problem"),
    [
        (Chain(0), "chain.chain_id"),
        (Chain(2**53), "chain.chain_id"),
        (Chain(contract="0x1"), "chain.contract"),
        (Chain(contract="0x52908400098527886e0f7030069857d2e4169ee7"), "chain.contract"),
    ],
)
def test_a_chain_no_wallet_could_sign_for_is_refused(chain: Chain, problem: str) -> None:
    assert any(found.startswith(problem) for found in check(community(chain=chain)))
