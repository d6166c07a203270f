"""The threads around the log and the machine: what must not end the process, and what must.

The threads are real; a test waits for the event or the failure that it expects, never for time.
"""

from __future__ import annotations

import queue
from typing import Any

import pytest
from actor_fakes import MemoryDisk

from actors import workers
from actors.errors import DiskFailure
from actors.raft.messages import (
    Entry,
    EntryKind,
    Persisted,
    SnapshotChunk,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotRestored,
    SnapshotSaved,
)
from actors.raft.ready import HardState, SnapshotWanted
from actors.replica import Replica
from actors.snapshots import SnapshotMeta, SnapshotStore
from actors.wal import WriteAheadLog
from actors.workers import LogThread, MachineThread, Worker, root_stream
from graph.store import Root

META = SnapshotMeta(7, 2, "ab" * 16, Replica().outcomes.encode().hex())
NOOP = EntryKind.NOOP


class FakeMachine:
    def __init__(self) -> None:
        self.replica = Replica()

    def apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.replica.apply(entry)

    def restored(self) -> None:
        pass

    def turn(self) -> None:
        pass


class Bench:
    """A log thread and a machine thread over one disk in memory."""

    def __init__(self, threshold: int = -1) -> None:
        self.disk = MemoryDisk()
        self.wal = WriteAheadLog(self.disk)
        self.wal.open()
        self.snapshots = SnapshotStore(self.disk)
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()  # failures too
        self.machine = FakeMachine()
        self.machines = MachineThread(
            self.machine,  # type: ignore[arg-type]
            self.snapshots,
            self.post,
            self.post,
            threshold=threshold,
            snapshot_index=0,
        )
        self.logs = LogThread(self.wal, self.snapshots, self.post, self.machines.install, self.post)

    def post(self, event: Any) -> None:
        self.events.put((event, list(self.disk.log)))

    def __enter__(self) -> Bench:
        self.logs.start()
        self.machines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.logs.stop()
        self.machines.stop()
        assert self.events.empty(), self.events.get_nowait()

    def next(self) -> Any:
        return self.events.get(timeout=20)[0]


# --- Worker ---------------------------------------------------------------------------------------


def test_what_comes_after_a_batch_runs_when_no_task_is_left() -> None:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker = Worker("test", done.put, lambda: done.put("after"))
    for number in range(3):
        worker.submit(lambda number=number: done.put(number))  # type: ignore[misc]
    worker.start()
    assert [done.get(timeout=20) for _ in range(4)] == [0, 1, 2, "after"]
    worker.stop()
    assert done.empty()


def test_what_comes_after_a_batch_is_not_put_off_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BATCH_TASKS_MAX", 2)
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker = Worker("test", done.put, lambda: done.put("after"))
    for number in range(5):
        worker.submit(lambda number=number: done.put(number))  # type: ignore[misc]
    worker.start()
    worker.stop()
    assert [done.get(timeout=20) for _ in range(7)] == [0, 1, "after", 2, 3, "after", 4]


def test_a_task_that_fails_ends_the_process() -> None:
    failures: list[BaseException] = []
    done: list[int] = []

    def fail() -> None:
        raise KeyboardInterrupt

    worker = Worker("test", failures.append)
    worker.submit(fail)
    worker.submit(lambda: done.append(1))
    worker.start()
    worker.stop()
    assert [type(error) for error in failures] == [KeyboardInterrupt]
    assert done == []


# --- Log ------------------------------------------------------------------------------------------


def test_persisted_is_said_only_after_the_sync() -> None:
    bench = Bench()
    bench.logs.write(1, HardState(1, 2), None, (Entry(1, 1, NOOP, b""),))
    bench.logs.write(2, None, None, ())
    bench.logs.write(3, None, None, (Entry(2, 1, NOOP, b""),))
    del bench.disk.log[:]
    with bench:
        said = [bench.events.get(timeout=20) for _ in range(3)]
    assert [event for event, _ in said] == [Persisted(1), Persisted(2), Persisted(3)]
    assert {tuple(log) for _, log in said} == {("write", "write", "sync")}


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_failing_disk_ends_the_process_and_nothing_is_called_durable(fail_at: int) -> None:
    bench = Bench()
    bench.disk.fail_at = len(bench.disk.log) + fail_at
    bench.logs.write(1, HardState(1, 2), None, ())
    with bench:
        assert isinstance(bench.next(), DiskFailure)


