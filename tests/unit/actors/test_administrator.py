"""The leader's part in statements about the cluster, over real cores and an obedient network.

``Cluster`` is some servers whose writes are durable at once and whose messages all arrive, unless a
test cuts a server off. Time passes only where a test says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from actors.addresses import Place
from actors.administration import SERVER_COLUMNS
from actors.administration_server import (
    START_PATIENCE_SECONDS,
    Administrator,
    AdminRequest,
    GatewayMet,
    PeerMet,
    PeerRefused,
)
from actors.envelope import Sender
from actors.protocol import Op, Reply, Request, Status
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import MemberRole
from actors.raft.messages import Applied, PeerDown, Persisted, Tick
from actors.raft.ready import Restored, Role
from actors.server import FromPeer, RaftServer
from bolt.limits import RESULTS
from bolt.packstream import unpack

CLUSTER = "0123456789abcdef" * 2
STEP_MS = 50


def directory(server_id: int) -> str:
    return f"{server_id:016x}"


def place(server_id: int) -> Place:
    return Place(f"10.0.0.{server_id}:7001", directory(server_id))


class Node:
    """One server; its log and its machine answer at once."""

    def __init__(self, cluster: Cluster, server_id: int, voters: tuple[int, ...]) -> None:
        self.cluster = cluster
        self.id = server_id
        self.replies: dict[int, Reply] = {}
        self.dismissed: list[int] = []
        self.met: dict[int, str] = {}
        self.events: list[Any] = []
        core = RaftCore(
            CoreConfig(server_id, voters), Restored(), Random(server_id), cluster.now_ms
        )
        self.sender = Sender(
            server_id, 1, CLUSTER, directory(server_id), on_met=self.met.__setitem__
        )
        self.administrator = Administrator(core, self._reply, place=place(server_id))
        self.server = RaftServer(
            core,
            self,
            self,
            self,
            self.sender,
            administrator=self.administrator,
            dismiss=self.dismissed.append,
        )
        self.core = core

    def _reply(self, gateway: int, reply: Reply) -> None:
        assert gateway == 7
        assert reply.id not in self.replies, "answered twice"
        self.replies[reply.id] = reply

    def advance(self, *events: Any) -> None:
        self.events += events
        while self.events:
            events, self.events = tuple(self.events), []
            self.server.advance(events, self.cluster.now_ms)

    # The ports of the server loop.

    def send(self, peer: int, data: bytes) -> None:
        self.cluster.mail.append((self.id, peer, data))

    def write(self, sequence: int, *_: object) -> None:
        self.events.append(Persisted(sequence))

    def apply(self, entries: Sequence[Any]) -> None:
        self.events.append(Applied(entries[-1].index))

    def role_changed(self, state: object) -> None: ...

    def compact(self, keep_from: int) -> None: ...

    receive_chunk = read_chunk = proposal_refused = reads_ready = reads_failed = role_changed  # type: ignore[assignment]


class Cluster:
    def __init__(self, size: int = 3) -> None:
        self.now_ms = 1_000
        self.mail: list[tuple[int, int, bytes]] = []
        self.cut: set[int] = set()
        self.numbers = iter(range(1, 1_000))
        voters = tuple(range(1, size + 1))
        self.nodes = {i: Node(self, i, voters) for i in voters}
        self.introduce()

    def introduce(self) -> None:
        """Everybody meets everybody."""
        for node in self.nodes.values():
            for other in self.nodes:
                if other != node.id:
                    node.advance(PeerMet(other, 1, place(other)))
        self.deliver()

    def start(self, server_id: int) -> Node:
        """A server that waits to be added, and is introduced."""
        node = self.nodes[server_id] = Node(self, server_id, ())
        self.introduce()
        return node

    def deliver(self) -> None:
        while self.mail:
            mail, self.mail = self.mail, []
            for sender, receiver, data in mail:
                if not self.cut & {sender, receiver}:
                    self.nodes[receiver].advance(FromPeer(data))

    def run(self, milliseconds: int) -> None:
        """Time passes; everybody is told, those cut off too."""
        for _ in range(0, milliseconds, STEP_MS):
            self.now_ms += STEP_MS
            for node in self.nodes.values():
                node.advance(Tick(self.now_ms))
            self.deliver()

    def elect(self, server_id: int) -> Node:
        node = self.nodes[server_id]
        self.now_ms = max(n.core.deadline_ms for n in self.nodes.values()) + 1
        node.advance(Tick(self.now_ms))
        self.deliver()
        assert node.core.role is Role.LEADER
        self.run(3_000)  # the leader notes where everybody is
        return node

    @property
    def leader(self) -> Node:
        return max(
            (n for n in self.nodes.values() if n.core.role is Role.LEADER),
            key=lambda n: n.core.term,
        )

    def send(self, node: Node, text: str, *, retry: bool = False, term: int = 0) -> int:
        """A statement for ``node``, on its way; its id."""
        number = next(self.numbers)
        request = Request(number, Op.ADMINISTER, query=text.encode(), cursor=int(retry))
        request.term = term or node.core.term
        node.advance(AdminRequest(7, request, self.now_ms / 1000 + 60))
        self.deliver()
        return number

    def ask(self, text: str, *, node: Node | None = None, retry: bool = False) -> Reply | None:
        """The answer, if there is one within a second."""
        node = node or self.leader
        number = self.send(node, text, retry=retry)
        self.run(1_000)
        return node.replies.get(number)

    def do(self, text: str) -> str:
        """The result of a statement that must be done."""
        reply = self.ask(text)
        assert reply is not None and reply.status is Status.DONE, reply
        (_, ((result,),)), _ = unpack(reply.body, 0, RESULTS)
        return str(result)

    def refusal(self, text: str) -> str:
        """What is said of a statement that must be refused, and leaves everything as it is."""
        before = self.leader.core.membership
        reply = self.ask(text)
        assert reply is not None and reply.status is Status.FAILED, reply
        assert self.leader.core.membership == before
        assert reply.body.endswith(b"Nothing was changed.")
        return f"{reply.head.decode()} {reply.body.decode()}"

    def rows(self) -> dict[int, dict[str, Any]]:
        reply = self.ask("SHOW SERVERS")
        assert reply is not None and reply.status is Status.DONE
        (columns, rows), _ = unpack(reply.body, 0, RESULTS)
        assert columns == SERVER_COLUMNS
        return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}

    def roles(self) -> dict[int, str]:
        return {i: row["role"] for i, row in self.rows().items()}


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.elect(1)
    return cluster


# --- The leader's own notes -----------------------------------------------------------------------


def test_the_leader_notes_addresses_and_directories(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        members = node.core.membership.members
        assert [Place.of(m.address) for m in members] == [place(1), place(2), place(3)]


def test_a_member_that_moved_is_noted_and_a_stranger_is_not(cluster: Cluster) -> None:
    leader = cluster.leader
    leader.advance(PeerMet(2, 2, Place("10.0.9.2:7001", directory(2))))
    leader.advance(PeerMet(3, 2, Place("10.0.9.3:7001", "ee" * 8)))
    cluster.run(3_000)
    addresses = [m.address for m in cluster.nodes[3].core.membership.members]
    assert addresses[1] == f"10.0.9.2:7001#{directory(2)}"
    assert addresses[2] == place(3).text()


def test_what_is_noted_is_noted_once(cluster: Cluster) -> None:
    before = cluster.leader.core.last_index
    cluster.run(10_000)
    assert cluster.leader.core.last_index == before


# --- SHOW SERVERS ---------------------------------------------------------------------------------


def test_servers_are_shown(cluster: Cluster) -> None:
    cluster.leader.advance(GatewayMet(2, "10.0.0.2:7687"))
    rows = cluster.rows()
    assert [(r["role"], r["health"], r["lag"]) for r in rows.values()] == [
        ("leader", "up", 0),
        ("follower", "up", 0),
        ("follower", "up", 0),
    ]
    assert rows[2]["address"] == "10.0.0.2:7001"
    assert rows[2]["bolt_address"] == "10.0.0.2:7687"
    assert rows[3]["bolt_address"] is None
    assert all(row["note"] == "" for row in rows.values())


def test_a_silent_server_is_down_and_one_that_waits_is_shown(cluster: Cluster) -> None:
    cluster.cut = {3}
    cluster.start(4)
    cluster.run(2_000)
    rows = cluster.rows()
    assert rows[3]["health"] == "down"
    assert rows[3]["last_heard_ms"] > 1_000
    assert (rows[4]["role"], rows[4]["note"]) == (
        "waiting",
        "runs and waits for ADD SERVER 4 AT '10.0.0.4:7001'",
    )


def test_a_refused_server_is_noted_until_the_true_one_is_back(cluster: Cluster) -> None:
    cluster.leader.advance(PeerRefused(2, "a server is refused"))
    assert cluster.rows()[2]["note"] == "a server is refused"
    cluster.leader.advance(PeerMet(2, 3, place(2)))
    assert cluster.rows()[2]["note"] == ""


def test_show_is_linearizable(cluster: Cluster) -> None:
    old = cluster.leader
    cluster.cut = {1}
    number = cluster.send(old, "SHOW SERVERS")
    cluster.run(4_000)
    assert old.replies[number].status is Status.NOT_LEADER


# --- Changes --------------------------------------------------------------------------------------


def test_a_server_is_added_and_votes_by_itself(cluster: Cluster) -> None:
    new = cluster.start(4)
    assert "server 4 is joining" in cluster.do("ADD SERVER 4 AT '10.0.0.4:7001'")
    cluster.run(1_000)
    assert cluster.roles() == {1: "leader", 2: "follower", 3: "follower", 4: "follower"}
    assert Place.of(new.core.membership.members[3].address) == place(4)
    assert new.sender.known_directories[4] == directory(4)


def test_adding_waits_for_the_server_to_come(cluster: Cluster) -> None:
    number = cluster.send(cluster.leader, "ADD SERVER 4 AT '10.0.0.4:7001'")
    cluster.run(2_000)
    assert number not in cluster.leader.replies
    assert cluster.leader.administrator.wanted == {4: "10.0.0.4:7001"}
    cluster.start(4)
    cluster.run(1_000)
    assert cluster.leader.replies[number].status is Status.DONE
    assert cluster.leader.administrator.wanted == {}


def test_a_server_that_does_not_come_is_not_added(cluster: Cluster) -> None:
    number = cluster.send(cluster.leader, "ADD SERVER 4 AT '10.0.0.4:7001'")
    cluster.run(int(START_PATIENCE_SECONDS * 1000) + 200)
    reply = cluster.leader.replies[number]
    assert reply.status is Status.FAILED
    assert b"memgraph_ha --server_id 4 --join" in reply.body
    assert cluster.leader.core.membership.ids == (1, 2, 3)
    assert cluster.leader.administrator.wanted == {}


def test_a_learner_reads_once_it_has_caught_up_and_never_votes(cluster: Cluster) -> None:
    cluster.start(4)
    cluster.cut = {4}
    cluster.do("ADD SERVER 4 AT '10.0.0.4:7001' AS LEARNER")
    assert cluster.leader.administrator.readers == (1, 2, 3)
    cluster.cut = set()
    cluster.run(2_000)
    assert cluster.leader.administrator.readers == (1, 2, 3, 4)
    assert cluster.roles()[4] == "learner"
    assert "votes" in cluster.do("PROMOTE SERVER 4")
    assert "no more" in cluster.do("DEMOTE SERVER 4")
    assert cluster.leader.core.membership.voters == (1, 2, 3)
    assert cluster.leader.administrator.readers == (1, 2, 3, 4)


def test_who_joins_does_not_read(cluster: Cluster) -> None:
    cluster.start(4)
    cluster.cut = {4}
    cluster.do("ADD SERVER 4 AT '10.0.0.4:7001'")
    assert cluster.roles()[4] == "joining"
    assert cluster.leader.administrator.readers == (1, 2, 3)


def test_a_dead_server_is_replaced(cluster: Cluster) -> None:
    cluster.cut = {3}
    cluster.leader.advance(PeerDown(3))
    cluster.start(4)
    assert "server 3 is removed" in cluster.do("REPLACE SERVER 3 BY 4 AT '10.0.0.4:7001'")
    cluster.run(3_000)
    assert cluster.leader.core.membership.voters == (1, 2, 4)


def test_the_leader_removes_itself(cluster: Cluster) -> None:
    old = cluster.leader
    number = cluster.send(old, "REMOVE SERVER 1")
    cluster.run(3_000)
    assert old.replies[number].status is Status.DONE
    assert old.core.removed
    assert cluster.leader.id != 1
    assert cluster.leader.core.membership.voters == (2, 3)


def test_leadership_is_transferred(cluster: Cluster) -> None:
    assert cluster.do("SET SERVER 3 TO LEADER") == "server 3 leads"
    assert cluster.leader.id == 3
    assert cluster.do("SET SERVER 3 TO LEADER") == "server 3 leads"
    assert "leads" in cluster.do("YIELD LEADERSHIP")
    assert cluster.leader.id != 3


def test_changes_one_after_another_wait_for_one_another(cluster: Cluster) -> None:
    for server_id in (4, 5):
        cluster.start(server_id)
    leader = cluster.leader
    numbers = [
        cluster.send(leader, f"ADD SERVER {server_id} AT '10.0.0.{server_id}:7001'")
        for server_id in (4, 5)
    ]
    cluster.run(3_000)
    assert [leader.replies[n].status for n in numbers] == [Status.DONE, Status.DONE]
    assert leader.core.membership.voters == (1, 2, 3, 4, 5)


# --- Refusals -------------------------------------------------------------------------------------


def test_refusals_say_what_is_wrong(cluster: Cluster) -> None:
    assert "members are 1, 2, 3" in cluster.refusal("REMOVE SERVER 9")
    assert "is a member already" in cluster.refusal("ADD SERVER 2 AT 'h:1'")
    cluster.do("REMOVE SERVER 3")
    assert "never used again" in cluster.refusal("ADD SERVER 3 AT 'h:1'")
    assert "is no longer a member" in cluster.refusal("REMOVE SERVER 3")
    cluster.start(5)
    cluster.do("ADD SERVER 5 AT '10.0.0.5:7001' AS LEARNER")
    assert "passed over" in cluster.refusal("ADD SERVER 4 AT 'h:1'")
    assert "does not vote, so it cannot lead" in cluster.refusal("SET SERVER 5 TO LEADER")
    cluster.cut = {5}
    cluster.run(2_000)
    assert "TransientError" in cluster.refusal("PROMOTE SERVER 5")


def test_the_last_voter_stays(cluster: Cluster) -> None:
    cluster.do("REMOVE SERVER 3")
    cluster.do("REMOVE SERVER 2")
    assert "the only one that votes" in cluster.refusal("REMOVE SERVER 1")
    assert "the only one that votes" in cluster.refusal("DEMOTE SERVER 1")
    assert "No other server" in cluster.refusal("YIELD LEADERSHIP")


def test_a_change_that_would_leave_no_majority_is_refused(cluster: Cluster) -> None:
    cluster.cut = {3}
    cluster.run(600)
    # Still the leader, with server 2; without it there would be one of two.
    cluster.run(1_000)
    assert "too few of the others that vote are up" in cluster.refusal("REMOVE SERVER 2")


def test_a_wrong_statement_is_refused(cluster: Cluster) -> None:
    reply = cluster.ask("ADD SERVER x")
    assert reply is not None
    assert (reply.status, reply.head) == (Status.FAILED, b"Neo.ClientError.Statement.SyntaxError")


def test_who_does_not_lead_says_so(cluster: Cluster) -> None:
    leader, follower = cluster.leader, cluster.nodes[2]
    for node, term in [(follower, 0), (leader, leader.core.term + 1), (leader, 99)]:
        number = cluster.send(node, "SHOW SERVERS", term=term)
        assert node.replies[number].status is Status.NOT_LEADER


# --- A lost leader --------------------------------------------------------------------------------


def test_nothing_is_said_of_a_change_that_may_yet_be_done(cluster: Cluster) -> None:
    old = cluster.leader
    cluster.cut = {1}
    number = cluster.send(old, "REMOVE SERVER 3")
    cluster.run(5_000)
    assert cluster.leader.id != 1
    assert number not in old.replies
    cluster.cut = set()
    cluster.run(5_000)
    assert number not in old.replies
    assert cluster.leader.core.membership.ids == (1, 2, 3)


def test_the_next_leader_does_what_the_last_one_did_not(cluster: Cluster) -> None:
    cluster.cut = {1}
    cluster.send(cluster.leader, "REMOVE SERVER 3")
    cluster.run(5_000)
    cluster.cut = set()
    cluster.run(2_000)
    reply = cluster.ask("REMOVE SERVER 3", retry=True)
    assert reply is not None
    assert reply.status is Status.DONE
    assert cluster.leader.core.membership.ids == (1, 2)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("REMOVE SERVER 3", "REMOVE SERVER 3"),
        ("DEMOTE SERVER 3", "DEMOTE SERVER 3"),
        ("ADD SERVER 4 AT '10.0.0.4:7001'", "ADD SERVER 4 AT '10.0.0.4:7001'"),
    ],
)
def test_the_next_leader_knows_what_the_last_one_did(
    cluster: Cluster, first: str, again: str
) -> None:
    cluster.start(4)
    cluster.do(first)
    cluster.run(1_000)
    cluster.do("SET SERVER 2 TO LEADER")
    before = cluster.leader.core.last_index
    reply = cluster.ask(again, retry=True)
    assert reply is not None
    assert reply.status is Status.DONE
    assert cluster.leader.core.last_index == before, "done once"


def test_a_repeated_yield_is_done(cluster: Cluster) -> None:
    cluster.do("YIELD LEADERSHIP")
    leader = cluster.leader
    reply = cluster.ask("YIELD LEADERSHIP", retry=True)
    assert reply is not None
    assert reply.status is Status.DONE
    assert cluster.leader is leader


# --- Strangers ------------------------------------------------------------------------------------


def test_a_removed_server_that_was_away_is_told(cluster: Cluster) -> None:
    cluster.cut = {3}
    cluster.run(2_000)
    cluster.do("REMOVE SERVER 3")
    cluster.run(3_000)
    assert not cluster.nodes[3].core.removed
    assert all(3 not in node.dismissed for node in cluster.nodes.values())
    cluster.cut = set()
    cluster.run(4_000)  # it asks for votes
    dismissed = [i for i, node in cluster.nodes.items() if 3 in node.dismissed]
    assert dismissed
    assert cluster.leader.server.was_removed(3)
    assert not cluster.leader.server.was_removed(2)
    assert not cluster.leader.server.was_removed(4)
    counts = [node.dismissed.count(3) for node in cluster.nodes.values()]
    assert max(counts) <= 4, "once a second"


def test_an_emptied_directory_cannot_vote(cluster: Cluster) -> None:
    """Server 3 lost its disk; servers 2 and 3 must not elect anybody without server 1."""
    assert cluster.nodes[2].sender.known_directories[3] == directory(3)
    emptied = Node(cluster, 3, (1, 2, 3))
    emptied.sender = emptied.server._sender = Sender(3, 9, "", "ee" * 8)
    cluster.nodes[3] = emptied
    cluster.cut = {1}
    cluster.run(10_000)
    assert [n.id for n in cluster.nodes.values() if n.core.role is Role.LEADER and n.id != 1] == []
    assert "REPLACE SERVER 3" in cluster.nodes[2].server.refused_peers[3]


def test_roles_in_force_are_those_of_the_log(cluster: Cluster) -> None:
    cluster.start(4)
    cluster.do("ADD SERVER 4 AT '10.0.0.4:7001' AS LEARNER")
    for node in cluster.nodes.values():
        member = node.core.membership.get(4)
        assert member is not None
        assert member.role is MemberRole.LEARNER
