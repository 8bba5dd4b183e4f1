"""Generates the shipped sample: some hundred nodes and a day of work on them, the same bytes for the same seed."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Final

SEED: Final = 20_261_120
NODES: Final = 240
PODS: Final = 600
DAY_SECONDS: Final = 86_400
NEVER_RAN: Final = 0.05
"""The part of the pods that was never scheduled."""

HERE: Final = Path(__file__).parent
NODE_FILE: Final = HERE / "nodes.csv"
POD_FILE: Final = HERE / "pods.csv"

_MODELS: Final = (
    # model, GPUs per node, weight: many small cards at home, a few large ones in institutes
    ("T4", 1, 40),
    ("T4", 2, 20),
    ("A10", 1, 20),
    ("A30", 2, 8),
    ("A40", 2, 6),
    ("A100-PCIe-40", 4, 4),
    ("RTX-3090", 1, 12),
    ("", 0, 10),
)
_SHARES: Final = (250, 500, 500, 1_000, 1_000, 1_000)


def node_rows(chance: random.Random) -> list[list[str]]:
    """Return the node list with its header."""
    rows = [["sn", "cpu_milli", "memory_mib", "gpu", "model"]]
    for number in range(NODES):
        model, gpus, _ = chance.choices(_MODELS, [weight for *_, weight in _MODELS])[0]
        cores = chance.choice((8, 16, 32, 64))
        rows.append([f"sample-node-{number:04d}", str(cores * 1_000), str(cores * 4_096), str(gpus), model])
    return rows


def pod_rows(chance: random.Random) -> list[list[str]]:
    """Return the pod list with its header: a day of work, a few pods without a GPU, a few that never ran."""
    header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time"
    rows = [[*header.split(","), "scheduled_time"]]
    for number in range(PODS):
        created = chance.randrange(DAY_SECONDS - 600)
        gpus = chance.choices((0, 1, 2, 4), (10, 80, 8, 2))[0]
        milli = chance.choice(_SHARES) if gpus == 1 else 1_000 * bool(gpus)
        length = chance.choice((120, 600, 1_800, 3_600, 7_200, 14_400)) + chance.randrange(300)
        ran = chance.random() > NEVER_RAN
        scheduled = created + chance.randrange(60)
        end = min(scheduled + length, DAY_SECONDS)
        fields = [f"sample-pod-{number:04d}", str(chance.choice((1, 2, 4)) * 1_000), "4096", str(gpus), str(milli)]
        phase = "Succeeded" if ran else "Pending"
        rows.append([*fields, "", "LS", phase, str(created), str(end) if ran else "", str(scheduled) if ran else ""])
    return rows


def render(rows: list[list[str]]) -> bytes:
    """Return rows as CSV bytes with line feeds."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def sample() -> tuple[bytes, bytes]:
    """Return both files' bytes."""
    chance = random.Random(SEED)  # noqa: S311 - a sample, no secret
    return render(node_rows(chance)), render(pod_rows(chance))


def main() -> None:
    """Write both files beside this module."""
    nodes, pods = sample()
    NODE_FILE.write_bytes(nodes)
    POD_FILE.write_bytes(pods)


if __name__ == "__main__":
    main()
