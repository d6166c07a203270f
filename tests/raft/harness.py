"""A cluster of cores under one seed: network, disks, state machines and time are all made here.

Everything random comes from one ``Random(seed)``. The network loses, duplicates, delays and
reorders; partitions are one-way or both ways; a disk completes its writes late and a crash loses
what it has not completed; a state machine applies late; snapshots are taken, logs compacted, and
snapshots received are installed in steps that a crash can fall between.

After every event the cluster checks (paper, figure 3): Election Safety, Log Matching, Leader
Completeness, State Machine Safety; and that nothing was promised before it was durable, that what
is committed is durable on a majority, that no read is older than what was committed before it was
asked for, and each core's own invariants.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from actors.raft import codec, invariants
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.messages import (
    AppendReply,
    Applied,
    Entry,
    EntryKind,
    PeerDown,
    PeerMessage,
    PeerReset,
    Persisted,
    Propose,
    ReadIndex,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotRestored,
    SnapshotSaved,
    Tick,
    Unreachable,
    VoteReply,
    VoteRequest,
)
from actors.raft.quorum import majority
from actors.raft.ready import HardState, Ready, Restored, Role, SnapshotMark, SnapshotWanted

NO_MARK = SnapshotMark(0, 0)
NO_HARD_STATE = HardState(0, 0)


def digest_after(digest: int, entry: Entry) -> int:
    return zlib.crc32(b"%d:%d:%s" % (entry.index, entry.term, entry.data), digest)


@dataclass
class Disk:
    """What survives a crash, and the writes that may not."""

    hard_state: HardState = NO_HARD_STATE
    base: SnapshotMark = NO_MARK
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMark = NO_MARK
    snapshot_data: bytes = b""
    pending: deque[Ready] = field(default_factory=deque)

    def complete_one(self) -> Ready:
        ready = self.pending.popleft()
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.log_reset is not None:
            self.base, self.entries = ready.log_reset, []
        if ready.entries:
            keep = ready.entries[0].index - self.base.index - 1
            assert 0 <= keep <= len(self.entries), "a write left a gap in the stored log"
            self.entries[keep:] = ready.entries
        return ready

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable, in the log or under the snapshot."""
        if index <= max(self.snapshot.index, self.base.index):
            return True
        position = index - self.base.index - 1
        return position < len(self.entries) and self.entries[position].term == term

    def compact(self, keep_from: int) -> None:
        count = keep_from - 1 - self.base.index
        if 0 < count <= len(self.entries):
            last = self.entries[count - 1]
            self.base = SnapshotMark(last.index, last.term)
            del self.entries[:count]


@dataclass
class Machine:
    """A state machine: a running checksum over what it applied."""

    index: int = 0
    term: int = 0
    digest: int = 0
    queue: deque[Entry] = field(default_factory=deque)

    def image(self) -> bytes:
        text = b"%d %d %d" % (self.index, self.term, self.digest)
        return text.ljust(100, b" ")

    def load(self, image: bytes) -> None:
        self.index, self.term, self.digest = map(int, image.split())
        self.queue.clear()


@dataclass
class Faults:
    """How bad the world is; drawn from the seed, so that runs differ in kind.

    ``loss`` and ``duplication`` are of messages; ``crash``, ``cut``, ``churn`` and ``snapshot`` are
    chances at each turn of the client; delays are the longest ones, in milliseconds.
    """

    loss: float = 0.0
    duplication: float = 0.0
    crash: float = 0.0
    cut: float = 0.0
    churn: float = 0.0
    snapshot: float = 0.0
    refusal: float = 0.0
    network_ms: int = 4
    disk_ms: int = 2

    @classmethod
    def draw(cls, random: Random) -> Faults:
        def sometimes(high: float) -> float:
            return random.random() * high if random.random() < 0.6 else 0.0

        return cls(
            loss=sometimes(0.2),
            duplication=sometimes(0.2),
            crash=sometimes(0.02),
            cut=sometimes(0.02),
            churn=sometimes(0.04),
            snapshot=sometimes(0.4),
            refusal=sometimes(0.9),
            network_ms=random.choice((3, 10, 10, 40)),
            disk_ms=random.choice((1, 5, 5, 30)),
        )


