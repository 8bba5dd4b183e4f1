from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.home import PASSWORD
from infra.key_ring import KeyRing
from infra.keys import KeyFileRefused
from services.kernel.acks import Ack, Acknowledger
from services.kernel.jws import parse_jws, unb64

DAY_MS = 86_400_000


def test_every_key_file_is_listed_with_what_it_is_for_and_no_secret(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.keys.secret("inputs")
    (tmp_path / "keys" / PASSWORD).touch(mode=0o600)
    files = ring.files()
    assert [file.name for file in files] == ["operator", "acknowledgements", "inputs", PASSWORD]
    assert [file.mode for file in files] == [0o600] * 4
    assert [bool(file.kid) for file in files] == [True, True, False, False]
    assert all(file.purpose != "not known" for file in files)
    assert ring.keys.secret("operator").hex() not in repr(files)


def test_a_rotated_key_signs_and_the_old_one_stays_published_with_its_time_span(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    old = ring.keys.signing("acknowledgements")
    since = ring.history("acknowledgements").since_ms
    kept = Acknowledger(old.private, old.kid).sign(Ack("treasury", "2026-11-20T00:00:00Z", "ab" * 32, position="1"))
    ring.draft("acknowledgements")
    new = ring.adopt("acknowledgements", since + DAY_MS)
    assert ring.keys.signing("acknowledgements").kid == new.kid != old.kid
    now, before = ring.published()["keys"]
    assert (now["kid"], before["kid"]) == (new.kid, old.kid)
    assert "until" not in now
    assert before["until"] == now["from"] > before["from"]
    parse_jws(kept).verify(unb64(before["x"]))
    assert not ring.has_draft("acknowledgements")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_the_secret_of_a_rotated_key_is_gone_from_the_home(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    secret = ring.keys.secret("acknowledgements").hex()
    ring.draft("acknowledgements")
    ring.adopt("acknowledgements", DAY_MS)
    assert not any(secret in path.read_text() for path in (tmp_path / "keys").iterdir())


def test_a_member_outlives_its_keys(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    member = ring.member()
    for day in range(1, 4):
        ring.draft("operator")
        ring.adopt("operator", day * DAY_MS)
    assert ring.member() == member != ring.keys.signing("operator").member
    assert len(ring.history("operator").retired) == 3


def test_a_rotation_that_was_cut_off_goes_on_with_the_same_new_key(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    draft = ring.draft("operator")
    assert KeyRing(tmp_path).draft("operator").kid == draft.kid
    assert KeyRing(tmp_path).has_draft("operator")
    assert [file.purpose for file in ring.files() if file.name == "operator.next"] == ["a rotation that was begun"]
    assert KeyRing(tmp_path).adopt("operator", DAY_MS).kid == draft.kid


def test_a_history_that_was_damaged_is_refused_and_not_replaced(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.keys.signing("operator")
    path = tmp_path / "keys" / "operator.history.json"
    path.write_text("{")
    with pytest.raises(KeyFileRefused, match="backup"):
        ring.member()
    assert path.read_text() == "{"
