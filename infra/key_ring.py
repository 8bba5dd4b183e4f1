"""The keys of a home over time: which there are, how old, and how one takes another's place.

Beside a key that was rotated lies `<name>.history.json`: who it stands for and every earlier public key with its time
span, so that what it signed can still be verified. Earlier secrets are not kept.
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from events.registry_terms import PublicKey
from infra.home import PASSWORD, replace_file
from infra.keys import SEED_BYTES, KeyDirectory, KeyFileRefused, SigningKey, signing_key

PURPOSES: Final = {
    "operator": "signs as the member who runs this home",
    "acknowledgements": "signs what this instance answered (Commons-Ack)",
    "inputs": "keyed hash of what commands asked for; never leaves the home",
    "master": "wraps the keys of sealed personal data; replaced at every erasure",
    PASSWORD: "password of the embedded database",
}
SIGNING: Final = ("operator", "acknowledgements")


class Retired(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An earlier public key and the span (milliseconds UTC) in which it signed."""

    kid: str
    x: str
    from_ms: int
    until_ms: int


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of a key's predecessors; `member` is the id that follows from the very first one."""

    member: str
    since_ms: int
    retired: tuple[Retired, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as it lies there: what it is for, its kid where it signs, when it was made, its mode."""

    name: str
    purpose: str
    kid: str
    x: str
    since_ms: int
    mode: int
    retired: int


class KeyRing:
    """The keys of one home with their past."""

    def __init__(self, home: Path) -> None:
        """Use `home/keys`."""
        self._path = home / "keys"
        self.keys = KeyDirectory(home)

    def member(self) -> str:
        """Return the operator's member id: it follows from the first key and outlives it."""
        return self.history("operator").member

    def history(self, name: str) -> History:
        """Return a signing key's past. Raises KeyFileRefused."""
        key = self.keys.signing(name)
        path = self._history_file(name)
        if not path.exists():
            return History(key.member, int((self._path / f"{name}.key").stat().st_mtime_ns // 1_000_000))
        try:
            return msgspec.json.decode(path.read_bytes(), type=History)
        except msgspec.DecodeError as error:
            raise KeyFileRefused(f"{path} cannot be read: restore it from your backup") from error

    def files(self) -> list[KeyFile]:
        """Return every key file there is, the signing keys first, making those at the first call."""
        for name in SIGNING:
            self.keys.signing(name)
        found = {path.name.removesuffix(".key"): path for path in self._path.iterdir() if _is_key(path)}
        order = [*SIGNING, *sorted(set(found) - set(SIGNING))]
        return [self._file(name, found[name]) for name in order]

    def published(self) -> Mapping[str, Any]:
        """Return the acknowledgements' public keys as a JWK set (RFC 7517), each with the span in which it signs."""
        key, history = self.keys.signing("acknowledgements"), self.history("acknowledgements")
        now = _jwk(key.public.x, key.kid, history.since_ms, None)
        return {"keys": [now, *(_jwk(old.x, old.kid, old.from_ms, old.until_ms) for old in reversed(history.retired))]}

    def draft(self, name: str) -> SigningKey:
        """Return the key that shall take the place of `name`, kept under `<name>.next` until it does."""
        path = self._next_file(name)
        if not path.exists():
            replace_file(path, secrets.token_bytes(SEED_BYTES).hex().encode())
        return signing_key(self.keys.secret(f"{name}.next"))

    def has_draft(self, name: str) -> bool:
        """Tell whether a rotation was begun and not ended."""
        return self._next_file(name).exists()

    def adopt(self, name: str, now_ms: int) -> SigningKey:
        """Let the draft take the key's place: the past first, then the secret, so that no kid is ever forgotten."""
        old, history, new = self.keys.signing(name), self.history(name), self.draft(name)
        if all(retired.kid != old.kid for retired in history.retired):
            gone = Retired(old.kid, old.public.x, history.since_ms, now_ms)
            after = History(history.member, now_ms, (*history.retired, gone))
            replace_file(self._history_file(name), msgspec.json.format(msgspec.json.encode(after)) + b"\n")
        self._next_file(name).rename(self._path / f"{name}.key")
        return new

    def _history_file(self, name: str) -> Path:
        return self._path / f"{name}.history.json"

    def _next_file(self, name: str) -> Path:
        return self._path / f"{name}.next.key"

    def _file(self, name: str, path: Path) -> KeyFile:
        found = path.stat()
        public, retired, since = PublicKey("", ""), 0, found.st_mtime_ns // 1_000_000
        if name in SIGNING:
            history = self.history(name)
            public, retired, since = self.keys.signing(name).public, len(history.retired), history.since_ms
        known = "master" if name.startswith("master.") else name
        purpose = PURPOSES.get(known, "a rotation that was begun" if name.endswith(".next") else "not known")
        return KeyFile(name, purpose, public.kid, public.x, since, stat.S_IMODE(found.st_mode), retired)


def _is_key(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".key" or path.name == PASSWORD)


def _jwk(x: str, kid: str, from_ms: int, until_ms: int | None) -> dict[str, str]:
    made = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x, "from": rfc3339(from_ms)}
    return made if until_ms is None else made | {"until": rfc3339(until_ms)}


def rfc3339(ms: int) -> str:
    """Return milliseconds UTC as text."""
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
