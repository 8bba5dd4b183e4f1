"""Every setting, read once from the environment; an unknown one is refused with the nearest name."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

PREFIX: Final = "COMMONS_"
TEST_PREFIX: Final = "COMMONS_TEST_"
TAIL: Final = "tail:"
KAFKA: Final = "kafka://"
MOST_PARTITIONS: Final = 1_000
MOST_REPLICAS: Final = 9
NONE: Final = "none:"
"""The value of a setting that says: not at all."""


class SettingRefused(Exception):
    """A setting is unknown or cannot be used; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table in docs/operations.md."""

    name: str
    default: str
    meaning: str
    secret: bool = False


SETTINGS: Final = (
    Setting("COMMONS_HOME", "./var", "data, keys, sockets and logs; made 0700 at the first start"),
    Setting("COMMONS_LISTEN", "127.0.0.1:8700", "address and port of the HTTP edge"),
    Setting("COMMONS_PUBLIC_URL", "http://<listen>", "the URL callers sign; differs from the address behind a proxy"),
    Setting("COMMONS_DATABASE", "embedded:", "`embedded:` or postgresql://user@host/database", secret=True),
    Setting("COMMONS_BUS", "tail:", "how followers get facts: `tail:` reads the stores, or kafka://host:port[,...]"),
    Setting("COMMONS_KAFKA_PARTITIONS", "6", "partitions of every topic; fixed when a topic is made"),
    Setting("COMMONS_KAFKA_REPLICATION", "1", "brokers that keep each fact; 3 in a cluster"),
    Setting("COMMONS_KAFKA_GENERATION", "1", "raised by one, topics are made anew: the way to other partitions"),
    Setting("COMMONS_KAFKA_PREFIX", "", "begins the names of topics and groups on brokers shared with others"),
    Setting("COMMONS_KAFKA_SECURITY", "plaintext", "towards brokers: plaintext, ssl, sasl_plaintext or sasl_ssl"),
    Setting("COMMONS_KAFKA_CA_FILE", "", "certificates to trust brokers by (PEM); the system's when empty"),
    Setting("COMMONS_KAFKA_MECHANISM", "SCRAM-SHA-512", "how the password is proven: PLAIN, SCRAM-SHA-256 or -512"),
    Setting("COMMONS_KAFKA_USER", "", "the name brokers know this instance by, with sasl_*"),
    Setting("COMMONS_KAFKA_PASSWORD", "", "its password", secret=True),
    Setting("COMMONS_LOG_LEVEL", "warning", "debug, info (a line per request), warning or error"),
    Setting("COMMONS_LOG_FORMAT", "auto", "text, json, or auto: text on a terminal, json elsewhere"),
    Setting("COMMONS_TELEMETRY", "none:", "where traces go: `none:` or otlp://host:port, an OpenTelemetry collector"),
    Setting("COMMONS_METRICS_LISTEN", "none:", "address of /metrics and /health for processes without the role http"),
    Setting("COMMONS_AGENT_HOME", "./agent", "the agent's key, spool and receipts; made 0700 at the first start"),
    Setting("COMMONS_AGENT_SERVER", "http://127.0.0.1:8700", "the public URL of the instance the agent reports to"),
    Setting("COMMONS_AGENT_SLICE_SECONDS", "60", "how long one reading of the agent is, 1 to 300"),
    Setting("COMMONS_AGENT_SPOOL_MIB", "256", "how much the agent's spool may take; acknowledged hours go first"),
)
"""What may be set. Secrets have a twin `<NAME>_FILE` that names a file holding the value."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force, parsed."""

    home: Path
    host: str
    port: int
    public_url: str
    database: str
    bus: str
    log_level: str
    log_format: str = "auto"
    telemetry: str = "none:"
    metrics_listen: tuple[str, int] | None = None
    kafka_partitions: int = 6
    kafka_replication: int = 1
    kafka_generation: int = 1
    kafka_prefix: str = ""
    kafka_security: str = "plaintext"
    kafka_ca_file: Path | None = None
    kafka_mechanism: str = "SCRAM-SHA-512"
    kafka_user: str = ""
    kafka_password: str = field(default="", repr=False)

    @property
    def brokers(self) -> str:
        """The brokers' addresses, as clients take them."""
        return self.bus.removeprefix(KAFKA)

    @property
    def embedded(self) -> bool:
        """Tell whether the database is our own."""
        return self.database == "embedded:"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process. Raises SettingRefused, naming what is wrong and what would be right."""
    given = {name: value for name, value in (environ or os.environ).items() if name.startswith(PREFIX) and value}
    values = {setting.name: setting.default for setting in SETTINGS}
    secrets = {f"{setting.name}_FILE": setting.name for setting in SETTINGS if setting.secret}
    for name, value in given.items():
        if name.startswith(TEST_PREFIX):
            continue
        if name in secrets:
            if secrets[name] in given:
                raise SettingRefused(f"{secrets[name]} and {name} are both set: which one counts? Unset one of them")
            values[secrets[name]] = _file(name, value)
        elif name in values:
            values[name] = value
        else:
            raise SettingRefused(f"unknown setting {name}{_nearest(name, [*values, *secrets])}")
    return _parsed(values, given)


def _parsed(values: Mapping[str, str], given: Mapping[str, str]) -> Settings:
    listen = values["COMMONS_LISTEN"]
    host, port = _listen(listen, f"COMMONS_LISTEN={listen} must be host:port")
    bus, database, level = values["COMMONS_BUS"], values["COMMONS_DATABASE"], values["COMMONS_LOG_LEVEL"].lower()
    _check_bus(bus)
    if database != "embedded:" and parts_of("COMMONS_DATABASE", database).scheme not in {"postgresql", "postgres"}:
        raise SettingRefused("COMMONS_DATABASE must be embedded: or postgresql://user@host/database")
    if not _ports_are_numbers(database):
        raise SettingRefused("COMMONS_DATABASE names a port that is no number from 1 to 65535")
    if level not in {"debug", "info", "warning", "error"}:
        raise SettingRefused(f"COMMONS_LOG_LEVEL={level} must be debug, info, warning or error")
    form = values["COMMONS_LOG_FORMAT"].lower()
    if form not in {"auto", "text", "json"}:
        raise SettingRefused(f"COMMONS_LOG_FORMAT={form} must be auto, text or json")
    url = given.get("COMMONS_PUBLIC_URL") or f"http://{host}:{port}"
    address = parts_of("COMMONS_PUBLIC_URL", url)
    if address.scheme not in {"http", "https"} or not address.netloc:
        raise SettingRefused(f"COMMONS_PUBLIC_URL={url} must be an http or https URL")
    telemetry, metrics = values["COMMONS_TELEMETRY"], values["COMMONS_METRICS_LISTEN"]
    if telemetry != NONE:
        _listen(telemetry.removeprefix("otlp://"), f"COMMONS_TELEMETRY={telemetry} must be none: or otlp://host:port")
        if not telemetry.startswith("otlp://"):
            raise SettingRefused(f"COMMONS_TELEMETRY={telemetry} must be none: or otlp://host:port")
    return Settings(
        Path(values["COMMONS_HOME"]).resolve(),
        host,
        port,
        url.rstrip("/"),
        database,
        bus,
        level,
        form,
        telemetry,
        None if metrics == NONE else _listen(metrics, f"COMMONS_METRICS_LISTEN={metrics} must be none: or host:port"),
        _number(values, "COMMONS_KAFKA_PARTITIONS", MOST_PARTITIONS),
        _number(values, "COMMONS_KAFKA_REPLICATION", MOST_REPLICAS),
        _number(values, "COMMONS_KAFKA_GENERATION", MOST_PARTITIONS),
        _prefix(values["COMMONS_KAFKA_PREFIX"]),
        *_kafka_security(values),
    )


def _kafka_security(values: Mapping[str, str]) -> tuple[str, Path | None, str, str, str]:
    """Return protocol, file of certificates, mechanism, user and password."""
    protocol, mechanism = values["COMMONS_KAFKA_SECURITY"].lower(), values["COMMONS_KAFKA_MECHANISM"].upper()
    user, password, trusted = (values[f"COMMONS_KAFKA_{each}"] for each in ("USER", "PASSWORD", "CA_FILE"))
    if protocol not in {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"}:
        raise SettingRefused(f"COMMONS_KAFKA_SECURITY={protocol} must be plaintext, ssl, sasl_plaintext or sasl_ssl")
    if mechanism not in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
        raise SettingRefused(f"COMMONS_KAFKA_MECHANISM={mechanism} must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    if protocol.startswith("sasl") != bool(user and password) or bool(user) != bool(password):
        raise SettingRefused("COMMONS_KAFKA_USER and COMMONS_KAFKA_PASSWORD go with COMMONS_KAFKA_SECURITY=sasl_ssl")
    if trusted and not protocol.endswith("ssl"):
        raise SettingRefused("COMMONS_KAFKA_CA_FILE goes with COMMONS_KAFKA_SECURITY=ssl or sasl_ssl")
    if trusted and not Path(trusted).is_file():
        raise SettingRefused(f"COMMONS_KAFKA_CA_FILE={trusted} is no file")
    return protocol, Path(trusted) if trusted else None, mechanism, user, password


def _check_bus(bus: str) -> None:
    if bus == TAIL:
        return
    refusal = f"COMMONS_BUS={bus} must be tail: or kafka://host:port[,host:port...]"
    if not bus.startswith(KAFKA):
        raise SettingRefused(refusal)
    for address in bus.removeprefix(KAFKA).split(","):
        _listen(address, refusal)


def _number(values: Mapping[str, str], name: str, most: int) -> int:
    text = values[name]
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise SettingRefused(f"{name}={text} must be a number from 1 to {most}")
    return int(text)


def _prefix(text: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9._-]{0,99}[.-])?", text):
        raise SettingRefused(
            f"COMMONS_KAFKA_PREFIX={text} must be letters, digits, `.`, `_`, `-`, ending in `.` or `-`"
        )
    return text


def parts_of(name: str, url: str) -> SplitResult:
    """Return an address in its parts. Raises SettingRefused without telling it: a password may be in it."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise SettingRefused(f"{name} is no address: {error}") from None


def _ports_are_numbers(url: str) -> bool:
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
    return all(not port or (port.isdecimal() and 0 < int(port) <= 65_535) for port in ports)  # noqa: PLR2004 - as above


def _listen(text: str, refusal: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:  # noqa: PLR2004 - the range of ports
        raise SettingRefused(f"{refusal}, with a port from 1 to 65535")
    return host.strip("[]"), int(port)


def _file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingRefused(f"{name}={path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingRefused(f"{name}={path} holds no text") from None


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