class Server:
    """One core and its world; ``core`` is None while it is down."""

    def __init__(self, config: CoreConfig, random: Random) -> None:
        self.config = config
        self.random = random
        self.disk = Disk()
        self.machine = Machine()
        self.core: RaftCore | None = None
        self.held: deque[Ready] = deque()
        self.incoming = bytearray()
        self.install: tuple[SnapshotMark, bytes] | None = None

    def start(self, now_ms: int) -> RaftCore:
        disk = self.disk
        restored = Restored.from_disk(disk.hard_state, disk.snapshot, disk.entries)
        # The same rule on the disk.
        disk.entries, disk.base = list(restored.entries), disk.snapshot
        self.machine = Machine()
        if disk.snapshot != NO_MARK:
            self.machine.load(disk.snapshot_data)
        self.core = RaftCore(self.config, restored, self.random, now_ms)
        return self.core

    def crash(self) -> None:
        self.core = None
        self.disk.pending.clear()
        self.held.clear()
        self.incoming.clear()
        self.install = None


class Cluster:
    """``n`` servers, the messages between them, and the checks."""

    def __init__(self, n: int, seed: int, faults: Faults | None = None, **settings: Any) -> None:
        self.random = Random(seed)
        self.faults = faults or Faults.draw(self.random)
        self.now_ms = 1000
        self.voters = tuple(range(1, n + 1))
        defaults: dict[str, Any] = {
            "election_timeout_min_ms": 100,
            "election_timeout_max_ms": 200,
            "heartbeat_interval_ms": 20,
            "append_bytes_max": 300,
            "append_entries_max": 8,
            "inflight_messages_max": 4,
            "inflight_bytes_max": 900,
            "uncommitted_bytes_max": 6000,
            "committed_bytes_max": 500,
            "unapplied_bytes_max": 1500,
            "snapshot_chunk_bytes": 40,
            "snapshot_retry_ms": 60,
        }
        self.servers = {
            voter: Server(CoreConfig(voter, self.voters, **{**defaults, **settings}), self.random)
            for voter in self.voters
        }
        # (time, order of making, action): what will happen.
        self.events: list[tuple[int, int, Any]] = []
        self.order = 0
        self.blocked: set[tuple[int, int]] = set()
        self.token = 0
        self.count: Counter[str] = Counter()
        # What the checks remember.
        self.leaders: dict[int, int] = {}
        self.seen: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.committed: dict[int, int] = {}
        self.committed_index = 0
        self.applied: dict[int, tuple[int, int]] = {}
        self.read_floor: dict[int, int] = {}
        self.trace: deque[str] = deque(maxlen=60)
        for server in self.servers.values():
            server.start(self.now_ms)
        self.at(1, self.client)

    # Time

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.order += 1
        heappush(self.events, (self.now_ms + delay_ms, self.order, action))

    def later(self, server: Server, delay_ms: int, action: Callable[[Server], None]) -> None:
        """Do that with ``server``, unless it crashes before."""
        core = server.core
        self.at(delay_ms, lambda: action(server) if server.core is core else None)

    def run(self, duration_ms: int) -> None:
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.advance()

    def advance(self) -> None:
        """One event, or one tick."""
        running = [s for s in self.servers.values() if s.core is not None]
        deadline, late = min(
            ((s.core.deadline_ms, s.config.server_id) for s in running if s.core),
            default=(self.events[0][0], 0),
        )
        if deadline >= self.events[0][0]:
            self.now_ms, _, action = heappop(self.events)
            action()
            return
        self.now_ms = max(self.now_ms, deadline)
        server = self.servers[late]
        assert server.core is not None
        self.step(server, Tick(self.now_ms))
        assert server.core.deadline_ms > self.now_ms
        self.drain(server)

    # Effects of a Ready

    def drain(self, server: Server) -> None:
        core = server.core
        if core is None:
            return
        invariants.check(core)
        while (ready := core.ready()) is not None:
            self.trace.append(f"{self.now_ms} {core.server_id} {ready}")
            self._carry_out(server, core, ready)
            invariants.check(core)
        self._check_commit(core)
        self.count["dropped"] = max(self.count["dropped"], core.dropped)

    def _carry_out(self, server: Server, core: RaftCore, ready: Ready) -> None:
        self._check_entries(core, ready.entries)
        if ready.soft_state is not None and ready.soft_state.role is Role.LEADER:
            self._check_new_leader(core, ready.soft_state.term)
        random, faults = self.random, self.faults
        if ready.sequence:
            server.held.append(ready)
            server.disk.pending.append(ready)
            self.later(server, random.randint(0, faults.disk_ms), self.complete_writes)
        else:
            assert not ready.messages_after_persist
        for message in ready.messages:
            self._send(server, message)
        for chunk in ready.snapshot_chunks:
            if chunk.offset == 0:
                server.incoming.clear()
            assert chunk.offset == len(server.incoming), "a chunk out of order"
            server.incoming += chunk.data
            if chunk.last:
                mark = SnapshotMark(chunk.index, chunk.snapshot_term)
                server.install = (mark, bytes(server.incoming))
                self.later(server, random.randint(0, 50), self.install_snapshot)
        for wanted in ready.snapshot_requests:
            self.later(server, random.randint(0, 5), partial(self.read_chunk, wanted=wanted))
        if ready.committed:
            server.machine.queue.extend(ready.committed)
            self.later(server, random.randint(0, 20), self.apply)
        self.count["refused"] += len(ready.refused)
        self.count["reads_failed"] += len(ready.reads_failed)
        for token, index in ready.reads:
            self.count["reads"] += 1
            assert index >= self.read_floor[token], f"stale read at {index}"

    def _send(self, server: Server, message: PeerMessage) -> None:
        self._check_promise(server, message)
        self.count[type(message).__name__] += 1
        data = codec.encode(message)
        assert codec.decode(data) == message
        for _ in range(1 + (self.random.random() < self.faults.duplication)):
            if self.random.random() >= self.faults.loss:
                delay_ms = self.random.randint(0, self.faults.network_ms)
                self.at(delay_ms, partial(self.deliver, message.sender, message.receiver, data))

    # Checks

    def _check_promise(self, server: Server, message: PeerMessage) -> None:
        """Votes and acknowledgements only leave when what they say is durable."""
        disk = server.disk
        if isinstance(message, VoteReply) and message.granted:
            assert disk.hard_state.term > message.term or disk.hard_state == HardState(
                message.term, message.receiver
            ), f"{message} before the vote is durable: {disk.hard_state}"
        if isinstance(message, VoteRequest):
            assert disk.hard_state.term >= message.term, f"{message} before the term is durable"
        if isinstance(message, AppendReply) and message.success and message.index:
            durable = max(disk.base.index + len(disk.entries), disk.snapshot.index)
            newer = disk.hard_state.term > message.term
            assert durable >= message.index or newer, f"{message} but only {durable} is durable"

    def _check_entries(self, core: RaftCore, entries: tuple[Entry, ...]) -> None:
        """Log Matching: an index and a term name one entry and one predecessor."""
        for entry in entries:
            previous = core.log.term_at(entry.index - 1)
            found = self.seen.setdefault((entry.index, entry.term), (previous, entry.data))
            assert found == (previous, entry.data), f"two entries {entry.index}/{entry.term}"

    def _check_new_leader(self, core: RaftCore, term: int) -> None:
        """Election Safety and Leader Completeness."""
        self.count["leaders"] += 1
        other = self.leaders.setdefault(term, core.server_id)
        assert other == core.server_id, f"two leaders in term {term}"
        for index, committed_term in self.committed.items():
            if index > core.log.base_index:
                assert core.log.term_at(index) == committed_term, (
                    f"leader {core.server_id} of term {term} lacks committed {index}"
                )

    def _check_commit(self, core: RaftCore) -> None:
        log = core.log
        for index in range(max(self.committed_index, log.base_index) + 1, log.commit_index + 1):
            term = log.term_at(index)
            self.committed[index] = term
            holders = sum(server.disk.holds(index, term) for server in self.servers.values())
            assert holders >= majority(len(self.servers)), f"{index} committed on {holders}"
        self.committed_index = max(self.committed_index, log.commit_index)
        for index in range(max(log.first_index, log.commit_index - 8), log.commit_index + 1):
            assert log.term_at(index) == self.committed[index], f"two commits at {index}"

    def _check_applied(self, machine: Machine) -> None:
        """State Machine Safety."""
        found = self.applied.setdefault(machine.index, (machine.term, machine.digest))
        assert found == (machine.term, machine.digest), f"state machines differ at {machine.index}"

    # Events

    def step(self, server: Server, message: Any) -> None:
        assert server.core is not None
        server.core.advance_clock(self.now_ms)
        server.core.step(message)

    def deliver(self, sender: int, receiver: int, data: bytes) -> None:
        server = self.servers[receiver]
        if server.core is None or (sender, receiver) in self.blocked:
            return
        message = codec.decode(data)
        self.trace.append(f"{self.now_ms} -> {message}")
        self.step(server, message)
        # Sometimes more is stepped before the Ready is taken, as in a batch.
        if self.random.random() < 0.7:
            self.drain(server)
        else:
            self.later(server, 1, self.drain)

    def complete_writes(self, server: Server) -> None:
        """Finish some of the writes under way, in order; the rest are still scheduled."""
        disk = server.disk
        sequence = 0
        for _ in range(self.random.choice((1, 2, len(disk.pending)))):
            if disk.pending:
                sequence = disk.complete_one().sequence
        if disk.pending:
            self.later(server, 1 + self.faults.disk_ms, self.complete_writes)
        if not sequence:
            return
        while server.held and server.held[0].sequence <= sequence:
            for message in server.held.popleft().messages_after_persist:
                self._send(server, message)
        self.step(server, Persisted(sequence))
        self.drain(server)

    def apply(self, server: Server) -> None:
        machine = server.machine
        for _ in range(self.random.choice((1, 5, len(machine.queue)))):
            if not machine.queue or server.install is not None:
                break
            entry = machine.queue.popleft()
            assert entry.index == machine.index + 1, f"{entry.index} after {machine.index}"
            machine.digest = digest_after(machine.digest, entry)
            machine.index, machine.term = entry.index, entry.term
            self._check_applied(machine)
        if machine.queue:
            self.later(server, 5, self.apply)
        self.step(server, Applied(machine.index))
        self.drain(server)

    def save_snapshot(self, server: Server) -> None:
        machine, disk = server.machine, server.disk
        if machine.index <= disk.snapshot.index or server.core is None:
            return
        disk.snapshot = SnapshotMark(machine.index, machine.term)
        disk.snapshot_data = machine.image()
        keep_from = machine.index + 1 - self.random.choice((0, 0, 0, 5))
        self.step(server, SnapshotSaved(machine.index, machine.term, keep_from))
        disk.compact(min(keep_from, machine.index + 1))
        self.count["snapshots"] += 1
        self.drain(server)

    def install_snapshot(self, server: Server) -> None:
        assert server.install is not None
        mark, data = server.install
        server.install = None
        if self.random.random() < self.faults.refusal:
            self.count["refusals"] += 1
            self.step(server, SnapshotRefused(*mark))
        else:
            server.disk.snapshot, server.disk.snapshot_data = mark, data
            assert mark.index > server.machine.index, "an older snapshot over a newer state"
            server.machine.load(data)
            self._check_applied(server.machine)
            if self.random.random() < self.faults.crash * 10:
                self.crash(server)
                return
            self.count["installed"] += 1
            self.step(server, SnapshotRestored(*mark))
        self.drain(server)

    def read_chunk(self, server: Server, wanted: SnapshotWanted) -> None:
        disk = server.disk
        mark, data = disk.snapshot, disk.snapshot_data
        offset = wanted.offset if mark == (wanted.index, wanted.term) else 0
        chunk = data[offset : offset + wanted.max_bytes]
        end = offset + len(chunk)
        self.step(
            server,
            SnapshotChunkRead(wanted.peer, *mark, offset, chunk, end == len(data), len(data)),
        )
        self.drain(server)

    def propose(self, server: Server, entries: int = 1) -> None:
        self.token += 1
        kinds = [EntryKind.FRAGMENT] * (entries - 1) + [EntryKind.COMMAND]
        payloads = tuple((kind, b"%d.%d" % (self.token, i)) for i, kind in enumerate(kinds))
        self.step(server, Propose(self.token, payloads))

    def read(self, server: Server) -> None:
        self.token += 1
        self.read_floor[self.token] = self.committed_index
        self.step(server, ReadIndex(self.token))

    def crash(self, server: Server) -> None:
        self.count["crashes"] += 1
        # Some of what was being written may have reached the disk, the beginning first.
        for _ in range(self.random.randint(0, len(server.disk.pending))):
            server.disk.complete_one()
        server.crash()

    def restart(self, server: Server) -> None:
        core = server.start(self.now_ms)
        for other in self.servers.values():
            if other.core is not None and other is not server:
                event = self.random.choice((PeerReset, PeerDown, Unreachable, None))
                if event is not None:
                    self.step(other, event(core.server_id))
        self.drain(server)

    # The client and the faults

    def client(self) -> None:
        """One turn: something is asked of the cluster, or something breaks."""
        random, faults = self.random, self.faults
        self.at(random.randint(2, 16), self.client)
        server = self.servers[random.choice(self.voters)]
        if server.core is None:
            if random.random() < 0.2:
                self.restart(server)
            return
        if random.random() < faults.crash:
            self.crash(server)
        elif random.random() < faults.cut:
            self._cut()
        elif random.random() < faults.churn:
            self._trouble_leader()
        elif random.random() < faults.snapshot:
            self.save_snapshot(server)
        elif random.random() < 0.6:
            self.ask(self.propose, random.choice((1, 1, 1, 4)))
        else:
            self.ask(self.read)

    def ask(self, action: Callable[..., None], *arguments: int) -> None:
        """Mostly of a server that believes it leads, be it right or not."""
        running = [s for s in self.servers.values() if s.core]
        leaders = [s for s in running if s.core and s.core.role is Role.LEADER]
        few = leaders if leaders and self.random.random() < 0.9 else running
        server = self.random.choice(few)
        action(server, *arguments)
        self.drain(server)

    def _trouble_leader(self) -> None:
        """Crash a leader, or leave it alone with one follower: elections then differ in logs."""
        leaders = [s for s in self.servers.values() if s.core and s.core.role is Role.LEADER]
        if not leaders:
            self.blocked.clear()
            return
        server = self.random.choice(leaders)
        dice = self.random.random()
        if dice < 0.4:
            self.crash(server)
            return
        alone = server.config.server_id
        friend = self.random.choice(self.voters) if dice < 0.8 else alone
        self.blocked = {
            pair
            for other in self.voters
            if other not in (alone, friend)
            for pair in ((alone, other), (other, alone))
        }

    def _cut(self) -> None:
        self.count["partitions"] += 1
        self.blocked.clear()
        if self.random.random() < 0.5:
            return
        for a in self.voters:
            for b in self.voters:
                if a != b and self.random.random() < 0.25:
                    self.blocked.add((a, b))

    def settle(self, limit_ms: int = 4000) -> None:
        """Heal everything; then all must agree within ``limit_ms`` of simulated time."""
        self.faults = Faults()
        self.blocked.clear()
        for server in self.servers.values():
            if server.core is None:
                self.restart(server)
        end_ms = self.now_ms + limit_ms
        goal: Entry | None = None
        asked_ms = 0
        while self.now_ms < end_ms:
            self.advance()
            if goal is not None and self.committed.get(goal.index) == goal.term:
                if all(server.machine.index >= goal.index for server in self.servers.values()):
                    return
            elif self.now_ms - asked_ms >= 500:
                # The first may have gone to a leader that was deposed at once.
                goal, asked_ms = self._propose_once(), self.now_ms
        raise AssertionError(f"no progress: {[s.core for s in self.servers.values()]}, {goal}")

    def _propose_once(self) -> Entry | None:
        """Propose to the newest leader; the entry that the whole cluster must reach."""
        cores = [server.core for server in self.servers.values() if server.core is not None]
        newest = max(core.term for core in cores)
        for core in cores:
            if core.role is Role.LEADER and core.term == newest:
                refused = self.count["refused"]
                self.propose(self.servers[core.server_id])
                self.drain(self.servers[core.server_id])
                if self.count["refused"] == refused and core.role is Role.LEADER:
                    return core.log.entry(core.last_index)
        return None

    def report(self) -> str:
        """The last events, for a failure message."""
        return "\n".join(self.trace)
