"""Threads of a server: one for the log, one for the state machine, one for the timer.

Each owns what it works on and takes its work from a queue; what it has to say goes back into the
server loop's inbox. There is no lock in any of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import structlog

from actors.compaction import Compaction
from actors.errors import DirectoryRefused
from actors.machine import StateMachine
from actors.notes import ImageChunk, ImageWanted, Note, PeerNote
from actors.raft.errors import CodecError
from actors.raft.messages import (
    Entry,
    Persisted,
    SnapshotChunk,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotRestored,
    SnapshotSaved,
)
from actors.raft.ready import HardState, RefusalReason, SnapshotMark, SnapshotWanted, SoftState
from actors.replica import load_root
from actors.snapshots import SnapshotMeta, SnapshotStore, mark_of
from actors.wal import WriteAheadLog
from graph.errors import CorruptionError
from graph.snapshot import write_snapshot
from graph.store import Root

__all__ = ["LogThread", "MachineThread", "NewWorker", "Tasks", "Worker", "start_thread"]

log = structlog.get_logger()

Task = Callable[[], None]

# Whatever comes in meanwhile, what is to be done after a batch is not put off for longer.
BATCH_TASKS_MAX = 256
# A piece of an image for a server in quarantine: as large as Raft's own for snapshots.
IMAGE_CHUNK_BYTES = 256 * 1024
# After each piece of a snapshot its thread rests for so many times as long as the piece took, but
# no longer than this: a snapshot takes four times as long, and writes beside it hardly longer.
PAUSE = 3.0
PAUSE_SECONDS_MAX = 0.5


class Tasks(Protocol):
    """What ``Worker`` is to those who use it; a simulator has one without a thread."""

    def start(self) -> None: ...

    def submit(self, task: Task) -> None: ...

    def stop(self) -> None: ...


class NewWorker(Protocol):
    """Makes a ``Worker``, or what takes its place; arguments as for ``Worker``."""

    def __call__(
        self,
        name: str,
        on_failure: Callable[[BaseException], None],
        after_batch: Callable[[], float] | None = None,
    ) -> Tasks: ...


def start_thread(name: str, task: Task) -> None:
    """Run ``task`` in a thread of its own, which ends with the process."""
    threading.Thread(target=task, name=name, daemon=True).start()


class Worker:
    """A thread that runs tasks in order, and ``after_batch`` when none is left for the moment.

    ``after_batch`` may return after how many seconds it wants to be called again, tasks or not.
    ``stop`` ends it without another ``after_batch``: what was not synced was not promised. Any
    exception ends the process through ``on_failure``: a server with a dead thread must not look
    alive.
    """

    def __init__(
        self,
        name: str,
        on_failure: Callable[[BaseException], None],
        after_batch: Callable[[], float] | None = None,
    ) -> None:
        self._wait: float | None = None
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._on_failure = on_failure
        self._after_batch = after_batch
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, task: Task) -> None:
        self._queue.put(task)

    def stop(self) -> None:
        """Finish what is queued, then end."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            while self._batch():
                pass
        except BaseException as error:
            self._on_failure(error)

    def _batch(self) -> bool:
        try:
            task = self._queue.get(timeout=self._wait)
            for left in range(BATCH_TASKS_MAX - 1, -1, -1):
                if task is None:
                    return False
                task()
                if left:
                    task = self._queue.get_nowait()
        except queue.Empty:
            pass
        if self._after_batch is not None:
            self._wait = self._after_batch() or None
        return True


