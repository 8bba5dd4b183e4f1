"""Who does not follow Kafka does not load its client."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import infra.cli.app, infra.platform
from infra.buses import open_bus, relays
from infra.settings import read_settings
from events.telemetry import Telemetry
settings = read_settings({"COMMONS_BUS": "tail:"})
open_bus(settings, {})
assert relays(settings, ["relay"], {}, "", Telemetry()) == []
print([name for name in sys.modules if name.startswith(("aiokafka", "infra.kafka."))])
"""


def test_following_the_stores_loads_nothing_of_kafka() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
