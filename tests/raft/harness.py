"""A cluster of cores under one seed: network, disks, state machines and time are all made here.

Everything random comes from one ``Random(seed)``. The network loses, duplicates, delays and
reorders; partitions are one-way or both ways; a disk completes its writes late and a crash loses
what it has not completed; a state machine applies late; snapshots are taken, logs compacted, and
snapshots received are installed in steps that a crash can fall between.

After every event the cluster checks (paper, figure 3): Election Safety, Log Matching, Leader
Completeness, State Machine Safety; and that nothing was promised before it was durable, that what
is committed is durable on a majority, that no read is older than what was committed before it was
asked for, what ``harness_members.py`` says of memberships, and each core's own invariants.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from harness_members import SERVERS_MAX, MembershipChecks, draw_request
from harness_world import Faults, Machine, Server

from actors.raft import codec, invariants
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    AppendReply,
    Applied,
    ChangeMembership,
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
from actors.raft.ready import HardState, Ready, Role, SnapshotMark, SnapshotWanted, SoftState

__all__ = ["Cluster", "Faults"]


class Cluster:
    """``n`` servers, the messages between them, and the checks."""

    def __init__(self, n: int, seed: int, faults: Faults | None = None, **settings: Any) -> None:
        self.random = Random(seed)
        self.faults = faults or Faults.draw(self.random)
        self.now_ms = 1000
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
            "caught_up_entries_max": 4,
        }
        self.settings = {**defaults, **settings}
        self.servers: dict[int, Server] = {}
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
        self.members = MembershipChecks()
        voters = tuple(range(1, n + 1))
        # As of committed_index.
        self.membership = Membership.of_voters(voters)
        for voter in voters:
            self.create(voter, voters)
        self.at(1, self.client)

    def create(self, server_id: int, voters: tuple[int, ...] = ()) -> Server:
        """A new server; without ``voters`` it waits until it is made a member."""
        config = CoreConfig(server_id, voters, **self.settings)
        server = self.servers[server_id] = Server(config, self.random)
        server.start(self.now_ms)
        return server

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
            self._check_core(core)
            self._carry_out(server, core, ready)
            invariants.check(core)
        self.count["dropped"] = max(self.count["dropped"], core.dropped)

    def _carry_out(self, server: Server, core: RaftCore, ready: Ready) -> None:
        self._check_entries(core, ready.entries)
        if ready.soft_state is not None:
            self._check_role(core, ready.soft_state)
        if ready.membership is not None:
            self.count["memberships"] += 1
            assert ready.membership == core.membership
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
        for refused in ready.refused:
            self.count[refused.reason.name] += 1
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

    def _check_core(self, core: RaftCore) -> None:
        """After each step, while the membership that decided is still the one in force."""
        self._check_commit(core)
        self.members.check(core)

    def _check_role(self, core: RaftCore, state: SoftState) -> None:
        if state.role in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            self.members.check_campaign(core)
        if state.role is Role.LEADER:
            self._check_new_leader(core, state.term)
        if state.removed:
            self.count["removed"] += 1
            committed = core.log.configuration_at(core.commit_index).membership
            assert committed.get(core.server_id) is None, f"{core} says that it was removed"

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
        if log.commit_index > self.committed_index:
            assert core.role is Role.LEADER, f"{core} knows of a commit that no leader made"
            self._check_new_commit(core)
        for index in range(max(log.first_index, log.commit_index - 8), log.commit_index + 1):
            assert log.term_at(index) == self.committed[index], f"two commits at {index}"

    def _check_new_commit(self, core: RaftCore) -> None:
        log, voters = core.log, core.membership.voters
        for index in range(max(self.committed_index, log.base_index) + 1, log.commit_index + 1):
            term = log.term_at(index)
            self.committed[index] = term
            holders = [voter for voter in voters if self.servers[voter].disk.holds(index, term)]
            assert len(holders) >= majority(len(voters)), f"{index} committed on {holders}"
        self.committed_index = log.commit_index
        configuration = log.configuration_at(log.commit_index)
        self.membership = configuration.membership
        self.members.committed(configuration)

    def _check_applied(self, machine: Machine) -> None:
        """State Machine Safety."""
        found = self.applied.setdefault(machine.index, (machine.term, machine.digest))
        assert found == (machine.term, machine.digest), f"state machines differ at {machine.index}"

    # Events

    def step(self, server: Server, message: Any) -> None:
        assert server.core is not None
        server.core.advance_clock(self.now_ms)
        server.core.step(message)
        self._check_core(server.core)

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
            machine.apply(machine.queue.popleft())
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
        saved = SnapshotSaved(machine.index, machine.term, keep_from, machine.membership)
        self.step(server, saved)
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
            self.step(server, SnapshotRestored(*mark, server.machine.membership))
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
        server = random.choice(list(self.servers.values()))
        if server.core is None:
            if random.random() < 0.2 and not server.retired:
                self.restart(server)
            return
        if server.core.removed and random.random() < 0.3:
            server.retired = True
            server.crash()
            return
        if random.random() < faults.crash:
            self.crash(server)
        elif random.random() < faults.cut:
            self._cut()
        elif random.random() < faults.churn:
            self._trouble_leader()
        elif random.random() < faults.snapshot:
            self.save_snapshot(server)
        elif random.random() < faults.members:
            self.ask(self.change_members)
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

    def change_members(self, server: Server) -> None:
        """Ask for a change of membership or of leadership; sometimes of a server that is dead."""
        core = server.core
        assert core is not None
        membership = core.membership
        if not membership.members:
            return
        self.token += 1
        new_id = next(
            (n for n, s in self.servers.items() if n > membership.last_used_id and not s.retired),
            max(self.servers) + 1,
        )
        if new_id not in self.servers and len(self.servers) >= SERVERS_MAX:
            new_id = membership.last_used_id
        request = draw_request(self.random, self.token, membership, new_id)
        if isinstance(request, ChangeMembership):
            change = request.change
            self.count[type(change).__name__] += 1
            if isinstance(change, AddMember) and change.server_id not in self.servers:
                self.create(change.server_id)
            if isinstance(change, AddMember) and change.replaces and self.random.random() < 0.5:
                self._lose(self.servers[change.replaces])
        if server.core is not None:
            self.step(server, request)

    def _lose(self, server: Server) -> None:
        """Its disk is gone; with ``settle`` it turns up again, if it has not been replaced."""
        self.count["lost"] += 1
        server.retired = True
        if server.core is not None:
            self.crash(server)

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
        friend = self.random.choice(list(self.servers)) if dice < 0.8 else alone
        self.blocked = {
            pair
            for other in self.servers
            if other not in (alone, friend)
            for pair in ((alone, other), (other, alone))
        }

    def _cut(self) -> None:
        self.count["partitions"] += 1
        self.blocked.clear()
        if self.random.random() < 0.5:
            return
        for a in self.servers:
            for b in self.servers:
                if a != b and self.random.random() < 0.25:
                    self.blocked.add((a, b))

    def settle(self, limit_ms: int = 4000) -> None:
        """Heal everything; then all must agree within ``limit_ms`` of simulated time."""
        self.faults = Faults()
        self.blocked.clear()
        self._staff()
        end_ms = self.now_ms + limit_ms
        goal: Entry | None = None
        asked_ms = 0
        while self.now_ms < end_ms:
            self.advance()
            if goal is not None and self.committed.get(goal.index) == goal.term:
                if self._has_settled(goal):
                    return
            elif self.now_ms - asked_ms >= 500:
                # The first may have gone to a leader that was deposed at once.
                goal, asked_ms = self._propose_once(), self.now_ms
        raise AssertionError(
            f"no progress: {[s.core for s in self.servers.values()]}, {goal}, {self.membership}"
        )

    def _staff(self) -> None:
        """Start all members; end those who are none, if nothing keeps them from disturbing."""
        used, members = self.membership.last_used_id, self.membership.ids
        for server_id, server in self.servers.items():
            if server_id in members or server_id > used:
                server.retired = False
                if server.core is None:
                    self.restart(server)
            elif not server.config.check_quorum:
                server.retired = True
                server.crash()

    def _has_settled(self, goal: Entry) -> bool:
        """All members have the goal, the membership asks for nothing more, and a voter leads."""
        members = self.membership.members
        leader = self._newest_leader()
        return leader in self.membership.voters and all(
            self.servers[member.server_id].machine.index >= goal.index
            and member.role is not MemberRole.JOINING
            and not member.replaces
            for member in members
        )

    def _newest_leader(self) -> int:
        """Whoever leads in the newest term that a member knows; 0 if nobody does."""
        known = [self.servers[i].core for i in self.membership.ids]
        newest = max(core.term for core in known if core is not None)
        for server_id, server in self.servers.items():
            core = server.core
            if core is not None and core.role is Role.LEADER and core.term == newest:
                return server_id
        return 0

    def _propose_once(self) -> Entry | None:
        """Propose to the newest leader; the entry that the whole cluster must reach."""
        leader = self._newest_leader()
        core = self.servers[leader].core if leader else None
        if core is None:
            return None
        refused = self.count["refused"]
        self.propose(self.servers[leader])
        self.drain(self.servers[leader])
        if self.count["refused"] == refused and core.role is Role.LEADER:
            return core.log.entry(core.last_index)
        return None

    def report(self) -> str:
        """The last events, for a failure message."""
        return "\n".join(self.trace)