class LogThread:
    """``server.Log`` on a disk: appends, and one sync for all appends that are waiting."""

    def __init__(
        self,
        wal: WriteAheadLog,
        snapshots: SnapshotStore,
        post: Callable[[Any], None],
        install: Callable[[str, SnapshotMark], None],
        on_failure: Callable[[BaseException], None],
        *,
        new_worker: NewWorker = Worker,
    ) -> None:
        self._wal = wal
        self._snapshots = snapshots
        self._post = post
        self._install = install
        self._unsynced: list[int] = []
        self._worker = new_worker("log", on_failure, self._sync)

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop()
        self._wal.close()

    def write(
        self,
        sequence: int,
        hard_state: HardState | None,
        reset: SnapshotMark | None,
        entries: Sequence[Entry],
    ) -> None:
        def task() -> None:
            if hard_state is not None or reset is not None or entries:
                self._wal.append(hard_state, entries, reset)
            self._unsynced.append(sequence)

        self._worker.submit(task)

    def _sync(self) -> float:
        if not self._unsynced:
            return 0.0
        self._wal.sync()
        sequences, self._unsynced = self._unsynced, []
        for sequence in sequences:
            self._post(Persisted(sequence))
        return 0.0

    def receive_chunk(self, chunk: SnapshotChunk) -> None:
        def task() -> None:
            self._snapshots.receive(chunk.offset, chunk.data)
            if not chunk.last:
                return
            mark = SnapshotMark(chunk.index, chunk.snapshot_term)
            # The term of the leader that sent it may not be durable yet.
            self._wal.sync()
            try:
                name = self._snapshots.finish()
            except DirectoryRefused as error:
                log.warning("a snapshot from the leader is damaged", error=str(error))
                self._post(SnapshotRefused(*mark))
                return
            self._install(name, mark)

        self._worker.submit(task)

    def read_chunk(self, wanted: SnapshotWanted) -> None:
        def task() -> None:
            name = self._snapshots.lend(wanted.peer, wanted.index, wanted.term)
            if name is None:
                return
            index, term = mark_of(name)
            offset = wanted.offset if (index, term) == (wanted.index, wanted.term) else 0
            try:
                data = self._snapshots.chunk(name, offset, wanted.max_bytes)
                total = self._snapshots.size(name)
            except FileNotFoundError:
                return  # it was found to be of no use; the peer asks again
            last = offset + len(data) == total
            self._post(SnapshotChunkRead(wanted.peer, index, term, offset, data, last, total))

        self._worker.submit(task)

    def send_image(self, peer: int, wanted: ImageWanted, on_missing: Callable[[int], None]) -> None:
        """Send a server in quarantine a piece of a snapshot; ``on_missing`` if none will do."""

        def task() -> None:
            name = self._snapshots.lend(peer, wanted.index, wanted.term)
            if name is None or mark_of(name)[0] < wanted.at_least:
                on_missing(wanted.at_least)
                return
            index, term = mark_of(name)
            offset = wanted.offset if (index, term) == (wanted.index, wanted.term) else 0
            try:
                data = self._snapshots.chunk(name, offset, IMAGE_CHUNK_BYTES)
                total = self._snapshots.size(name)
            except FileNotFoundError:
                return  # as above
            self._post(PeerNote(peer, ImageChunk(index, term, offset, total, data)))

        self._worker.submit(task)

    def compact(self, keep_from: int) -> None:
        self._worker.submit(lambda: self._wal.compact(keep_from))


