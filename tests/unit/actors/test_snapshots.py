"""Snapshots on disk: whole or not at all, and damage noticed wherever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from actor_fakes import MemoryDisk

from actors import limits, snapshot_file, snapshots
from actors.errors import DirectoryRefused, DiskFailure
from actors.snapshots import SnapshotMeta, SnapshotStore

STREAM = [b"nodes" * 7, b"", b"relationships" * 3, b"x"]


def meta(index: int = 7, term: int = 2) -> SnapshotMeta:
    return SnapshotMeta(index, term, "ab" * 16, "00ff")


def saved(index: int = 7, term: int = 2) -> tuple[MemoryDisk, SnapshotStore, str]:
    disk = MemoryDisk()
    store = SnapshotStore(disk)
    return disk, store, store.save(meta(index, term), STREAM)


def contents(store: SnapshotStore, name: str) -> tuple[SnapshotMeta, bytes]:
    found, stream = store.load(name)
    return found, b"".join(stream)


def files(disk: MemoryDisk) -> list[str]:
    return sorted(name.partition("/")[2] for name in disk.files)


# --- Save and load --------------------------------------------------------------------------------


def test_what_was_saved_is_loaded() -> None:
    disk, store, name = saved()
    assert store.newest() == name
    assert store.meta(name) == meta()
    assert contents(store, name) == (meta(), b"".join(STREAM))
    assert contents(SnapshotStore(disk.crash()), name) == (meta(), b"".join(STREAM))


def test_an_empty_stream_is_a_snapshot_too() -> None:
    store = SnapshotStore(MemoryDisk())
    assert store.newest() is None
    assert contents(store, store.save(meta(), [])) == (meta(), b"")


def test_the_stream_is_kept_in_pieces_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_file, "SECTION_BYTES_MAX", 10)
    _, store, name = saved()
    _, stream = store.load(name)
    pieces = list(stream)
    assert b"".join(pieces) == b"".join(STREAM)
    assert max(map(len, pieces)) == 10


def test_the_head_may_be_larger_than_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the outcomes of a whole cluster's gateways."""
    monkeypatch.setattr(snapshot_file, "SECTION_BYTES_MAX", 64)
    store = SnapshotStore(MemoryDisk())
    large = SnapshotMeta(7, 2, "ab" * 16, "0f" * 5_000)
    name = store.save(large, STREAM)
    assert contents(store, name) == (large, b"".join(STREAM))


def test_the_newest_is_the_one_of_the_highest_index() -> None:
    disk = MemoryDisk()
    store = SnapshotStore(disk)
    for index in (9, 10, 100):
        name = store.save(meta(index), STREAM)
        assert store.newest() == name
        assert files(disk) == [name]


def test_an_older_one_that_comes_late_does_not_remove_the_newer() -> None:
    disk, store, newer = saved(100)
    older = store.save(meta(50), STREAM)
    assert files(disk) == [older, newer]
    assert store.newest() == newer
    store.remove_older(newer)
    assert files(disk) == [newer]


def test_a_crash_at_any_moment_leaves_the_old_or_the_new_one() -> None:
    for fail_at in range(100):
        disk, store, old = saved(7)
        disk.fail_at = len(disk.log) + fail_at
        try:
            new = store.save(meta(8), STREAM)
        except DiskFailure:
            left = SnapshotStore(disk.crash())
            name = left.newest()
            assert name is not None
            assert contents(left, name)[0].index in (7, 8)
            assert (name == old) == (contents(left, name)[0].index == 7)
        else:
            assert fail_at > 5
            assert files(disk) == [new]
            return


def test_the_old_one_goes_only_when_the_new_one_is_durable() -> None:
    disk, store, _ = saved(7)
    del disk.log[:]
    store.save(meta(8), STREAM)
    after_sync = disk.log[disk.log.index("sync") :]
    assert after_sync == ["sync", "rename", "remove"]


