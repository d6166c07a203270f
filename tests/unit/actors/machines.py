"""State machines over a log in memory: real queries and replies, no Raft, no threads.

``Machines`` holds some servers' machines and one log. A test submits requests to the leader, lets
its proposals be committed (or lost), and feeds the log to all; it may put another one in the lead,
or restore one from another one's snapshot.
"""

from __future__ import annotations

from typing import Any

from actors.machine import StateMachine
from actors.protocol import DIALECTS, Op, Reply, Request, Status
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import Role, SoftState
from actors.replica import Replica, load_root
from actors.server import Proposal
from actors.service import Item, QueryService
from bolt.packer import Packer
from bolt.records import decode_messages
from graph.engine import Engine
from graph.snapshot import write_snapshot

__all__ = ["GATEWAY", "Machines", "OneMachine", "metadata"]

GATEWAY = 7


class OneMachine:
    """A server's state machine, with what it posted and what it replied."""

    def __init__(self, server_id: int, clock: Any) -> None:
        self.id = server_id
        self.posted: list[Any] = []
        self.replies: list[Reply] = []
        self.service = QueryService(
            Engine(), lambda _, batch: self.replies.extend(batch), clock=clock
        )
        self.clock = clock
        self.machine = self._new(Replica())

    def _new(self, replica: Replica) -> StateMachine:
        return StateMachine(
            replica,
            self.service,
            post=self.posted.append,
            applied=lambda index: None,
            run_reads=lambda task: task(),
            new_cluster_id=lambda: "ab" * 16,
            on_cluster=lambda name: None,
            replication_timeout_ms=20_000,
            clock=self.clock,
        )

    def proposals(self) -> list[Proposal]:
        """What was proposed since the last call."""
        found = [event for event in self.posted if isinstance(event, Proposal)]
        self.posted[:] = [event for event in self.posted if not isinstance(event, Proposal)]
        return found

    def take(self) -> dict[int, Reply]:
        """Replies since the last call, by request."""
        replies, self.replies[:] = {reply.id: reply for reply in self.replies}, []
        return replies

    def restore_from(self, other: OneMachine) -> None:
        """As if started from a snapshot that ``other`` takes now."""
        captured = other.machine.replica.capture()
        assert captured is not None
        meta, root = captured
        replica = Replica()
        replica.restore(meta, load_root(iter(list(write_snapshot(root)))))
        self.machine = self._new(replica)


class Machines:
    """Servers 1 to ``count``; nobody leads at first."""

    def __init__(self, count: int = 2) -> None:
        self.now = 1_000.0
        self.servers = {i: OneMachine(i, lambda: self.now) for i in range(1, count + 1)}
        self.log: list[Entry] = []
        self.term = 0
        self.leader: OneMachine = self.servers[1]
        self._ids = 100

    def lead(self, server_id: int) -> OneMachine:
        """A new term; its first entry is committed and applied everywhere."""
        self.term += 1
        for server in self.servers.values():
            leads = server.id == server_id
            role = Role.LEADER if leads else Role.FOLLOWER
            server.machine.role_changed(SoftState(role, self.term, server_id))
        self.leader = self.servers[server_id]
        self.leader.posted.clear()
        self.append((EntryKind.NOOP, b""))
        self.feed()
        self.settle()
        return self.leader

    def append(self, *payloads: tuple[EntryKind, bytes]) -> None:
        for kind, data in payloads:
            self.log.append(Entry(len(self.log) + 1, self.term, kind, data))

    def feed(self, *server_ids: int) -> None:
        """Apply what is committed (on these servers, or on all)."""
        for server_id in server_ids or self.servers:
            server = self.servers[server_id]
            news = self.log[server.machine.replica.applied_index :]
            if news:
                server.machine.apply(news)

    def settle(self) -> None:
        """Commit whatever the leader proposes until it proposes nothing more."""
        while True:
            while (wait := self.leader.machine.turn()) > 0:
                self.now += wait
            proposals = self.leader.proposals()
            if not proposals:
                return
            for proposal in proposals:
                self.append(*proposal.payloads)
            self.feed()

    # ----------------------------------------------------------------- requests

    def request(self, op: Op, query: str = "", **fields: Any) -> Request:
        self._ids += 1
        parameters = fields.pop("parameters", None)
        return Request(
            self._ids,
            op,
            term=self.term,
            query=query.encode(),
            parameters=Packer().pack(parameters) if parameters else b"",
            **fields,
        )

    def submit(self, *requests: Request) -> None:
        """To the leader, as its dispatcher would."""
        items = [Item(GATEWAY, r, self.now + 600.0, self.now) for r in requests]
        for item in items:
            if item.request.op is Op.RUN:
                self.leader.service.prepare(item)
        self.leader.machine.submit_writes(items)

    def write(self, query: str, **fields: Any) -> Request:
        """Submit an autocommit write."""
        request = self.request(Op.RUN, query, **fields)
        self.submit(request)
        return request

    def done(self, *requests: Request) -> list[Status]:
        """Commit everything; the statuses of these requests' replies."""
        self.settle()
        replies = self.leader.take()
        return [replies[request.id].status for request in requests]

    def nodes(self, server_id: int = 0) -> int:
        server = self.servers[server_id] if server_id else self.leader
        return server.machine.replica.view().node_count


def metadata(data: bytes) -> dict[str, Any]:
    """What a SUCCESS message in Bolt bytes says."""
    (message,) = decode_messages(data, DIALECTS[0])
    found: dict[str, Any] = message.metadata
    return found
