from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.settings import SETTINGS, SettingRefused, read_settings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_nothing_set_means_the_defaults() -> None:
    settings = read_settings({"PATH": "/bin"})
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8700, "http://127.0.0.1:8700")
    assert settings.embedded


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SettingRefused, match=r"COMMONS_LISTNE: did you mean COMMONS_LISTEN\?"):
        read_settings({"COMMONS_LISTNE": "127.0.0.1:1"})


def test_settings_of_the_tests_are_not_ours() -> None:
    assert read_settings({"COMMONS_TEST_DATABASE": "x"}).embedded


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMMONS_LISTEN", "8700"),
        ("COMMONS_LISTEN", "127.0.0.1:99999"),
        ("COMMONS_LISTEN", "127.0.0.1:0"),
        ("COMMONS_DATABASE", "mysql://x"),
        ("COMMONS_BUS", "kafka://x"),
        ("COMMONS_LOG_LEVEL", "loud"),
        ("COMMONS_PUBLIC_URL", "ftp://x"),
        ("COMMONS_PUBLIC_URL", "http://[::1"),
        ("COMMONS_DATABASE", "postgresql://u@[::1/x"),
        ("COMMONS_DATABASE_FILE", "/nowhere/at/all"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingRefused, match=name):
        read_settings({name: value})


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text("postgresql://me@db/commons\n")
    assert read_settings({"COMMONS_DATABASE_FILE": str(path)}).database == "postgresql://me@db/commons"


def test_a_secret_and_its_file_are_not_both_set(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text("postgresql://me@db/commons\n")
    both = {"COMMONS_DATABASE": "embedded:", "COMMONS_DATABASE_FILE": str(path)}
    for given in (both, dict(reversed(both.items()))):
        with pytest.raises(SettingRefused, match="both set"):
            read_settings(given)


def test_a_file_that_holds_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingRefused, match="COMMONS_DATABASE_FILE"):
        read_settings({"COMMONS_DATABASE_FILE": str(path)})


def test_every_setting_stands_in_the_operators_table_with_its_default() -> None:
    text = OPERATIONS.read_text()
    table = dict(re.findall(r"^\| `(COMMONS_\w+)` \| `([^`]*)` \|", text, re.MULTILINE))
    assert table == {setting.name: setting.default for setting in SETTINGS}
    for setting in SETTINGS:
        if setting.secret:
            assert f"{setting.name}_FILE" in text, setting.name


@pytest.mark.parametrize("hosts", ["db:bad", "db:0", "db:70000", "db:5432,other:x", "[::1]:y"])
def test_a_database_port_that_is_no_port_is_refused_without_telling_the_password(hosts: str) -> None:
    with pytest.raises(SettingRefused, match="port") as refused:
        read_settings({"COMMONS_DATABASE": f"postgresql://u:sekret@{hosts}/x"})
    assert "sekret" not in str(refused.value)


@pytest.mark.parametrize("hosts", ["", "db", "db:5432", "a:1,b:2", "[::1]:5432", "[::1]"])
def test_database_addresses_as_libpq_knows_them_are_taken(hosts: str) -> None:
    database = f"postgresql://u@{hosts}/x?host=/run"
    assert read_settings({"COMMONS_DATABASE": database}).database == database
