"""Refusals of the registry.

Refusal
|-- AlreadyFounded       another genesis document founded this community
|-- NotFounded           there is no community yet
|-- CommunityUnsound     the genesis document breaks its own rules
|-- UnknownMember, UnknownNode, UnknownDevice, UnknownApiKey
|-- HandleTaken, KeyInUse, KeyNotLiving, LastKey, KeyLinkedAlready, WalletLinkedAlready
|-- ApiKeyInUse, TooManyApiKeys
|-- RoleAlreadyHeld, RoleNotHeld, LastOperator
|-- NotTheOwner, NotTheSubject
|-- UnknownZone          the community knows no carbon factor of the grid zone
|-- BelowMinimum, NothingPayable, DeviceRepeated, TooManyDevices, TermsNotAccepted
|-- NodeIsRetired, AlreadySuspended, NotSuspended, DeviceInDispute, NotInDispute, AnswersDisagree
|-- VersionNotNext, EffectiveTooEarly
"""

from __future__ import annotations

from services.kernel.errors import Refusal


class AlreadyFounded(Refusal):
    """Another genesis document founded this community; `sha256` is that document's."""

    slug = "already-founded"
    title = "Community already founded"


class NotFounded(Refusal):
    """There is no community yet."""

    slug = "not-founded"
    title = "Community not founded yet"


class CommunityUnsound(Refusal):
    """The genesis document breaks its own rules; `problems` lists each with its path."""

    slug = "community-unsound"
    title = "Genesis document unsound"


class UnknownMember(Refusal):
    """No such member."""

    slug = "unknown-member"
    title = "Unknown member"


class UnknownNode(Refusal):
    """No such node in the registry."""

    slug = "unknown-registered-node"
    title = "Unknown node"


class UnknownDevice(Refusal):
    """Nobody claims this device."""

    slug = "unclaimed-device"
    title = "Unknown device"


class UnknownApiKey(Refusal):
    """The member has no such living API key."""

    slug = "unknown-api-key"
    title = "Unknown API key"


class HandleTaken(Refusal):
    """Another member has this handle."""

    slug = "handle-taken"
    title = "Handle taken"


class KeyInUse(Refusal):
    """The key is or was somebody's: a key is one subject's, once and for ever."""

    slug = "key-in-use"
    title = "Key in use"


class KeyNotLiving(Refusal):
    """The key that asks is not the subject's living key."""

    slug = "key-not-living"
    title = "Key not living"


class LastKey(Refusal):
    """A member keeps at least one key: without it nobody could ever act for it again."""

    slug = "last-key"
    title = "Last key"


class KeyLinkedAlready(Refusal):
    """A member has at most one Ed25519 key; another one takes its place by `RotateKey`."""

    slug = "key-linked-already"
    title = "Key linked already"


class WalletLinkedAlready(Refusal):
    """A member has at most one wallet; another one takes its place by `RotateWallet`."""

    slug = "wallet-linked-already"
    title = "Wallet linked already"


class ApiKeyInUse(Refusal):
    """An API key with this id exists or existed."""

    slug = "api-key-in-use"
    title = "API key id in use"


class TooManyApiKeys(Refusal):
    """The member has as many living API keys as one may have."""

    slug = "too-many-api-keys"
    title = "Too many API keys"


class RoleAlreadyHeld(Refusal):
    """The member holds this role."""

    slug = "role-already-held"
    title = "Role already held"


class RoleNotHeld(Refusal):
    """The member does not hold this role."""

    slug = "role-not-held"
    title = "Role not held"


class LastOperator(Refusal):
    """A community never loses its last operator."""

    slug = "last-operator"
    title = "Last operator"


class NotTheSubject(Refusal):
    """Only the person themselves, or a ruling, has their data erased."""

    slug = "not-the-subject"
    title = "Not your own data"


class NotTheOwner(Refusal):
    """Only the node's owner may do this."""

    slug = "not-the-owner"
    title = "Not the owner"


class UnknownZone(Refusal):
    """The community knows no carbon factor of the grid zone, and a world average is never taken."""

    slug = "unknown-grid-zone"
    title = "Unknown grid zone"


class BelowMinimum(Refusal):
    """A resource is below what the community takes; `resource`, `minimum` and `stated` say which."""

    slug = "below-minimum"
    title = "Below the minimum"


class NothingPayable(Refusal):
    """The node states nothing of what the community pools."""

    slug = "nothing-payable"
    title = "Nothing the community pools"


class DeviceRepeated(Refusal):
    """One device stands twice in one node."""

    slug = "device-repeated"
    title = "Device repeated"


class TooManyDevices(Refusal):
    """A node has at most so many devices."""

    slug = "too-many-devices"
    title = "Too many devices"


class TermsNotAccepted(Refusal):
    """The owner accepts the security baseline in force and that no sensitive data is processed, or lends nothing."""

    slug = "terms-not-accepted"
    title = "Terms not accepted"


class NodeIsRetired(Refusal):
    """A retired node never comes back."""

    slug = "node-is-retired"
    title = "Node retired"


class AlreadySuspended(Refusal):
    """This suspension is in force."""

    slug = "already-suspended"
    title = "Already suspended"


class NotSuspended(Refusal):
    """No such suspension is in force."""

    slug = "not-suspended"
    title = "Not suspended"


class DeviceInDispute(Refusal):
    """A dispute over a device ends only by the answers of all who claim it, or when all but one retire."""

    slug = "device-in-dispute"
    title = "Device in dispute"


class NotInDispute(Refusal):
    """Nobody disputes this device."""

    slug = "not-in-dispute"
    title = "Device not in dispute"


class AnswersDisagree(Refusal):
    """The answers do not show that all claimants solved the same challenge in the same second."""

    slug = "answers-disagree"
    title = "Answers disagree"


class VersionNotNext(Refusal):
    """A table's version is the last one plus one; `expected` says which."""

    slug = "version-not-next"
    title = "Version not next"


class EffectiveTooEarly(Refusal):
    """A table comes into force neither in the past nor before the version it replaces."""

    slug = "effective-too-early"
    title = "Effective too early"