class MachineThread:
    """``server.Machine`` in a thread, with the snapshots that it takes and installs.

    A snapshot is written by a thread of its own from a root, which costs nothing to take. What is
    computed for it takes turns with everything else in the interpreter, so that thread pauses after
    each piece for ``PAUSE`` times as long as the piece took (``pause`` does nothing by default).
    """

    def __init__(
        self,
        machine: StateMachine,
        snapshots: SnapshotStore,
        post: Callable[[Any], None],
        on_failure: Callable[[BaseException], None],
        *,
        threshold: int,
        snapshot_index: int,
        new_worker: NewWorker = Worker,
        spawn: Callable[[str, Task], None] = start_thread,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = lambda _: None,
        server_id: int = 0,
    ) -> None:
        self.machine = machine
        self._snapshots = snapshots
        self._post = post
        self._on_failure = on_failure
        self._compaction = Compaction(threshold, snapshot_index, server_id)
        self._saving = False
        self._crowded = False  # the last snapshot that was due did not fit on the disk
        self._wanted = 0  # somebody needs a snapshot of at least this index
        self._spawn = spawn
        self._clock = clock
        self._pause = pause
        self.worker = new_worker("machine", on_failure, self._after_batch)

    def start(self) -> None:
        self.worker.start()

    def stop(self) -> None:
        self.worker.stop()

    # ----------------------------------------------------------------- server.Machine

    def apply(self, entries: Sequence[Entry]) -> None:
        def task() -> None:
            self.machine.apply(entries)
            self._compaction.applied(entries)
            self._maybe_save()

        self.worker.submit(task)

    def role_changed(self, state: SoftState) -> None:
        self.worker.submit(lambda: self.machine.role_changed(state))

    def proposal_refused(self, token: int, reason: RefusalReason) -> None:
        self.worker.submit(lambda: self.machine.proposal_refused(token, reason))

    def reads_ready(self, reads: Sequence[tuple[int, int]]) -> None:
        self.worker.submit(lambda: self.machine.reads_ready(reads))

    def reads_failed(self, tokens: Sequence[int]) -> None:
        self.worker.submit(lambda: self.machine.reads_failed(tokens))

    def noted(self, peer: int, note: Note) -> None:
        self.worker.submit(lambda: self.machine.noted(peer, note))

    # ----------------------------------------------------------------- snapshots

    def _after_batch(self) -> float:
        return self.machine.turn()

    def save_now(self, at_least: int) -> None:
        """Take a snapshot of this moment, unless there is one of ``at_least`` or later."""

        def task() -> None:
            self._wanted = max(self._wanted, at_least)
            self._maybe_save()

        self.worker.submit(task)

    def _maybe_save(self) -> None:
        wanted = self._wanted <= self.machine.replica.applied_index and (
            self._compaction.lacks(self._wanted)
        )
        if self._saving or not (wanted or self._compaction.due):
            return
        if not self._snapshots.has_room():
            if not self._crowded:
                log.error("no snapshot is taken: the disk has no room for it")
            self._crowded = True
            return
        self._crowded = False
        captured = self.machine.replica.capture()
        if captured is None:
            return
        self._saving = True
        self._compaction.begin()
        meta, root = captured

        def save() -> None:
            try:
                started = self._clock()
                name = self._snapshots.save(meta, self._paced(root_stream(root)))
                seconds = round(self._clock() - started, 3)
                log.info("snapshot saved", index=meta.index, name=name, seconds=seconds)
                self.worker.submit(lambda: self._saved(meta))
            except BaseException as error:
                self._on_failure(error)

        self._spawn("snapshot", save)

    def _paced(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, with time for others between them."""
        begun = self._clock()
        for piece in stream:
            yield piece
            now = self._clock()
            self._pause(min(PAUSE * (now - begun), PAUSE_SECONDS_MAX))
            begun = self._clock()

    def _saved(self, meta: SnapshotMeta) -> None:
        self._saving = False
        self._compaction.at(meta.index)
        keep_from = self._compaction.keep_from(meta.index, self._snapshots.lent())
        membership = meta.decoded_membership()
        self._post(SnapshotSaved(meta.index, meta.term, keep_from, membership))

    def install(self, name: str, mark: SnapshotMark) -> None:
        """A snapshot from the leader is on the disk: load it, and take its state."""

        def task() -> None:
            try:
                meta, stream = self._snapshots.load(name)
                root = load_root(stream)
                membership = meta.decoded_membership()
            except (DirectoryRefused, CorruptionError, CodecError) as error:
                log.warning("a snapshot from the leader cannot be loaded", error=str(error))
                self._snapshots.remove(name)  # or the next start would begin from it
                self._post(SnapshotRefused(*mark))
                return
            self.machine.replica.restore(meta, root)
            self.machine.restored()
            self._compaction.at(meta.index)
            self._snapshots.remove_older(name)
            log.info("snapshot installed", index=meta.index)
            self._post(SnapshotRestored(meta.index, meta.term, membership))

        self.worker.submit(task)


def root_stream(root: Root) -> Iterator[bytes]:
    """The graph as a stream of bytes."""
    return write_snapshot(root)