def test_a_failing_stream_leaves_the_old_one() -> None:
    disk, store, old = saved()

    def breaks() -> Iterator[bytes]:
        yield b"some"
        raise MemoryError

    with pytest.raises(MemoryError):
        store.save(meta(8), breaks())
    assert store.newest() == old
    assert files(SnapshotStore(disk)._disk) == [old]  # type: ignore[arg-type]


def test_partial_files_are_removed_at_the_start() -> None:
    disk, _, name = saved()
    disk.overwrite("snapshots/0000000000000009-00000001.snapshot.tmp", b"half")
    disk.overwrite("snapshots/incoming.part", b"half")
    SnapshotStore(disk)
    assert files(disk) == [name]


# --- Damage ---------------------------------------------------------------------------------------


def test_a_flipped_bit_is_noticed_wherever_it_is() -> None:
    disk, _, name = saved()
    path = f"snapshots/{name}"
    data = disk.files[path]
    for offset in range(len(data)):
        damaged = disk.copy()
        flipped = bytes([data[offset] ^ 1 << offset % 8])
        damaged.overwrite(path, data[:offset] + flipped + data[offset + 1 :])
        with pytest.raises(DirectoryRefused, match="damaged"):
            contents(SnapshotStore(damaged), name)


def test_a_file_of_the_wrong_size_is_noticed() -> None:
    disk, _, name = saved()
    path = f"snapshots/{name}"
    data = disk.files[path]
    for content in [data[:size] for size in range(len(data))] + [data + b"\0", data + data]:
        damaged = disk.copy()
        damaged.overwrite(path, content)
        with pytest.raises(DirectoryRefused, match="damaged"):
            contents(SnapshotStore(damaged), name)


def test_sections_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_file, "SECTION_BYTES_MAX", 8)
    disk = MemoryDisk()
    store = SnapshotStore(disk)
    name = store.save(meta(), [b"a" * 8, b"b" * 8])
    path = f"snapshots/{name}"
    data = disk.files[path]
    first = data.index(b"a" * 8) - 8
    one, other = data[first : first + 16], data[first + 16 : first + 32]
    disk.overwrite(path, data[:first] + other + one + data[first + 32 :])
    with pytest.raises(DirectoryRefused, match="checksum"):
        contents(store, name)


def test_a_newer_format_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, store, _ = saved()
    monkeypatch.setattr(
        snapshots, "asdict", lambda m: {**json.loads('{"format": 99, "more": 1}'), "index": m.index}
    )
    name = store.save(meta(9), STREAM)
    monkeypatch.undo()
    with pytest.raises(DirectoryRefused, match="format 99"):
        SnapshotStore(disk).load(name)


