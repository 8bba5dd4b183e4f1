"""What is deployed, read off the deploy files: containers with their roles, images, ports and settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from events.facts import FACTS_BY_SERVICE
from infra.platform import ROLES
from infra.settings import SETTINGS
from tests.source import ROOT

DEPLOY: Final = ROOT / "infra" / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
IMAGE: Final = "compute-commons"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: each for name, each in SERVICES.items() if each["image"].startswith(f"{IMAGE}:")}

EVERY_ROLE: Final = {role for role in ROLES if ":" not in role} - {"relay"} | {f"relay:{s}" for s in FACTS_BY_SERVICE}

KNOWN_SETTINGS: Final = (
    {setting.name for setting in SETTINGS}
    | {f"{setting.name}_FILE" for setting in SETTINGS if setting.secret}
    | {"COMMONS_KAFKA_PARTITIONS", "COMMONS_KAFKA_REPLICATION"}
)
"""The two of Kafka come with the bus on Kafka."""


def manifests() -> Iterator[dict[str, Any]]:
    """Yield every document under the Kubernetes folder."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def settings_named() -> set[str]:
    """Return every COMMONS_* variable that a deploy file sets."""
    files = [ROOT / "docker-compose.yml", *(path for path in DEPLOY.rglob("*") if path.is_file())]
    text = "".join(path.read_text() for path in files if "secrets" not in path.parts)
    return set(re.findall(r"(?m)\b(COMMONS_[A-Z][A-Z_]*[A-Z])(?:=|:(?!-)|, value)", text))
