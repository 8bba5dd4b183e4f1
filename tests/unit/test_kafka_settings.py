"""Settings of the way to brokers: what goes together, what is refused, and that a password is never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.buses import cluster_of
from infra.settings import SettingRefused, read_settings

SASL = {"COMMONS_KAFKA_SECURITY": "sasl_ssl", "COMMONS_KAFKA_USER": "commons", "COMMONS_KAFKA_PASSWORD": "hush"}


def test_brokers_are_reached_in_the_clear_unless_told_otherwise() -> None:
    assert cluster_of(read_settings({"COMMONS_BUS": "kafka://b:9092"})).client == {"bootstrap_servers": "b:9092"}


def test_a_name_a_password_and_tls_reach_every_client_and_no_printed_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-a-file\n")
    given = {name: value for name, value in SASL.items() if not name.endswith("PASSWORD")}
    settings = read_settings({**given, "COMMONS_BUS": "kafka://b:9092", "COMMONS_KAFKA_PASSWORD_FILE": str(file)})
    client = cluster_of(settings).client
    assert client.pop("ssl_context").check_hostname
    assert client == {
        "bootstrap_servers": "b:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "commons",
        "sasl_plain_password": "from-a-file",
    }
    assert "from-a-file" not in f"{settings!r} {cluster_of(settings)!r}"


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"COMMONS_KAFKA_SECURITY": "tls"}, "must be plaintext, ssl, sasl_plaintext or sasl_ssl"),
        ({**SASL, "COMMONS_KAFKA_MECHANISM": "GSSAPI"}, "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ({**SASL, "COMMONS_KAFKA_PASSWORD": ""}, "go with COMMONS_KAFKA_SECURITY=sasl"),
        ({**SASL, "COMMONS_KAFKA_SECURITY": "ssl"}, "go with COMMONS_KAFKA_SECURITY=sasl"),
        ({"COMMONS_KAFKA_USER": "commons"}, "go with COMMONS_KAFKA_SECURITY=sasl"),
        ({"COMMONS_KAFKA_CA_FILE": "/etc/hosts"}, "COMMONS_KAFKA_CA_FILE goes with"),
        ({"COMMONS_KAFKA_SECURITY": "ssl", "COMMONS_KAFKA_CA_FILE": "/no/such/file"}, "/no/such/file is no file"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, str], refusal: str) -> None:
    with pytest.raises(SettingRefused, match=refusal):
        read_settings({"COMMONS_BUS": "kafka://b:9092", **given})