def test_a_file_of_format_1_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knew nothing of members."""
    disk = MemoryDisk()
    fields = {"index": 9, "term": 2, "cluster_id": "ab" * 16, "outcomes": "00ff", "format": 1}
    monkeypatch.setattr(snapshots, "asdict", lambda _: fields)
    name = SnapshotStore(disk).save(meta(9), STREAM)
    monkeypatch.undo()
    found, data = contents(SnapshotStore(disk), name)
    assert (found.index, found.term, found.cluster_id, found.outcomes) == (9, 2, "ab" * 16, "00ff")
    assert found.decoded_membership() is None
    assert data == b"".join(STREAM)


# --- To followers ---------------------------------------------------------------------------------


def test_a_file_that_is_being_sent_is_not_removed() -> None:
    now = [0.0]
    disk = MemoryDisk()
    store = SnapshotStore(disk, clock=lambda: now[0])
    old = store.save(meta(7), STREAM)
    assert store.lent() is None
    assert store.lend(3, 7, 2) == old
    new = store.save(meta(9), STREAM)
    assert files(disk) == [old, new]
    assert store.lent() == 7
    now[0] += limits.SNAPSHOT_LEASE_SECONDS - 1
    assert store.lend(3, 7, 2) == old, "the transfer was begun anew"
    now[0] += limits.SNAPSHOT_LEASE_SECONDS - 1
    newer = store.save(meta(11), STREAM)
    assert files(disk) == [old, newer]
    now[0] += 2
    assert store.lent() is None
    newest = store.save(meta(13), STREAM)
    assert files(disk) == [newest]


def test_what_is_gone_is_replaced_by_the_newest() -> None:
    _, store, name = saved(7)
    assert store.lend(3, 5, 1) == name
    assert SnapshotStore(MemoryDisk()).lend(3, 5, 1) is None


def test_a_peer_that_goes_on_to_another_file_gives_up_the_first() -> None:
    disk = MemoryDisk()
    store = SnapshotStore(disk, clock=lambda: 0.0)
    old = store.save(meta(7), STREAM)
    store.lend(3, 7, 2)
    new = store.save(meta(9), STREAM)
    assert files(disk) == [old, new]
    assert store.lend(3, 9, 2) == new
    assert store.lent() == 9
    last = store.save(meta(11), STREAM)
    assert files(disk) == [new, last]


def test_no_more_files_than_a_few_are_kept_for_followers() -> None:
    disk = MemoryDisk()
    store = SnapshotStore(disk, clock=lambda: 0.0)
    names = []
    for index in range(1, 8):
        names.append(store.save(meta(index), STREAM))
        store.lend(index, index, 2)
    assert files(disk) == names[-1 - limits.SNAPSHOT_LEASES_MAX :]
    assert store.lent() == 8 - limits.SNAPSHOT_LEASES_MAX


def test_a_large_file_is_synced_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SYNC_BYTES", 20)
    disk, _, _ = saved()
    syncs = [entry for entry in disk.log if "sync" in str(entry)]
    assert len(syncs) > 3


# --- From the leader ------------------------------------------------------------------------------


def transfer(source: SnapshotStore, name: str, target: SnapshotStore, size: int) -> None:
    offset = 0
    while offset < source.size(name):
        data = source.chunk(name, offset, size)
        target.receive(offset, data)
        offset += len(data)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_received_in_chunks(size: int) -> None:
    _, source, name = saved()
    disk = MemoryDisk()
    target = SnapshotStore(disk)
    old = target.save(meta(3), [b"old"])
    transfer(source, name, target, size)
    assert target.newest() == old
    assert target.finish() == name
    assert contents(SnapshotStore(disk.crash()), name) == (meta(), b"".join(STREAM))
    assert files(disk) == [old, name]
    target.remove_older(name)
    assert files(disk) == [name]


def test_a_transfer_can_begin_anew() -> None:
    _, source, name = saved()
    disk = MemoryDisk()
    target = SnapshotStore(disk)
    target.receive(0, b"of another one")
    target.receive(14, b", that was given up")
    transfer(source, name, target, 50)
    assert contents(target, target.finish())[0] == meta()


def test_a_chunk_that_does_not_follow_is_refused() -> None:
    target = SnapshotStore(MemoryDisk())
    with pytest.raises(DiskFailure, match="byte 5"):
        target.receive(5, b"x")
    target.receive(0, b"abc")
    with pytest.raises(DiskFailure, match="byte 2"):
        target.receive(2, b"x")
    target.abandon()
    with pytest.raises(DiskFailure, match="byte 3"):
        target.receive(3, b"x")


def test_a_damaged_transfer_is_refused_and_leaves_the_old_one() -> None:
    source_disk, source, name = saved()
    data = source_disk.files[f"snapshots/{name}"]
    for offset in range(0, len(data), 5):
        disk = MemoryDisk()
        target = SnapshotStore(disk)
        old = target.save(meta(3), [b"old"])
        target.receive(0, data[:offset] + bytes([data[offset] ^ 16]) + data[offset + 1 :])
        with pytest.raises(DirectoryRefused):
            target.finish()
        assert target.newest() == old
        transfer(source, name, target, 100)  # the leader sends it again
        assert target.finish() == name


def test_a_received_one_is_synced_before_it_has_its_name() -> None:
    source_disk, _, name = saved()
    disk = MemoryDisk()
    target = SnapshotStore(disk)
    target.receive(0, source_disk.files[f"snapshots/{name}"])
    del disk.log[:]
    target.finish()
    assert disk.log == ["sync", "rename"]