def test_a_snapshot_is_read_in_pieces() -> None:
    bench = Bench()
    name = bench.snapshots.save(META, root_stream(Root.empty()))
    size = bench.snapshots.size(name)
    with bench:
        bench.logs.read_chunk(SnapshotWanted(3, 7, 2, 10, 5))
        data = bench.snapshots.chunk(name, 10, 5)
        assert bench.next() == SnapshotChunkRead(3, 7, 2, 10, data, False, size)
        bench.logs.read_chunk(SnapshotWanted(3, 7, 2, 10, size))
        data = bench.snapshots.chunk(name, 10, size)
        assert bench.next() == SnapshotChunkRead(3, 7, 2, 10, data, True, size)
        bench.logs.read_chunk(SnapshotWanted(3, 6, 2, 10, 5))  # gone: from the start of the newest
        data = bench.snapshots.chunk(name, 0, 5)
        assert bench.next() == SnapshotChunkRead(3, 7, 2, 0, data, False, size)


def test_a_snapshot_that_is_replaced_while_it_is_read_ends_nothing() -> None:
    """A snapshot thread removes the older one at any moment."""
    for read in ("lend", "chunk", "size"):
        bench = Bench()
        bench.snapshots.save(META, [])
        normal = getattr(bench.snapshots, read)

        def vanish(*arguments: Any, bench: Bench = bench, normal: Any = normal) -> Any:
            for path in [p for p in bench.disk.files if p.startswith("snapshots/")]:
                del bench.disk.files[path]
            return normal(*arguments)

        setattr(bench.snapshots, read, vanish)
        bench.logs.read_chunk(SnapshotWanted(3, 7, 2, 0, 5))
        bench.logs.write(9, None, None, ())  # nothing to write, only to be confirmed
        with bench:
            assert bench.next() == Persisted(9)


# --- Snapshots from the leader --------------------------------------------------------------------


def receive(bench: Bench, data: bytes) -> None:
    total = len(data)
    for offset in range(0, total, 100):
        piece = data[offset : offset + 100]
        last = offset + len(piece) == total
        bench.logs.receive_chunk(SnapshotChunk(3, 2, 1, 7, 2, offset, piece, last, total))


def image(*stream: bytes) -> bytes:
    disk = MemoryDisk()
    store = SnapshotStore(disk)
    return disk.files["snapshots/" + store.save(META, stream or root_stream(Root.empty()))]


def test_a_received_snapshot_is_installed() -> None:
    bench = Bench()
    old = bench.snapshots.save(SnapshotMeta(3, 1, "", META.outcomes), [])
    with bench:
        receive(bench, image())
        assert bench.next() == SnapshotRestored(7, 2)
    assert (bench.machine.replica.applied_index, bench.machine.replica.applied_term) == (7, 2)
    assert bench.snapshots.newest() != old
    assert len([name for name in bench.disk.files if "snapshot" in name]) == 1


def test_a_received_snapshot_is_not_durable_before_the_term_that_it_came_in() -> None:
    """Else a power cut in between leaves a snapshot of a later term than the server's own, and the
    server takes its directory for damaged."""
    bench = Bench()
    left: list[MemoryDisk] = []
    rename = bench.disk.rename

    def rename_and_lose_power(source: str, target: str) -> None:
        rename(source, target)
        left.append(bench.disk.crash())

    bench.disk.rename = rename_and_lose_power  # type: ignore[method-assign]
    bench.logs.write(1, HardState(2, 0), None, ())
    receive(bench, image())
    with bench:
        assert {bench.next(), bench.next()} == {Persisted(1), SnapshotRestored(7, 2)}
    assert SnapshotStore(left[-1]).newest() is not None
    assert WriteAheadLog(left[-1]).open().hard_state == HardState(2, 0)


