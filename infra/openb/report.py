"""What an import did, counted: the one JSON object it ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Report:
    """The integers of `commons import openb`; rewards are base units, usage is milli-GPU-seconds."""

    nodes: int = 0
    devices: int = 0
    pods: int = 0
    leases: int = 0
    challenge_results: int = 0
    batches_sent: int = 0
    batches_accepted: int = 0
    batches_duplicate: int = 0
    readings_sent: int = 0
    verified_milli_gpu_seconds: int = 0
    epochs: int = 0
    reward_pool: int = 0
    rewards_paid: int = 0
    reward_reserve: int = 0
    reward_kept: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the fields as JSON integers."""
        return asdict(self)
