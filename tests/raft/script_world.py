"""The world that scripts act on: servers, their disks and state machines, a network, a clock.

Nothing happens by itself: a message stays in the network until it is delivered, a write stays
under way until it is completed, time stands still until it is moved. What a server does by itself
is to take every Ready at once, to apply what is committed, and to read its own snapshots for
sending; a stalled disk or state machine, or a busy server, does not.

Every event gives a line, and every effect of it an indented one. After each event the world
checks each core's invariants and Election Safety, Log Matching and State Machine Safety of the
paper's figure 3, so a script cannot record a run that breaks them.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field, replace

import script_text as text

from actors.raft import codec, invariants
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import Membership
from actors.raft.messages import (
    Applied,
    Entry,
    EntryKind,
    Message,
    PeerMessage,
    Persisted,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotRestored,
    SnapshotSaved,
    Tick,
)
from actors.raft.ready import (
    HardState,
    Ready,
    Restored,
    Role,
    SnapshotMark,
    SnapshotWanted,
    SoftState,
)

_NO_MARK = SnapshotMark(0, 0)
_NO_HARD_STATE = HardState(0, 0)

# A snapshot's length; with chunks of 40 bytes it travels in three.
_IMAGE_BYTES = 100

# Effects that a quiet command still shows.
_LOUD = {"becomes", "commits", "serves", "fails", "refuses", "members"}

# Rounds of delivering and writing before a script is taken for endless.
_ROUNDS_MAX = 300


class ScriptError(Exception):
    """A command makes no sense here; the message says why and what would."""


class Staggered:
    """Chance without chance: server n draws 10 (n - 1) above the lowest, if that is allowed."""

    def __init__(self, server_id: int) -> None:
        self.extra = 10 * (server_id - 1)

    def randint(self, a: int, b: int, /) -> int:
        assert a <= b, (a, b)
        return min(a + self.extra, b)


@dataclass
class Disk:
    """What survives a crash."""

    hard_state: HardState = _NO_HARD_STATE
    base: SnapshotMark = _NO_MARK
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMark = _NO_MARK
    image: bytes = b""

    def write(self, ready: Ready) -> None:
        """Carry out what a Ready wants written."""
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.log_reset is not None:
            self.base, self.entries = ready.log_reset, []
        if ready.entries:
            keep = ready.entries[0].index - self.base.index - 1
            assert 0 <= keep <= len(self.entries), "a write left a gap in the stored log"
            self.entries[keep:] = ready.entries

    def compact(self, index: int) -> None:
        """Drop the entries up to ``index``."""
        count = index - self.base.index
        if 0 < count <= len(self.entries):
            last = self.entries[count - 1]
            self.base = SnapshotMark(last.index, last.term)
            del self.entries[:count]


@dataclass
class Machine:
    """A state machine: a checksum over what it applied, and the newest membership of that."""

    index: int = 0
    term: int = 0
    digest: int = 0
    membership: Membership | None = None
    queue: deque[Entry] = field(default_factory=deque)

    def apply(self, entry: Entry) -> None:
        """Take the next entry."""
        assert entry.index == self.index + 1, f"{entry.index} after {self.index}"
        self.index, self.term = entry.index, entry.term
        if entry.kind is EntryKind.CONFIG:
            self.membership = Membership.decode(entry.data)
        self.digest = zlib.crc32(b"%d:%d:%s" % (entry.index, entry.term, entry.data), self.digest)

    def image(self) -> bytes:
        """All of it, as bytes."""
        stored = self.membership.encode().hex() if self.membership else ""
        image = f"{self.index} {self.term} {self.digest} {stored}"
        return image.encode().ljust(_IMAGE_BYTES)

    @classmethod
    def load(cls, image: bytes) -> Machine:
        """What ``image`` was made from; a new one from nothing."""
        if not image:
            return cls()
        index, term, digest, *stored = image.decode().split()
        membership = Membership.decode(bytes.fromhex(stored[0])) if stored else None
        return cls(int(index), int(term), int(digest), membership)


class Server:
    """One core and what belongs to it; ``core`` is None while it is down."""

    def __init__(self, config: CoreConfig, disk: Disk) -> None:
        self.id = config.server_id
        self.config = config
        self.disk = disk
        self.stalled: set[str] = set()
        self.busy = False
        self.core: RaftCore | None = None
        self.machine = Machine()
        self._forget()

    def _forget(self) -> None:
        self.pending: deque[Ready] = deque()
        self.incoming = bytearray()
        # A whole snapshot has arrived, in the Ready of that sequence.
        self.install: tuple[SnapshotMark, int] | None = None
        self.commit_shown = 0
        self.dropped_shown = 0
        self.handed_out = 0

    @property
    def installable(self) -> bool:
        """Whether a snapshot has arrived, and what was written before it is durable."""
        return self.install is not None and not (
            self.pending and self.pending[0].sequence <= self.install[1]
        )

    def start(self, now_ms: int) -> RaftCore:
        """Begin with what the disk holds."""
        disk = self.disk
        self.machine = machine = Machine.load(disk.image)
        restored = Restored.from_disk(
            disk.hard_state, disk.snapshot, disk.entries, machine.membership
        )
        disk.entries, disk.base = list(restored.entries), disk.snapshot
        core = self.core = RaftCore(self.config, restored, Staggered(self.id), now_ms)
        self.commit_shown, self.handed_out = core.commit_index, core.last_index
        return core

    def stop(self) -> None:
        """Lose everything that is not on the disk."""
        self.core = None
        self.busy = False
        self._forget()


class World:
    """All servers of a script, and what is under way between them."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.servers: dict[int, Server] = {}
        self.flight: list[PeerMessage] = []
        self.detained: list[PeerMessage] = []
        self.cut: set[tuple[int, int]] = set()
        self.lines: list[str] = []
        self.quiet = False
        self.silent = False
        self._leaders: dict[int, int] = {}
        self._seen: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._committed: dict[int, tuple[int, bytes]] = {}

    # What is shown

    def event(self, line: str) -> None:
        """Something happens."""
        if not self.quiet and not self.silent:
            self.lines.append(line)

    def effect(self, server: Server, verb: str, what: str) -> None:
        """A server does something because of it."""
        if self.silent:
            return
        if not self.quiet:
            self.lines.append(f"  {verb:<8} {what}")
        elif verb in _LOUD:
            self.lines.append(f"{server.id} {verb} {what}")

    # Servers

    def server(self, server_id: int) -> Server:
        """The server of that id, running or not."""
        if server_id not in self.servers:
            raise ScriptError(f"there is no server {server_id}: add it first")
        return self.servers[server_id]

    def running(self, server_id: int) -> tuple[Server, RaftCore]:
        """The server of that id and its core."""
        server = self.server(server_id)
        if server.core is None:
            raise ScriptError(f"server {server_id} is down: restart it first")
        return server, server.core

    def up(self) -> list[tuple[Server, RaftCore]]:
        """All servers that run, by id."""
        ordered = sorted(self.servers.items())
        return [(server, server.core) for _, server in ordered if server.core is not None]

    def add(self, server: Server) -> None:
        """Start a new server."""
        if server.id in self.servers:
            raise ScriptError(f"there is a server {server.id} already")
        self.servers[server.id] = server
        core = server.start(self.now_ms)
        for entry in server.disk.entries:
            self._check_entry(core, entry)

    def crash(self, server: Server, writes: int) -> None:
        """End a server; of its writes under way, the first ``writes`` reach the disk."""
        for _ in range(min(writes, len(server.pending))):
            server.disk.write(server.pending.popleft())
        lost = [ready.sequence for ready in server.pending]
        fate = f", write {text.span(lost[0], lost[-1])} lost" if lost else ""
        self.event(f"{server.id} crashes{fate}")
        server.stop()

    # Messages in

    def step(self, server: Server, message: Message) -> None:
        """Give a server one message and carry out what follows."""
        core = server.core
        assert core is not None
        core.advance_clock(self.now_ms)
        core.step(message)
        if server.busy:
            invariants.check(core)
        else:
            self.drain(server)

    def drain(self, server: Server) -> None:
        """Take Readys until there are none."""
        core = server.core
        assert core is not None
        invariants.check(core)
        self._show_dropped(server, core)
        while (ready := core.ready()) is not None:
            self._carry_out(server, core, ready)
            invariants.check(core)
            self.apply(server)
        self._show_commit(server, core)

    def tick(self, server: Server) -> None:
        """Tell a server the time."""
        self.event(f"{server.id} at {self.now_ms} ms")
        self.step(server, Tick(self.now_ms))

    def move_clock(self, until_ms: int, *, settle: bool) -> None:
        """Tick each server when it wants to be; ``settle``: stabilize after each tick."""
        while True:
            free = [(core.deadline_ms, server.id) for server, core in self.up() if not server.busy]
            due = min(free, default=None)
            if due is None or due[0] > until_ms:
                break
            self.now_ms = max(self.now_ms, due[0])
            server, core = self.running(due[1])
            self.tick(server)
            assert core.deadline_ms > self.now_ms, f"{server.id} would tick for ever"
            if settle:
                self.stabilize(None)
        self.now_ms = max(self.now_ms, until_ms)

    # Effects of a Ready

    def _carry_out(self, server: Server, core: RaftCore, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._show_position(server, ready.soft_state)
        if ready.membership is not None:
            self.effect(server, "members", text.members_text(ready.membership))
        self._show_commit(server, core)
        for proposed in ready.proposed:
            places = text.span(proposed.first_index, proposed.last_index)
            self.effect(server, "appends", f"request {proposed.token} at {places}")
        for refused in ready.refused:
            reason = refused.reason.name.lower().replace("_", " ")
            self.effect(server, "refuses", f"request {refused.token}: {reason}")
        for entry in ready.entries:
            self._check_entry(core, entry)
        if ready.sequence:
            written = text.write_text(ready, server.handed_out)
            self.effect(server, "writes", f"#{ready.sequence} {written}")
            server.pending.append(ready)
        if ready.log_reset is not None:
            server.handed_out = ready.log_reset.index
        if ready.entries:
            server.handed_out = ready.entries[-1].index
        for message in ready.messages:
            self._send(server, message)
        for message in ready.messages_after_persist:
            assert ready.sequence, "a promise that waits for no write"
            self.effect(server, "holds", f"{text.message_text(message)} (until #{ready.sequence})")
        self._take_snapshot(server, ready)
        server.machine.queue.extend(ready.committed)
        for token, index in ready.reads:
            self.effect(server, "serves", f"read {token} at {index}")
        for token in ready.reads_failed:
            self.effect(server, "fails", f"read {token}")

    def _take_snapshot(self, server: Server, ready: Ready) -> None:
        for chunk in ready.snapshot_chunks:
            if chunk.offset == 0:
                server.incoming.clear()
            assert chunk.offset == len(server.incoming), "a piece out of order"
            server.incoming += chunk.data
            mark = SnapshotMark(chunk.index, chunk.snapshot_term)
            size = f"{chunk.offset}..{len(server.incoming)} of {chunk.total}"
            self.effect(server, "stores", f"snapshot {text.mark_text(mark)} bytes {size}")
            if chunk.last:
                server.install = (mark, ready.sequence)
        for wanted in ready.snapshot_requests:
            self._read_chunk(server, wanted)

    def _read_chunk(self, server: Server, wanted: SnapshotWanted) -> None:
        disk, core = server.disk, server.core
        assert core is not None
        offset = wanted.offset if disk.snapshot == (wanted.index, wanted.term) else 0
        data = disk.image[offset : offset + wanted.max_bytes]
        end, total = offset + len(data), len(disk.image)
        mark = text.mark_text(disk.snapshot)
        self.effect(server, "fetches", f"snapshot {mark} bytes {offset}..{end} for {wanted.peer}")
        core.step(SnapshotChunkRead(wanted.peer, *disk.snapshot, offset, data, end == total, total))

    def _send(self, server: Server, message: PeerMessage) -> None:
        line = text.message_text(message)
        assert codec.decode(codec.encode(message)) == message, message
        if (message.sender, message.receiver) in self.cut:
            self.effect(server, "loses", line)
        else:
            self.effect(server, "sends", line)
            self.flight.append(message)

    def apply(self, server: Server) -> None:
        """Let the state machine have what is committed, unless it is stalled."""
        machine, core = server.machine, server.core
        if not machine.queue or "machine" in server.stalled or server.install is not None:
            return
        assert core is not None
        applied = list(machine.queue)
        machine.queue.clear()
        for entry in applied:
            machine.apply(entry)
            self._check_committed(entry)
        self.effect(server, "applies", text.entries_text(applied))
        core.step(Applied(machine.index))

    def _show_position(self, server: Server, now: SoftState) -> None:
        if now.role is Role.LEADER:
            first = self._leaders.setdefault(now.term, server.id)
            assert first == server.id, f"{first} and {server.id} both lead in term {now.term}"
        self.effect(server, "becomes", text.position_text(now))

    def _show_commit(self, server: Server, core: RaftCore) -> None:
        if core.commit_index > server.commit_shown:
            server.commit_shown = core.commit_index
            self.effect(server, "commits", f"to {core.commit_index}")

    def _show_dropped(self, server: Server, core: RaftCore) -> None:
        if core.dropped > server.dropped_shown:
            server.dropped_shown = core.dropped
            self.effect(server, "drops", "what no correct server can have sent")

    # Network, disks, snapshots

    def deliver(self, message: PeerMessage) -> None:
        """Take a message out of the network and give it to its receiver."""
        self._take(message)
        server = self.servers.get(message.receiver)
        if server is None or server.core is None:
            self.event(f"{text.message_text(message)} (nobody there)")
            return
        self.event(text.message_text(message))
        self.step(server, message)

    def lose(self, message: PeerMessage) -> None:
        """Take a message out of the network for good."""
        self._take(message)
        self.event(f"lost: {text.message_text(message)}")

    def _take(self, message: PeerMessage) -> None:
        position = next(i for i, other in enumerate(self.flight) if other is message)
        del self.flight[position]

    def detain(self, message: PeerMessage) -> None:
        """Set a message aside: it will come very late."""
        self._take(message)
        self.detained.append(message)
        self.event(f"detained: {text.message_text(message)}")

    def release(self) -> None:
        """Put what was set aside back into the network."""
        self.flight += self.detained
        self.detained = []

    def duplicate(self, message: PeerMessage) -> None:
        """Put a copy of a message into the network."""
        self.flight.append(replace(message))
        self.event(f"twice: {text.message_text(message)}")

    def complete_writes(self, server: Server, count: int) -> None:
        """Finish the oldest writes of a server, with one sync."""
        done = [server.pending.popleft() for _ in range(min(count, len(server.pending)))]
        self.event(f"{server.id} has written #{text.span(done[0].sequence, done[-1].sequence)}")
        for ready in done:
            server.disk.write(ready)
            for message in ready.messages_after_persist:
                self._send(server, message)
        self.step(server, Persisted(done[-1].sequence))

    def save_snapshot(self, server: Server, keep: int) -> None:
        """Take a snapshot of a state machine; ``keep`` of the entries that it covers stay."""
        machine, disk = server.machine, server.disk
        if machine.index <= disk.snapshot.index:
            raise ScriptError(f"server {server.id} has applied nothing since its last snapshot")
        disk.snapshot = SnapshotMark(machine.index, machine.term)
        disk.image = machine.image()
        kept = f", {keep} of its entries kept" if keep else ""
        self.event(f"{server.id} saves snapshot {text.mark_text(disk.snapshot)}{kept}")
        self.step(
            server,
            SnapshotSaved(
                machine.index, machine.term, machine.index + 1 - keep, machine.membership
            ),
        )
        disk.compact(machine.index - keep)

    def finish_install(self, server: Server, *, good: bool) -> None:
        """End the installation of a received snapshot."""
        if server.install is None:
            raise ScriptError(f"server {server.id} has no complete snapshot to install")
        if not server.installable:
            raise ScriptError(
                "a snapshot is durable only after what was written before it: persist"
            )
        mark, _ = server.install
        server.install = None
        if not good:
            self.event(f"{server.id} cannot load snapshot {text.mark_text(mark)}")
            self.step(server, SnapshotRefused(*mark))
            return
        assert mark.index > server.machine.index, "an older snapshot over a newer state"
        server.disk.snapshot, server.disk.image = mark, bytes(server.incoming)
        server.machine = Machine.load(server.disk.image)
        self.event(f"{server.id} has installed snapshot {text.mark_text(mark)}")
        self.step(server, SnapshotRestored(*mark, server.machine.membership))

    def stabilize(self, among: set[int] | None) -> None:
        """Write and deliver until all is quiet; only between those servers, if given."""
        for _ in range(_ROUNDS_MAX):
            if not self._round(among):
                return
        raise ScriptError(f"not quiet after {_ROUNDS_MAX} rounds")

    def _round(self, among: set[int] | None) -> bool:
        busy = False
        for server, _ in self.up():
            if among is not None and server.id not in among:
                continue
            if server.pending and "disk" not in server.stalled:
                self.complete_writes(server, len(server.pending))
                busy = True
            if server.installable and "machine" not in server.stalled:
                self.finish_install(server, good=True)
                busy = True
        for message in list(self.flight):
            receiver = self.servers.get(message.receiver)
            if receiver is not None and receiver.busy:
                continue
            if among is None or {message.sender, message.receiver} <= among:
                self.deliver(message)
                busy = True
        return busy

    # Safety (paper, figure 3)

    def _check_entry(self, core: RaftCore, entry: Entry) -> None:
        """Log Matching: the same place and term mean the same entry after the same term."""
        before = core.log.term_at(entry.index - 1)
        first = self._seen.setdefault((entry.index, entry.term), (before, entry.data))
        assert first == (before, entry.data), f"two entries {entry.index}/{entry.term}"

    def _check_committed(self, entry: Entry) -> None:
        """State Machine Safety: nobody applies another entry at the same index."""
        mine = (entry.term, entry.data)
        first = self._committed.setdefault(entry.index, mine)
        assert first == mine, f"entry {entry.index} was committed as {first}, now as {mine}"
