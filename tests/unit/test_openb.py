from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.genesis_file import shipped_table
from infra.openb.community import import_community
from infra.openb.names import Names
from infra.openb.slices import PAYLOAD_BYTES, Mess, Placed, payloads, slices
from infra.openb.trace import Trace, TraceRefused, read_trace
from infra.sample.generate import NODE_FILE, POD_FILE, sample
from services.registry.genesis import check, sha256

DATA = Path(__file__).parents[3] / "shared" / "data"
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,8000,32768,1,T4\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
    "p2,1000,1,1,500,,LS,Running,0,100,10\np1,1000,1,0,0,,LS,Running,0,100,10\np3,1000,1,1,500,,LS,Pending,0,,\n"
)
START_MS = 1_672_531_200_000


def trace(folder: Path, nodes: str = NODES, pods: str = PODS) -> Trace:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "pods.csv").write_text(pods)
    return read_trace(folder / "nodes.csv", folder / "pods.csv")


def test_scheduled_pods_come_in_order_of_time_and_name(tmp_path: Path) -> None:
    read = trace(tmp_path)
    assert [pod.name for pod in read.pods] == ["p1", "p2"]
    assert read.milli_gpu_seconds == 90 * 500
    assert set(read.sha256) == {"nodes.csv", "pods.csv"}


@pytest.mark.parametrize(
    ("nodes", "pods", "says"),
    [
        ("sn,gpu\n", PODS, "no column"),
        (NODES + "n1,1,1,1,T4\n", PODS, "twice"),
        ("sn,cpu_milli,memory_mib,gpu,model\nn1,8000,1,1,\n", PODS, "model"),
        ("sn,cpu_milli,memory_mib,gpu,model\nn1,x,1,1,T4\n", PODS, "nodes.csv:2: cpu_milli"),
        (NODES, PODS.replace("500,,LS,Running,0,100,10", "500,,LS,Running,0,9,10"), "ends before"),
        (NODES, PODS.replace("1,500,,LS,Running", "1,1001,,LS,Running"), "gpu_milli"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_the_place(tmp_path: Path, nodes: str, pods: str, says: str) -> None:
    with pytest.raises(TraceRefused, match=says):
        trace(tmp_path, nodes, pods)


@pytest.mark.skipif(not DATA.exists(), reason="the real trace is not here; CI has it")
@pytest.mark.parametrize(("slice_ms", "readings"), [(300_000, 718_775), (60_000, 3_579_835)])
def test_the_real_trace_makes_the_readings_of_the_answer_key(slice_ms: int, readings: int) -> None:
    real = read_trace(DATA / "nodes" / "openb_node_list_all_node.csv", DATA / "jobs" / "openb_pod_list_default.csv")
    assert (len(real.pods), sum(not pod.gpus for pod in real.pods)) == (7_255, 1_052)
    assert real.milli_gpu_seconds == 185_294_426_970
    cut = sum(
        pod.gpus * sum(1 for _ in slices(pod.scheduled * 1_000, pod.deleted * 1_000, slice_ms)) for pod in real.pods
    )
    assert cut == readings


def test_batches_hold_every_reading_and_stay_within_their_size() -> None:
    leases = [Placed(f"{n:032x}", (f"device/{n % 2:032x}",), 500, START_MS, START_MS + 700_000_000) for n in range(3)]
    cut = payloads("node/x", leases, 300_000, Mess())
    assert all(len(payload) <= PAYLOAD_BYTES for payload in cut)
    found = [
        (batch["devices"][device], batch["leases"][lease], start, end, level)
        for batch in map(json.loads, cut)
        for device, lease, start, end, level in batch["readings"]
    ]
    wanted = [
        (device, lease.lease, start, end, lease.share)
        for lease in leases
        for device in lease.devices
        for start, end in slices(lease.start_ms, lease.end_ms, 300_000)
    ]
    assert sorted(found) == sorted(wanted)
    assert [json.loads(payload)["number"] for payload in cut] == list(range(len(cut)))


def test_disorder_is_the_same_for_the_same_seed_and_says_nothing_new() -> None:
    leases = [Placed("a" * 32, ("device/a",), 700, START_MS, START_MS + 900_000_000)]
    mess = Mess(shuffle=True, duplicates=0.3, seed=5)
    cut = payloads("node/x", leases, 60_000, mess)
    assert cut == payloads("node/x", leases, 60_000, mess)
    assert len(set(cut)) < len(cut)
    covered = set()
    for batch in map(json.loads, cut):
        for _, _, start, end, level in batch["readings"]:
            assert level == 700
            covered.update(range(start // 30_000, end // 30_000))
    assert covered == set(range(START_MS // 30_000, (START_MS + 900_000_000) // 30_000))


def test_two_runs_write_the_same_sound_genesis_and_another_operator_another_one(tmp_path: Path) -> None:
    read, table = trace(tmp_path), shipped_table("infer-1")

    def document(seed: bytes) -> str:
        names = Names(seed, "openb")
        made = import_community(read, names, names.member("operator").public, START_MS, [table])
        assert check(made) == []
        return sha256(made)

    assert document(bytes(32)) == document(bytes(32)) != document(b"1" * 32)


def test_the_shipped_sample_is_what_its_generator_makes() -> None:
    assert (NODE_FILE.read_bytes(), POD_FILE.read_bytes()) == sample()
