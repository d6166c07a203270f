"""The server loop over fakes: events in, and effects out in the order that safety asks for.

``Node`` is one server whose log, machine and network only write down what they are told. Nothing
happens by itself: a test completes writes, delivers messages and moves the clock. ``Cluster`` does
that for three nodes until nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from actors.envelope import Sender
from actors.raft import codec
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.messages import (
    Append,
    AppendReply,
    Applied,
    Entry,
    EntryKind,
    PeerMessage,
    Persisted,
    SnapshotChunk,
    SnapshotSaved,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import (
    HardState,
    RefusalReason,
    Restored,
    Role,
    SnapshotMark,
    SnapshotWanted,
    SoftState,
)
from actors.server import Event, FromPeer, Proposal, RaftServer, ReadRequest

CLUSTER = "0123456789abcdef" * 2
COMMAND = EntryKind.COMMAND


class FakeLog:
    def __init__(self) -> None:
        self.writing: list[int] = []
        self.written: list[tuple[HardState | None, SnapshotMark | None, tuple[Entry, ...]]] = []
        self.chunks: list[SnapshotChunk] = []
        self.wanted: list[SnapshotWanted] = []
        self.compacted: list[int] = []

    def write(
        self,
        sequence: int,
        hard_state: HardState | None,
        reset: SnapshotMark | None,
        entries: Sequence[Entry],
    ) -> None:
        self.writing.append(sequence)
        self.written.append((hard_state, reset, tuple(entries)))

    def receive_chunk(self, chunk: SnapshotChunk) -> None:
        self.chunks.append(chunk)

    def read_chunk(self, wanted: SnapshotWanted) -> None:
        self.wanted.append(wanted)

    def compact(self, keep_from: int) -> None:
        self.compacted.append(keep_from)


class FakeMachine:
    def __init__(self) -> None:
        self.applied: list[Entry] = []
        self.unapplied = 0
        self.roles: list[SoftState] = []
        self.refused: list[tuple[int, RefusalReason]] = []
        self.ready: list[tuple[int, int]] = []
        self.failed: list[int] = []

    def apply(self, entries: Sequence[Entry]) -> None:
        self.applied += entries
        self.unapplied = entries[-1].index

    def role_changed(self, state: SoftState) -> None:
        self.roles.append(state)

    def proposal_refused(self, token: int, reason: RefusalReason) -> None:
        self.refused.append((token, reason))

    def reads_ready(self, reads: Sequence[tuple[int, int]]) -> None:
        self.ready += [(token, index) for token, index in reads]

    def reads_failed(self, tokens: Sequence[int]) -> None:
        self.failed += tokens


class Node:
    def __init__(
        self, server_id: int, voters: tuple[int, ...], uncommitted_bytes_max: int = 2**20
    ) -> None:
        self.id = server_id
        self.log, self.machine = FakeLog(), FakeMachine()
        self.outbox: list[tuple[int, bytes]] = []
        config = CoreConfig(
            server_id,
            voters,
            commit_notice_ms=0,
            uncommitted_bytes_max=uncommitted_bytes_max,
        )
        core = RaftCore(config, Restored(), Random(server_id), now_ms=0)
        self.sender = Sender(server_id, 1, CLUSTER)
        self.server = RaftServer(core, self.log, self.machine, self, self.sender)
        self.now_ms = 0

    @property
    def core(self) -> RaftCore:
        return self.server.core

    def send(self, peer: int, data: bytes) -> None:  # the Network port
        self.outbox.append((peer, data))

    def advance(self, *events: Event) -> None:
        self.server.advance(events, self.now_ms)

    def tick(self) -> None:
        self.now_ms = max(self.now_ms, self.server.deadline_ms)
        self.advance(Tick(self.now_ms))

    def sync(self) -> bool:
        """Complete all writes; whether there were any."""
        writing, self.log.writing = self.log.writing, []
        for sequence in writing:
            self.advance(Persisted(sequence))
        return bool(writing)

    def apply(self) -> bool:
        index, self.machine.unapplied = self.machine.unapplied, 0
        if index:
            self.advance(Applied(index))
        return bool(index)

    def sent(self) -> list[PeerMessage]:
        """What went out since the last call."""
        outbox, self.outbox = self.outbox, []
        return [codec.decode(m) for _, data in outbox for m in self.sender.open(data, {})]

    def hear(self, *messages: PeerMessage) -> None:
        for message in messages:
            sender = Sender(message.sender, 1, CLUSTER)
            self.advance(FromPeer(sender.seal([codec.encode(message)])))

    def propose(self, token: int, *data: bytes, generation: int = 1, term: int = 0) -> Proposal:
        payloads = tuple((COMMAND, d) for d in data)
        return Proposal(token, term or self.core.term, generation, payloads)


class Cluster:
    def __init__(self, size: int = 3, uncommitted_bytes_max: int = 2**20) -> None:
        voters = tuple(range(1, size + 1))
        self.nodes = {i: Node(i, voters, uncommitted_bytes_max) for i in voters}
        self.cut: set[int] = set()

    def settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for node in self.nodes.values():
                busy |= node.sync() | node.apply()
                outbox, node.outbox = node.outbox, []
                for peer, data in outbox:
                    if not self.cut & {peer, node.id}:
                        busy = True
                        self.nodes[peer].advance(FromPeer(data))

    def elect(self, server_id: int) -> Node:
        node = self.nodes[server_id]
        now_ms = max(n.server.deadline_ms for n in self.nodes.values()) + 1_000
        for other in self.nodes.values():
            other.now_ms = now_ms
        node.advance(Tick(now_ms))
        self.settle()
        assert node.core.role is Role.LEADER
        return node


# --- Three servers --------------------------------------------------------------------------------


def test_a_leader_is_elected_and_everybody_is_told() -> None:
    cluster = Cluster()
    cluster.elect(2)
    for node in cluster.nodes.values():
        state = node.machine.roles[-1]
        assert (state.term, state.leader) == (1, 2)
        assert (state.role is Role.LEADER) == (node.id == 2)
        assert [entry.kind for entry in node.machine.applied] == [EntryKind.NOOP]


def test_a_proposal_reaches_every_machine_in_order() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.advance(leader.propose(1, b"one"), leader.propose(2, b"two", b"three"))
    cluster.settle()
    leader.tick()  # the followers hear of the commit at the next heartbeat at the latest
    cluster.settle()
    for node in cluster.nodes.values():
        assert [e.data for e in node.machine.applied] == [b"", b"one", b"two", b"three"]
        assert [e.index for e in node.machine.applied] == [1, 2, 3, 4]
    assert leader.machine.refused == []


def test_nothing_commits_without_a_majority() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.cut = {2, 3}
    leader.advance(leader.propose(1, b"alone"))
    cluster.settle()
    assert [e.data for e in leader.machine.applied] == [b""]
    cluster.cut = {3}
    leader.tick()
    cluster.settle()
    leader.tick()
    cluster.settle()
    assert [e.data for e in leader.machine.applied] == [b"", b"alone"]


def test_reads_wait_for_a_majority() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.advance(ReadRequest(5))
    assert leader.machine.ready == []
    cluster.settle()
    assert leader.machine.ready == [(5, 1)]
    follower = cluster.nodes[2]
    follower.advance(ReadRequest(6))
    assert follower.machine.failed == [6]


def test_a_deposed_leader_is_told_and_its_reads_fail() -> None:
    cluster = Cluster()
    old = cluster.elect(1)
    cluster.cut = {1}
    old.advance(ReadRequest(5), old.propose(1, b"lost"))
    cluster.settle()
    cluster.elect(2)
    cluster.cut = set()
    cluster.nodes[2].tick()
    cluster.settle()
    assert old.machine.roles[-1][:3] == (Role.FOLLOWER, 2, 2)
    assert old.machine.failed == [5]
    assert b"lost" not in [e.data for e in old.machine.applied]


def test_a_piece_of_a_snapshot_is_stored_after_the_term_that_it_came_in() -> None:
    node = Cluster().nodes[1]
    order: list[tuple[str, int]] = []
    write = node.log.write

    def noted_write(sequence: int, hard_state: HardState | None, *rest: Any) -> None:
        order.append(("term", hard_state.term if hard_state else 0))
        write(sequence, hard_state, *rest)

    node.log.write = noted_write  # type: ignore[method-assign]
    node.log.receive_chunk = lambda chunk: order.append(("chunk", chunk.term))  # type: ignore[method-assign]
    node.hear(SnapshotChunk(3, 2, 1, 7, 3, 0, b"ab", True, 2))
    assert order == [("term", 3), ("chunk", 3)]


def test_one_server_alone_is_its_own_majority() -> None:
    cluster = Cluster(1)
    leader = cluster.elect(1)
    leader.advance(leader.propose(1, b"one"), ReadRequest(1))
    assert leader.machine.applied[1:] == []
    cluster.settle()
    assert [e.data for e in leader.machine.applied] == [b"", b"one"]
    assert [token for token, _ in leader.machine.ready] == [1]


# --- Persist before you answer --------------------------------------------------------------------


def test_a_vote_leaves_only_when_it_is_durable() -> None:
    node = Node(1, (1, 2, 3))
    node.hear(VoteRequest(5, 2, 1, 0, 0))
    assert node.log.written == [(HardState(5, 2), None, ())]
    assert node.sent() == []
    node.sync()
    assert node.sent() == [VoteReply(5, 1, 2, True)]


def test_an_acknowledgement_leaves_only_when_the_entries_are_durable() -> None:
    node = Node(1, (1, 2, 3))
    entry = Entry(1, 5, EntryKind.NOOP, b"")
    node.hear(Append(5, 2, 1, 0, 0, 0, (entry,)))
    assert [m for m in node.sent() if isinstance(m, AppendReply)] == []
    assert node.log.written[-1][2] == (entry,)
    node.sync()
    assert node.sent() == [AppendReply(5, 1, 2, True, 1, 0, 0)]


def test_a_completed_write_releases_only_what_waited_for_it_and_those_before() -> None:
    node = Node(1, (1, 2, 3))
    for index in (1, 2, 3):
        entry = Entry(index, 5, COMMAND, b"")
        previous = 5 if index > 1 else 0
        node.hear(Append(5, 2, 1, index - 1, previous, 0, (entry,)))
    first, second, third = node.log.writing
    node.log.writing = []
    node.sent()
    node.advance(Persisted(first))
    assert [m.index for m in node.sent() if isinstance(m, AppendReply)] == [1]
    node.advance(Persisted(second), Persisted(third))
    assert [m.index for m in node.sent() if isinstance(m, AppendReply)] == [2, 3]


def test_what_promises_nothing_does_not_wait() -> None:
    """A leader sends entries to its followers while its own disk is still writing them."""
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.sent()
    leader.advance(leader.propose(1, b"x"))
    assert leader.log.writing
    assert {m.receiver for m in leader.sent() if isinstance(m, Append)} == {2, 3}


def test_a_repeated_request_is_answered_though_nothing_is_to_be_written() -> None:
    node = Node(1, (1, 2, 3))
    request = VoteRequest(5, 2, 1, 0, 0)
    node.hear(request)
    node.sync()
    node.sent()
    node.hear(request)
    assert not node.log.writing
    assert node.sent() == [VoteReply(5, 1, 2, True)]


def test_an_answer_does_not_overtake_a_write_under_way() -> None:
    node = Node(1, (1, 2, 3))
    request = VoteRequest(5, 2, 1, 0, 0)
    node.hear(request, request)
    assert node.sent() == []
    while node.sync():
        pass
    assert node.sent() == [VoteReply(5, 1, 2, True)] * 2


def test_a_leader_counts_itself_only_when_its_disk_has_answered() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.advance(leader.propose(1, b"x"))
    follower = cluster.nodes[2]
    for peer, data in leader.outbox:
        if peer == 2:
            follower.advance(FromPeer(data))
    leader.outbox = []
    follower.sync()
    for _, data in follower.outbox:
        leader.advance(FromPeer(data))
    follower.outbox = []
    assert leader.core.commit_index == 1
    leader.sync()
    assert leader.core.commit_index == 2


# --- Proposals ------------------------------------------------------------------------------------


def refusals(node: Node) -> list[tuple[int, str]]:
    return [(token, reason.name) for token, reason in node.machine.refused]


def test_who_does_not_lead_refuses() -> None:
    node = Node(1, (1, 2, 3))
    node.advance(node.propose(7, b"x", term=1))
    assert refusals(node) == [(7, "NOT_LEADER")]
    assert node.core.last_index == 0


def test_a_batch_of_an_earlier_leadership_is_refused() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.elect(2)
    leader = cluster.elect(1)
    assert leader.core.term == 3
    before = leader.core.last_index
    leader.advance(leader.propose(7, b"x", term=1))
    assert refusals(leader) == [(7, "NOT_LEADER")]
    assert leader.core.last_index == before


@pytest.mark.parametrize("together", [True, False])
def test_what_was_built_on_a_refused_batch_is_refused_with_it(together: bool) -> None:
    cluster = Cluster(uncommitted_bytes_max=1_000)
    leader = cluster.elect(1)
    batches = [
        leader.propose(1, b"x" * 50),
        leader.propose(2, b"too large" * 500),
        leader.propose(3, b"would fit"),
        leader.propose(4, b"as well"),
    ]
    if together:
        leader.advance(*batches)
    else:
        for batch in batches:
            leader.advance(batch)
    # The machine takes back all of that generation at the first refusal; a second one, which might
    # come late, could only hit what it has executed since.
    assert refusals(leader) == [(2, "OVERLOADED")]
    assert leader.core.last_index == 2
    cluster.settle()
    leader.advance(leader.propose(5, b"of the next generation", generation=2))
    cluster.settle()
    assert [e.data for e in leader.machine.applied[2:]] == [b"of the next generation"]
    assert refusals(leader) == [(2, "OVERLOADED")]


def test_a_lost_leadership_refuses_a_generation_once() -> None:
    cluster = Cluster()
    old = cluster.elect(1)
    term = old.core.term
    cluster.elect(2)
    old.advance(old.propose(5, b"x", term=term), old.propose(6, b"y", term=term))
    old.advance(old.propose(7, b"z", term=term))
    assert refusals(old) == [(5, "NOT_LEADER")]


# --- Messages -------------------------------------------------------------------------------------


def test_messages_to_one_peer_travel_together() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.tick()
    leader.sent()
    leader.advance(leader.propose(1, b"a"), leader.propose(2, b"b"), ReadRequest(1))
    peers = [peer for peer, _ in leader.outbox]
    assert sorted(peers) == sorted(set(peers))


def test_noise_and_strangers_are_dropped() -> None:
    node = Node(1, (1, 2, 3))
    node.advance(FromPeer(b"noise"))
    node.advance(FromPeer(Sender(2, 1, CLUSTER).seal([b"noise", b""])))
    assert node.core.dropped == 2
    stranger = Sender(2, 1, "f" * 32)
    node.advance(FromPeer(stranger.seal([codec.encode(VoteRequest(9, 2, 1, 0, 0))])))
    assert node.core.term == 0
    assert list(node.server.refused_peers) == [2]


def test_a_saved_snapshot_compacts_the_log() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.advance(leader.propose(1, b"a", b"b"))
    cluster.settle()
    leader.advance(SnapshotSaved(3, 1, 2))
    assert leader.log.compacted == [2]
    assert leader.core.status().first_index == 2


def test_a_follower_without_the_entries_is_sent_a_snapshot() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.cut = {3}
    leader.advance(leader.propose(1, b"a", b"b"))
    cluster.settle()
    leader.advance(SnapshotSaved(3, 1, 4))
    cluster.cut = set()
    leader.tick()
    cluster.settle()
    assert [(w.peer, w.index, w.offset) for w in leader.log.wanted[:1]] == [(3, 3, 0)]
