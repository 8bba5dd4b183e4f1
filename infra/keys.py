"""Keys in files: made at the first start, mode 0600, never printed. Derived keys follow from one seed and a name."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from events.registry_terms import PublicKey
from events.values import identifier, member_id, node_id
from services.kernel.jws import public_key, raw_public, sign_jws

SEED_BYTES: Final = 32


class KeyFileRefused(Exception):
    """A key file cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key with its published form."""

    private: Ed25519PrivateKey
    public: PublicKey

    @property
    def kid(self) -> str:
        """The RFC 7638 thumbprint."""
        return self.public.kid

    @property
    def member(self) -> str:
        """The id of the member whose first key this is."""
        return member_id(raw_public(self.private))

    @property
    def node(self) -> str:
        """The id of the node whose first key this is."""
        return node_id(raw_public(self.private))

    def jws(self, payload: bytes) -> str:
        """Return the compact JWS of `payload` by this key."""
        return sign_jws(self.private, self.kid, payload)


def signing_key(seed: bytes) -> SigningKey:
    """Return the key of a 32-byte seed."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return SigningKey(private, public_key(raw_public(private)))


def derive_key(seed: bytes, *names: str) -> SigningKey:
    """Return the key that follows from a seed and names (HKDF-SHA256, RFC 5869): two runs agree on it."""
    info = identifier("commons.derived-key", *names).encode()
    return signing_key(HKDF(SHA256(), SEED_BYTES, None, info).derive(seed))


def member_key(seed: bytes, handle: str) -> SigningKey:
    """Return a member's key in demos and imports: the operator's own for `operator`, else derived from it."""
    return signing_key(seed) if handle == "operator" else derive_key(seed, "member", handle)


class KeyDirectory:
    """The keys of one home: `operator` (the person who runs it), `acknowledgements` (this instance), `inputs`."""

    def __init__(self, home: Path) -> None:
        """Use `home/keys`, made 0700 where it is missing."""
        self._path = home / "keys"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.mkdir(mode=0o700, exist_ok=True)

    def secret(self, name: str) -> bytes:
        """Return the 32 secret bytes of that name, made at the first call. Raises KeyFileRefused."""
        path = self._path / f"{name}.key"
        if not path.exists():
            self._make(path)
        return read_secret(path)

    def signing(self, name: str) -> SigningKey:
        """Return the signing key of that name."""
        return signing_key(self.secret(name))

    def _make(self, path: Path) -> None:
        """Write a new secret whole before it gets its name, so that two processes at once agree on one."""
        draft = path.with_suffix(f".{secrets.token_hex(8)}.new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_bytes(SEED_BYTES).hex())
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()


def read_secret(path: Path) -> bytes:
    """Return the 32 secret bytes in a key file (64 hex digits, mode 0600). Raises KeyFileRefused."""
    if not path.is_file():
        raise KeyFileRefused(f"there is no key file {path}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise KeyFileRefused(f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}")
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except ValueError as error:
        raise KeyFileRefused(f"{path} does not hold a key: restore it from your backup") from error
    if len(seed) != SEED_BYTES:
        raise KeyFileRefused(f"{path} holds {len(seed)} bytes instead of {SEED_BYTES}: restore it from your backup")
    return seed
