"""Reads a trace: two CSV files, nodes and pods, in the columns of the public openb trace.

Source of the format: Weng et al., "Beware of Fragmentation", USENIX ATC 2023
(hkust-adsl/kubernetes-scheduler-simulator).
Times are seconds from the trace's start; `gpu_milli` is per GPU; pods without a scheduled time never ran.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NODE_COLUMNS: Final = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS: Final = ("name", "cpu_milli", "num_gpu", "gpu_milli", "gpu_spec", "deletion_time", "scheduled_time")


class TraceRefused(Exception):
    """A trace file is not what it must be; the message names file, line and what is wrong."""


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A row of the node list: `gpus` whole devices of `model` (empty for CPU-only nodes)."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class TracePod:
    """A scheduled pod: `gpus` devices at `gpu_milli` each, in [scheduled, deleted) seconds; 0 GPUs is CPU-only."""

    name: str
    cpu_milli: int
    gpus: int
    gpu_milli: int
    models: tuple[str, ...]
    scheduled: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Both files: nodes by name, scheduled pods in (scheduled, name) order, and what the files hash to."""

    nodes: Sequence[TraceNode]
    pods: Sequence[TracePod]
    sha256: Mapping[str, str]

    @property
    def end(self) -> int:
        """Seconds from the start to the last deletion."""
        return max((pod.deleted for pod in self.pods), default=0)

    @property
    def milli_gpu_seconds(self) -> int:
        """The naive answer: sum over pods of devices x milli x seconds."""
        return sum(pod.gpus * pod.gpu_milli * (pod.deleted - pod.scheduled) for pod in self.pods)


def read_trace(nodes: Path, pods: Path) -> Trace:
    """Return the trace in two files. Raises TraceRefused."""
    node_rows = [_node(nodes, line, row) for line, row in _rows(nodes, NODE_COLUMNS)]
    pod_rows = [_pod(pods, line, row) for line, row in _rows(pods, POD_COLUMNS) if row["scheduled_time"]]
    for path, names in ((nodes, [row.name for row in node_rows]), (pods, [row.name for row in pod_rows])):
        if len(set(names)) != len(names):
            raise TraceRefused(f"{path}: a name stands twice")
    pod_rows.sort(key=lambda pod: (pod.scheduled, pod.name))
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (nodes, pods)}
    return Trace(sorted(node_rows, key=lambda node: node.name), pod_rows, hashes)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise TraceRefused(f"{path}: no column {', '.join(sorted(missing))}")
            yield from enumerate(reader, 2)
    except OSError as error:
        raise TraceRefused(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceRefused(f"{path}: {error}") from error


def _node(path: Path, line: int, row: Mapping[str, str]) -> TraceNode:
    node = TraceNode(
        row["sn"],
        _whole(path, line, row, "cpu_milli"),
        _whole(path, line, row, "memory_mib"),
        _whole(path, line, row, "gpu"),
        row["model"],
    )
    if node.gpus and not node.model:
        raise TraceRefused(f"{path}:{line}: a node with GPUs needs their model")
    return node


def _pod(path: Path, line: int, row: Mapping[str, str]) -> TracePod:
    pod = TracePod(
        row["name"],
        _whole(path, line, row, "cpu_milli"),
        _whole(path, line, row, "num_gpu"),
        _whole(path, line, row, "gpu_milli"),
        tuple(part for part in row["gpu_spec"].split("|") if part),
        _whole(path, line, row, "scheduled_time"),
        _whole(path, line, row, "deletion_time"),
    )
    if pod.deleted <= pod.scheduled:
        raise TraceRefused(f"{path}:{line}: {pod.name} ends before it starts")
    if pod.gpus and not 1 <= pod.gpu_milli <= 1_000:  # noqa: PLR2004 - a whole device
        raise TraceRefused(f"{path}:{line}: gpu_milli must be 1..1000")
    return pod


def _whole(path: Path, line: int, row: Mapping[str, str], column: str) -> int:
    text = row[column]
    if not (text or "").isdecimal():
        raise TraceRefused(f"{path}:{line}: {column} must be a whole number, not {text!r}")
    return int(text)
