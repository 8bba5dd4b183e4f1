from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from events.values import member_id
from infra.keys import KeyDirectory, KeyFileRefused, derive_key, member_key, signing_key
from services.kernel.errors import AuthenticationFailed
from services.kernel.jws import parse_jws, raw_public, thumbprint, unb64

RFC_8037_SEED = unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")


def test_a_key_is_the_one_of_rfc_8037() -> None:
    """RFC 8037 appendix A: the public key and its RFC 7638 thumbprint."""
    key = signing_key(RFC_8037_SEED)
    assert key.public.x == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_first_start_makes_private_keys_and_later_ones_keep_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = KeyDirectory(home).signing("operator")
    assert KeyDirectory(home).signing("operator").kid == first.kid
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home / "keys").iterdir()] == [0o600]


def test_several_starts_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: KeyDirectory(tmp_path).secret("operator"), range(32)))
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["operator.key"]


def test_a_key_others_can_read_is_refused_with_the_fix(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.secret("operator")
    (tmp_path / "keys" / "operator.key").chmod(0o644)
    with pytest.raises(KeyFileRefused, match="chmod 600"):
        keys.secret("operator")


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_a_damaged_key_file_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    keys = KeyDirectory(tmp_path)
    keys.secret("operator")
    path = tmp_path / "keys" / "operator.key"
    path.write_text(text)
    with pytest.raises(KeyFileRefused, match="backup"):
        keys.secret("operator")
    assert path.read_text() == text


def test_derived_keys_follow_from_seed_and_names_and_names_do_not_run_together() -> None:
    seed = bytes(32)
    assert derive_key(seed, "a", "b").kid == derive_key(seed, "a", "b").kid
    assert len({derive_key(seed, *names).kid for names in (("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"))}) == 4
    assert member_key(seed, "operator").kid == signing_key(seed).kid


def test_a_jws_verifies_under_its_own_key_only() -> None:
    one, other = derive_key(bytes(32), "one"), derive_key(bytes(32), "other")
    jws = parse_jws(one.jws(b"payload"))
    assert jws.payload == b"payload"
    jws.verify(raw_public(one.private))
    with pytest.raises(AuthenticationFailed):
        jws.verify(raw_public(other.private))
    assert one.member == member_id(raw_public(one.private))
    assert thumbprint(raw_public(one.private)) == one.kid


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_jws_with_one_character_changed_is_refused(part: int) -> None:
    key = derive_key(bytes(32), "one")
    parts = key.jws(b'{"a":1}').split(".")
    parts[part] = ("B" if parts[part][0] == "A" else "A") + parts[part][1:]
    with pytest.raises(AuthenticationFailed):
        parse_jws(".".join(parts)).verify(raw_public(key.private))


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "e30.e30.AA", "eyJhbGciOiJub25lIiwia2lkIjoiIn0..AA"])
def test_what_is_no_jws_of_ours_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationFailed):
        parse_jws(text)