@pytest.mark.parametrize("data", [image()[:-3], image(b"no image of a graph")], ids=["cut", "odd"])
def test_a_snapshot_that_cannot_be_used_is_refused_and_not_started_from(data: bytes) -> None:
    bench = Bench()
    old = bench.snapshots.save(SnapshotMeta(3, 1, "", META.outcomes), [])
    with bench:
        receive(bench, data)
        assert bench.next() == SnapshotRefused(7, 2)
    assert bench.machine.replica.applied_index == 0
    assert bench.snapshots.newest() == old


# --- Own snapshots --------------------------------------------------------------------------------


def test_a_snapshot_is_taken_at_the_threshold_and_is_whole_when_it_is_reported() -> None:
    bench = Bench(threshold=20)
    entries = [Entry(index, 1, NOOP, b"") for index in range(1, 26)]
    with bench:
        bench.machines.apply(entries[:19])
        bench.machines.apply(entries[19:20])
        assert bench.next() == SnapshotSaved(20, 1, 19)
    name = bench.snapshots.newest()
    assert name is not None
    meta, stream = bench.snapshots.load(name)
    assert (meta.index, meta.term) == (20, 1)
    assert b"".join(stream)


def test_the_thread_of_a_snapshot_rests_after_each_piece() -> None:
    bench = Bench(threshold=1)
    rests: list[float] = []
    now = [0.0]

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    bench.machines = MachineThread(
        bench.machine,  # type: ignore[arg-type]
        bench.snapshots,
        bench.post,
        bench.post,
        threshold=1,
        snapshot_index=0,
        clock=clock,
        pause=rests.append,
    )
    with bench:
        bench.machines.apply([Entry(1, 1, NOOP, b"")])
        assert bench.next() == SnapshotSaved(1, 1, 1)
    assert len(rests) >= 2
    assert all(0 < seconds <= workers.PAUSE_SECONDS_MAX for seconds in rests)


def test_what_a_follower_needs_after_the_snapshot_it_is_sent_is_kept() -> None:
    bench = Bench(threshold=20)
    entries = [Entry(index, 1, NOOP, b"") for index in range(1, 61)]
    with bench:
        bench.machines.apply(entries[:20])
        assert bench.next() == SnapshotSaved(20, 1, 19)
        bench.logs.read_chunk(SnapshotWanted(3, 20, 1, 0, 5))
        assert bench.next().index == 20
        bench.machines.apply(entries[20:40])
        assert bench.next() == SnapshotSaved(40, 1, 21)
        bench.logs.read_chunk(SnapshotWanted(3, 20, 1, 5, 5))
        assert (bench.next().index, len(bench.snapshots._disk.names("snapshots"))) == (20, 2)
        bench.logs.read_chunk(SnapshotWanted(3, 40, 1, 0, 5))
        assert bench.next().index == 40
        bench.machines.apply(entries[40:])
        assert bench.next() == SnapshotSaved(60, 1, 41)


def test_a_snapshot_that_cannot_be_written_ends_the_process() -> None:
    bench = Bench(threshold=1)
    bench.disk.fail_at = len(bench.disk.log)
    with bench:
        bench.machines.apply([Entry(1, 1, NOOP, b"")])
        assert isinstance(bench.next(), DiskFailure)
        bench.disk.fail_at = -1


def test_a_saved_snapshot_lets_the_log_be_cut() -> None:
    bench = Bench()
    bench.wal.append(HardState(1, 1), [Entry(1, 1, NOOP, b"")])
    bench.wal.sync()
    before = sorted(bench.disk.files)
    bench.logs.compact(2)
    bench.logs.write(1, None, None, ())
    with bench:
        assert bench.next() == Persisted(1)
    assert not set(before) & set(bench.disk.files)
