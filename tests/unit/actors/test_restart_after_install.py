"""A power cut between the arrival of a leader's snapshot and the reset of the log with it.

The snapshot is durable, and the stored log ends before it or contradicts it. The next start leaves
the entries out; the start after that must find what was written since, and nothing else.
"""

from __future__ import annotations

from typing import Any

import pytest
from actor_fakes import MemoryDisk
from little_cluster import Ended, LittleCluster, Server

from actors.protocol import Status
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import HardState, Restored, SnapshotMark
from actors.wal import WriteAheadLog
from graph.digest import digest

MARK = SnapshotMark(5, 3)


def entries(*terms: int, first: int = 1) -> tuple[Entry, ...]:
    return tuple(
        Entry(index, term, EntryKind.COMMAND, b"%d/%d" % (index, term))
        for index, term in enumerate(terms, first)
    )


def start(disk: MemoryDisk) -> tuple[WriteAheadLog, Restored]:
    """As ``Assembly`` does, with the snapshot at MARK."""
    wal = WriteAheadLog(disk)
    recovered = wal.open()
    restored = Restored.from_disk(recovered.hard_state, MARK, recovered.entries)
    wal.follow(MARK, recovered)
    return wal, restored


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        (entries(1, 1), ()),
        (entries(1, 1, 1, 1, 1), ()),
        (entries(1, 1, 1, 1, 1, 1, 2), ()),
        (entries(1, 1, 1, 1, 3), ()),
        (entries(1, 1, 1, 1, 3, 3), entries(3, first=6)),
        (entries(3, 3, first=5), entries(3, first=6)),
        (entries(3, first=6), entries(3, first=6)),
        ((), ()),
    ],
    ids=["short", "other", "other and longer", "same", "longer", "cut", "cut at it", "none"],
)
def test_what_is_written_after_such_a_start_is_found_at_the_next(
    stored: tuple[Entry, ...], kept: tuple[Entry, ...]
) -> None:
    disk = MemoryDisk()
    wal = WriteAheadLog(disk)
    wal.open()
    wal.append(HardState(3, 2), stored)
    wal.sync()
    wal, restored = start(disk.crash())
    disk = wal._disk  # type: ignore[assignment]
    assert restored.entries == kept
    new = entries(4, 4, first=6 + len(kept))
    wal.append(HardState(4, 1), new)
    wal.sync()
    _, restored = start(disk.crash())
    assert restored == Restored(HardState(4, 1), MARK, (*kept, *new))


def test_a_power_cut_before_the_reset_is_durable_changes_nothing() -> None:
    disk = MemoryDisk()
    wal = WriteAheadLog(disk)
    wal.open()
    wal.append(HardState(3, 2), entries(1, 1))
    wal.sync()
    for _ in range(3):
        disk = disk.crash()
        _, restored = start(disk)
        assert restored == Restored(HardState(3, 2), MARK)


def lose_power_when_a_snapshot_arrives(server: Server, left: list[MemoryDisk]) -> None:
    rename = server.disk.rename

    def rename_and_lose_power(source: str, target: str) -> None:
        rename(source, target)
        if target.startswith("snapshots/"):
            left.append(server.disk.crash())
            server.die()
            raise Ended

    server.disk.rename = rename_and_lose_power


def restart(server: Server, disk: Any) -> None:
    server.disk = disk
    server.start()


def test_a_whole_server_starts_again_and_again_after_it() -> None:
    cluster = LittleCluster(3, log_size_snapshot_threshold=20)
    cluster.write("CREATE (:N)")
    victim = next(s for s in cluster.servers.values() if not s.leads)
    victim.cut = True
    for number in range(60):
        assert cluster.write(f"CREATE (:N {{x: {number}}})").status is Status.DONE
    left: list[MemoryDisk] = []
    lose_power_when_a_snapshot_arrives(victim, left)
    victim.cut = False
    assert cluster.pass_time(20.0, lambda: bool(left)), "no snapshot arrived"
    restart(victim, left[0])
    cluster.write("CREATE (:After)")
    cluster.pass_time(2.0)
    assert victim.core.last_index > 61
    victim.die()
    restart(victim, victim.disk.crash())
    assert victim.ended is None
    cluster.pass_time(2.0)
    assert len({digest(s.view()) for s in cluster.servers.values()}) == 1
