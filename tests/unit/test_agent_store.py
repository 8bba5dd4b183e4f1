"""Files the agent keeps for storage leases, and what it answers when it is asked for their chunks."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from events.metering import Content
from infra.agent.home import AgentHome, AgentRefused
from infra.agent.proving import Asked, answer_to
from infra.agent.store import BLOCK_BYTES, READ_BYTES, Kept, Store
from services.kernel.jws import parse_jws, raw_public
from services.metering.merkle import audit_path, leaf_hash
from services.metering.storage import Question, answer_sha256, belongs, passes, read_answer
from tests.agent_given import GENESIS, LEASE, START, HandClock, agent_home
from tests.storage_world import chunks_of, content_of, root_of

SEED = "5eed" * 16


def kept(tmp_path: Path, content: bytes) -> tuple[Store, Kept]:
    source = tmp_path / "source"
    source.write_bytes(content)
    store = Store(AgentHome(tmp_path / "agent").path)
    return store, store.keep(source)


@pytest.mark.parametrize(
    "size",
    [1, 511, 512, 513, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES - 700, 5 * BLOCK_BYTES + 513],
)
def test_a_kept_file_has_the_root_and_paths_of_its_whole_tree(tmp_path: Path, size: int) -> None:
    content = content_of(size)
    store, found = kept(tmp_path, content)
    assert found == Kept(root_of(content), size, 1)
    assert (tmp_path / "agent" / "stored" / found.root).read_bytes() == content
    chunks = chunks_of(content)
    hashes = [leaf_hash(chunk) for chunk in chunks]
    for index in {*range(0, len(chunks), 61), len(chunks) - 1, len(chunks) // 2}:
        assert store.chunk(found.root, index) == (chunks[index], audit_path(hashes, index))


def test_a_file_longer_than_a_piece_of_memory_is_kept_and_proved_within_it(tmp_path: Path) -> None:
    content = content_of(12 * READ_BYTES + 77)
    source = tmp_path / "source"
    source.write_bytes(content)
    expected = root_of(content)
    store = Store(AgentHome(tmp_path / "agent").path)
    tracemalloc.start()
    found = store.keep(source)
    store.chunk(found.root, 12_345)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.root, found.mb) == (expected, 13)
    assert peak < 4 * READ_BYTES, "a third of the file"


def test_the_hashes_beside_a_file_take_a_five_hundredth_of_it(tmp_path: Path) -> None:
    size = 64 * BLOCK_BYTES
    _, found = kept(tmp_path, content_of(size))
    tree = (tmp_path / "agent" / "stored" / f"{found.root}.tree").stat().st_size
    assert tree == (2 * 64 - 1) * 32 <= size // 500


def test_an_empty_file_and_one_that_is_not_there_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    store = Store(AgentHome(tmp_path / "agent").path)
    with pytest.raises(AgentRefused, match="empty"):
        store.keep(tmp_path / "source")
    with pytest.raises(FileNotFoundError):
        store.keep(tmp_path / "nowhere")
    assert list((tmp_path / "agent" / "stored").iterdir()) == []


def test_the_same_file_twice_is_kept_once(tmp_path: Path) -> None:
    _, one = kept(tmp_path, content_of(1_000))
    _, two = kept(tmp_path, content_of(1_000))
    assert one == two
    assert len(list((tmp_path / "agent" / "stored").iterdir())) == 2


def asked(root: str) -> Asked:
    return Asked(LEASE, "c" * 32, SEED, START - 1_000, root)


def test_the_agent_s_answer_passes_the_instance_s_rule(tmp_path: Path) -> None:
    content = content_of(3 * BLOCK_BYTES + 5)
    home = agent_home(tmp_path / "agent", "http://server")
    _, found = kept(tmp_path, content)
    jws = answer_to(home, asked(found.root), HandClock())
    parse_jws(jws).verify(raw_public(home.key.private))
    question = Question(GENESIS, "c" * 32, home.key.node, LEASE, SEED, START - 1_000, START + 1_000, answer_sha256(jws))
    answer = read_answer(jws)
    assert belongs(answer, question)
    assert answer.end_ms == START
    assert passes(question, answer, Content(found.root, found.bytes))


@pytest.mark.parametrize("at", [0, 2 * BLOCK_BYTES + 3, 3 * BLOCK_BYTES + 4])
def test_a_file_that_was_damaged_is_not_signed_for(tmp_path: Path, at: int) -> None:
    store, found = kept(tmp_path, content_of(3 * BLOCK_BYTES + 5))
    path = tmp_path / "agent" / "stored" / found.root
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(AgentRefused, match="damaged"):
        store.chunk(found.root, at // 512)


def test_a_file_that_was_cut_is_not_signed_for(tmp_path: Path) -> None:
    store, found = kept(tmp_path, content_of(3 * BLOCK_BYTES + 5))
    path = tmp_path / "agent" / "stored" / found.root
    path.write_bytes(path.read_bytes()[: 2 * BLOCK_BYTES])
    for index in (0, 191):
        with pytest.raises(AgentRefused, match="damaged"):
            store.chunk(found.root, index)


@pytest.mark.parametrize("gone", ["bytes", "hashes", "the file of hashes"])
def test_a_file_without_its_bytes_or_its_hashes_is_not_signed_for(tmp_path: Path, gone: str) -> None:
    home = agent_home(tmp_path / "agent", "http://server")
    _, found = kept(tmp_path, content_of(3 * BLOCK_BYTES + 5))
    path = home.path / "stored" / found.root
    if gone == "bytes":
        path.write_bytes(b"")
    elif gone == "hashes":
        path.with_suffix(".tree").write_bytes(b"")
    else:
        path.with_suffix(".tree").unlink()
    with pytest.raises(AgentRefused, match="damaged"):
        answer_to(home, asked(found.root), HandClock())


@pytest.mark.parametrize("root", ["0" * 64, "../node.json", ""])
def test_what_is_not_kept_is_not_answered_for(tmp_path: Path, root: str) -> None:
    home = agent_home(tmp_path / "agent", "http://server")
    with pytest.raises(AgentRefused, match="nothing is kept"):
        answer_to(home, asked(root), HandClock())
