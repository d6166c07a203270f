"""Requests to the right server, replies to whoever waits: a gateway's view of the cluster.

The router knows which servers live and who leads, from what the servers announce and from their
``watch`` calls; it never looks anything up on the path of a query. It is plain asyncio code: the
caller gives it a function that sends bytes to a server, and feeds it replies and news.

What becomes of a request when its server is lost, or deposed, before it has answered:

* a read is asked again, of another server;
* a write may or may not have been committed. The next leader is asked (``OUTCOME``): if it was
  committed that is the answer; if not, it never will be, and an autocommit write is sent again,
  under the same id, while an explicit transaction fails with a code that drivers retry;
* nobody leads until the deadline: the outcome is unknown, and said so, with a code that drivers do
  not retry.

So nothing is done twice by a retry of ours, and nothing that may have happened is called undone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from actors import limits, wording
from actors.errors import NotLeader, OutcomeUnknown, Overloaded
from actors.protocol import MESSAGE_BYTES_MAX, Op, Reply, Request, Status, encode_requests
from actors.raft.ready import Role
from actors.transport import Introduction

__all__ = ["Router", "ServerLost"]

# A message costs about half a millisecond of either side's time however small it is, and clients
# that were answered together come back together: of a crowd of at least so many, the first wait for
# this part of it, or for so long.
CROWD_MIN = 6
CROWD_PART = 0.8
CROWD_DECAY = 0.75
GATHER_SECONDS = 0.004
# After a refusal, before the same server is asked again.
RETRY_SECONDS = 0.02
# A server that has no state of its own to read from is not asked again for so long.
AVOID_SECONDS = 1.0
# How long a server that was deposed may still answer before the new leader is asked.
GRACE_SECONDS = 0.05


class ServerLost(Exception):
    """The server died, or lost the leadership, before it answered."""


@dataclass(slots=True)
class _Server:
    introduction: Introduction
    outbox: list[Request] = field(default_factory=list)
    flushing: bool = False  # the outbox leaves at the end of this turn of the loop
    gathering: asyncio.TimerHandle | None = None  # it leaves when this timer says so
    crowd: float = 0.0  # how many answers lately came together
    waiting: set[int] = field(default_factory=set)  # ids of requests it has not answered


@dataclass(slots=True)
class _Waiting:
    future: asyncio.Future[Reply]
    server: int
    term: int  # of the leadership it relies on; 0: none
    attempt: int  # which sending it is


class Router:
    """See the module. All methods belong to one event loop's thread."""

    def __init__(
        self,
        home: int,
        send: Callable[[Introduction, bytes], None],
        *,
        replication_timeout_s: float,
    ) -> None:
        self.home = home
        self.leader = 0
        self.term = 0
        self._term_leader = 0  # who leads in ``term``, or did
        self._lost_leader: Introduction | None = None  # out of reach when it was last heard of
        self._vacant_term = 0  # the newest whose leader stepped down: nobody leads in it any more
        self.gateways: dict[int, Introduction] = {}  # by server id
        # Who may answer reads on its own, as the leader of a term said; None: nobody has said.
        self.readers: frozenset[int] | None = None
        self._readers_term = 0
        # This gateway is about to end: it finishes what it has begun and begins nothing new.
        self.leaving = False
        self._send = send
        self._timeout = replication_timeout_s
        self._servers: dict[int, _Server] = {}
        self._ids = itertools.count(1)
        self._attempts = itertools.count(1)
        self._open: dict[int, None] = {}  # ids not answered to their clients, ascending
        self._waiting: dict[int, _Waiting] = {}
        self._leader_changed = asyncio.Event()
        self._bytes = 0  # of requests that are not answered
        self._avoided: dict[int, float] = {}  # server id -> until when it gets no reads

    # ----------------------------------------------------------------- news

    def meet(self, newcomer: Introduction) -> bool:
        """A server, or the gateway of another server; whether it is news."""
        known = self._servers.get(newcomer.server_id)
        if self._is_foreign(newcomer):
            return False
        if newcomer.kind == "gateway":
            before = self.gateways.get(newcomer.server_id)
            if before is not None and before.incarnation > newcomer.incarnation:
                return False
            self.gateways[newcomer.server_id] = newcomer
            return before is None or before.key != newcomer.key
        if known is not None and known.introduction.incarnation >= newcomer.incarnation:
            return False
        if known is not None:
            self.lost(known.introduction)
        self._servers[newcomer.server_id] = _Server(newcomer)
        if newcomer.server_id == self.home:
            for other in [s.introduction for s in self._servers.values()]:
                if self._is_foreign(other):
                    self.lost(other)
        found_again = newcomer is self._lost_leader and self._term_leader == newcomer.server_id
        if found_again and self.term > self._vacant_term:
            self._set_leader(self.term, newcomer.server_id)  # if it still leads; else it refuses
        return True

    def _is_foreign(self, newcomer: Introduction) -> bool:
        """Whether a server is of another cluster than this gateway's own server."""
        home = self._servers.get(self.home)
        ours = home.introduction.cluster_id if home is not None else ""
        return (
            newcomer.server_id != self.home
            and "" not in (ours, newcomer.cluster_id)
            and (ours != newcomer.cluster_id)
        )

    def lost(self, gone: Introduction) -> None:
        """A server's or a gateway's process has ended."""
        if gone.kind == "gateway":
            if self.gateways.get(gone.server_id) is gone:
                del self.gateways[gone.server_id]
            return
        server = self._servers.get(gone.server_id)
        if server is None or server.introduction is not gone:
            return
        del self._servers[gone.server_id]
        if self.leader == gone.server_id:
            self.leader, self._lost_leader = 0, gone
        for identity in list(server.waiting):
            self._lose(identity)

    def announced(self, server_id: int, term: int, leader: int, role: int = Role.FOLLOWER) -> None:
        """A server in ``role`` says who leads; a later term wins.

        A term without a leader counts for nothing: a candidate that loses it with its power, before
        it was synced, leaves no trace of it, and the next leader's term may be an earlier one. Only
        who led ends its own leadership. Others may be heard first: a candidate's news can come
        after its voters' that it has won.
        """
        if term < self.term:
            return
        if leader:
            if term > self._vacant_term:
                self._set_leader(term, leader)
        elif server_id == self._term_leader and (term > self.term or role != Role.CANDIDATE):
            self._stepped_down(server_id)

    def readers_announced(self, term: int, readers: tuple[int, ...]) -> None:
        """The leader of ``term`` says which members may answer reads on their own."""
        if term >= self._readers_term:
            self._readers_term = term
            self.readers = frozenset(readers)

    def may_read(self, server_id: int) -> bool:
        """Whether that server may answer reads on its own, as far as is known."""
        return self.readers is None or server_id in self.readers

    def _set_leader(self, term: int, leader: int) -> None:
        if (term, leader) == (self.term, self.leader):
            return
        self.term, self.leader, self._term_leader = term, leader, leader
        self._leader_changed.set()
        self._leader_changed = asyncio.Event()
        doomed = [i for i, w in self._waiting.items() if 0 < w.term < term]
        if doomed:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._lose_all, doomed)

    def _stepped_down(self, server_id: int) -> None:
        """No majority for the moment. What waits there may yet be committed; not for ever."""
        if self._vacant_term == self.term:
            return
        self._vacant_term, self.leader = self.term, 0
        late = [w.future for w in self._waiting.values() if w.server == server_id and w.term]
        loop = asyncio.get_running_loop()
        for future in late:
            loop.call_later(self._timeout, _expire, future)

    def _lose_all(self, identities: list[int]) -> None:
        for identity in identities:
            waiting = self._waiting.get(identity)
            if waiting is not None and waiting.term < self.term:
                self._lose(identity)

    def replied(self, replies: list[Reply]) -> None:
        """Replies that came in one message."""
        server: _Server | None = None
        for reply in replies:
            waiting = self._waiting.get(reply.id)
            if waiting is None or waiting.attempt != reply.attempt:
                continue  # late: it has been asked again since
            if not waiting.future.done():
                waiting.future.set_result(reply)
                server = server or self._servers.get(waiting.server)
        if server is not None:
            server.crowd = max(float(len(replies)), server.crowd * CROWD_DECAY)

    def _lose(self, identity: int) -> None:
        waiting = self._waiting.get(identity)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_exception(ServerLost())

    # ----------------------------------------------------------------- state

    def servers(self) -> list[int]:
        """Ids of the servers that are alive, as far as is known here."""
        return sorted(self._servers)

    def waiting(self) -> int:
        """Requests that have been sent and not been answered."""
        return len(self._waiting)

    def alive(self, server_id: int) -> bool:
        return server_id in self._servers

    def new_id(self) -> int:
        """An id for a request; ``finish`` must be called when its client has been answered."""
        if len(self._open) >= limits.OUTSTANDING_REQUESTS_MAX:
            raise Overloaded(
                f"This gateway has {limits.OUTSTANDING_REQUESTS_MAX} requests under way. Nothing "
                "was done; try again."
            )
        return self._next_id()

    def _next_id(self) -> int:
        identity = next(self._ids)
        self._open[identity] = None
        return identity

    def finish(self, identity: int) -> None:
        self._open.pop(identity, None)

    # ----------------------------------------------------------------- asking

    async def write(self, request: Request) -> tuple[Reply, int]:
        """An autocommit query in write mode, done exactly once or not at all.

        (reply, server that holds its cursor).

        Raises ``NotLeader`` (not done), ``Overloaded`` (not done), ``OutcomeUnknown``.
        """
        self._check_open()
        deadline = self._deadline(request)
        while True:
            leader, term = await self._wait_for_leader(deadline)
            try:
                reply = await self._ask(leader, request, deadline, term)
            except ServerLost:
                reply = await self._resolve(request, deadline, term)
                if reply.status is Status.ABSENT:
                    continue
                return reply, leader
            except TimeoutError:
                raise OutcomeUnknown(wording.UNKNOWN) from None
            if reply.status is Status.NOT_LEADER:
                await self._refused(leader, term, reply)
            elif reply.status is Status.OVERLOADED:
                raise Overloaded(wording.OVERLOADED)
            else:
                return reply, leader

    async def commit(self, request: Request, server_id: int, term: int) -> Reply:
        """COMMIT of a transaction open on ``server_id``, begun while it led in ``term``.

        The reply may say ABSENT or NOT_LEADER: certainly not committed. Raises ``Overloaded`` (not
        committed), ``OutcomeUnknown``.
        """
        if 0 < term < self.term:  # the transaction went with its leader's term; nothing is sent
            return Reply(request.id, Status.ABSENT)
        deadline = self._deadline(request)
        try:
            reply = await self._ask(server_id, request, deadline, term)
        except ServerLost:
            return await self._resolve(request, deadline, term)
        except TimeoutError:
            raise OutcomeUnknown(wording.UNKNOWN) from None
        if reply.status is Status.OVERLOADED:
            raise Overloaded(wording.OVERLOADED)
        return reply

    async def settle(self, name: bytes, since: int = 0) -> Reply:
        """What became of the transaction that its client calls ``name``: DONE, ABSENT, FORGOTTEN.

        Asking twice does no harm, so it is asked again until somebody answers. ``since``: a log
        index before the transaction was sent for the first time.

        Raises ``NotLeader``, ``Overloaded``: not answered.
        """
        request = Request(self.new_id(), Op.SETTLE, name=name, cursor=since)
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            while True:
                leader, term = await self._wait_for_leader(deadline)
                try:
                    reply = await self._ask(leader, request, deadline, term)
                except ServerLost:
                    continue
                except TimeoutError:
                    raise NotLeader(wording.NOT_ANSWERED) from None
                if reply.status is Status.NOT_LEADER:
                    await self._refused(leader, term, reply)
                elif reply.status is Status.OVERLOADED:
                    raise Overloaded(wording.OVERLOADED)
                else:
                    return reply
        finally:
            self.finish(request.id)

    async def administer(self, request: Request) -> Reply:
        """A statement about the cluster, done by the leader exactly once or not at all.

        A leader of a later term is told that an earlier one may have done it; it knows.

        Raises ``NotLeader`` (not done), ``Overloaded`` (not done), ``OutcomeUnknown``.
        """
        deadline = asyncio.get_running_loop().time() + limits.ADMINISTRATION_SECONDS_MAX
        asked = 0  # the term of a leader that may have done it
        while True:
            try:
                leader, term = await self._wait_for_leader(deadline, asked)
            except NotLeader:
                if asked:
                    raise OutcomeUnknown(wording.UNKNOWN_CHANGE) from None
                raise
            try:
                reply = await self._ask(leader, request, deadline, term)
            except ServerLost:
                asked, request.cursor = term, 1
                continue
            except TimeoutError:
                raise OutcomeUnknown(wording.UNKNOWN_CHANGE) from None
            if reply.status is Status.NOT_LEADER:
                await self._refused(leader, term, reply)
            elif reply.status is Status.OVERLOADED:
                raise Overloaded(wording.OVERLOADED)
            else:
                return reply

    async def begin(self, request: Request) -> tuple[Reply, int, int]:
        """Open a transaction: (reply, server, term). Retried until it is open: nothing is done."""
        self._check_open()
        deadline = self._deadline(request)
        while True:
            server, term = await self._reader(request, deadline)
            try:
                reply = await self._ask(server, request, deadline, term)
            except ServerLost:
                continue
            except TimeoutError:
                raise NotLeader(wording.NO_LEADER) from None
            if reply.status is not Status.NOT_LEADER:
                return reply, server, term
            if request.read:
                self._avoid(server)
            await self._refused(server, term, reply)

    async def read(self, request: Request) -> tuple[Reply, int]:
        """A query in read mode: (reply, server that holds its cursor)."""
        self._check_open()
        deadline = self._deadline(request)
        patience = min(deadline, asyncio.get_running_loop().time() + self._timeout)
        while True:
            server, _ = await self._reader(request, deadline)
            try:
                reply = await self._ask(server, request, deadline, 0)
            except ServerLost:
                continue
            except TimeoutError:
                raise NotLeader(wording.NO_LEADER) from None
            if reply.status is not Status.NOT_LEADER:
                return reply, server
            if request.read:
                self._avoid(server)
            await self._pause(patience)

    async def tell(self, request: Request, server_id: int, timeout: float | None = None) -> Reply:
        """A request that only ``server_id`` can answer. Raises ``ServerLost``, ``TimeoutError``.

        ``timeout``: seconds; if none is given, the request's own, and time for the answer.
        """
        if not self.alive(server_id):
            raise ServerLost
        deadline = self._deadline(request)
        if timeout is not None:
            deadline = asyncio.get_running_loop().time() + timeout
        return await self._ask(server_id, request, deadline, 0)

    def notify(self, request: Request) -> None:
        """Tell all servers; no answer."""
        for server in self._servers.values():
            self._enqueue(server, request)

    # ----------------------------------------------------------------- inside

    def _check_open(self) -> None:
        if self.leaving:
            raise NotLeader(wording.LEAVING)

    async def _resolve(self, request: Request, deadline: float, after: int) -> Reply:
        """Was a write of term ``after`` committed, whose server was lost?

        Only a leader of a later term can tell for ever: one of the same term may have the request
        still in its queue. The question is beyond the bound of ``new_id``: to refuse it would be to
        say "not done" of what may be.
        """
        while True:
            try:
                leader, term = await self._wait_for_leader(deadline, after)
                asked = Request(
                    self._next_id(),
                    Op.OUTCOME,
                    dialect=request.dialect,
                    cursor=request.id,
                    query=request.query if request.op is Op.RUN else b"",
                    acknowledged=self._acknowledged(),
                )
                try:
                    reply = await self._ask(leader, asked, deadline, term)
                finally:
                    self.finish(asked.id)
                if reply.status is Status.NOT_LEADER:
                    await self._refused(leader, term, reply)
                    continue
            except ServerLost:
                continue
            except (TimeoutError, NotLeader):
                raise OutcomeUnknown(wording.UNKNOWN) from None
            if reply.status is Status.FORGOTTEN:
                raise OutcomeUnknown(wording.UNKNOWN)
            return reply

    async def _reader(self, request: Request, deadline: float) -> tuple[int, int]:
        if not request.read:
            return await self._wait_for_leader(deadline)
        patience = min(deadline, asyncio.get_running_loop().time() + self._timeout)
        while not self._servers:
            await self._pause(patience)
        now = asyncio.get_running_loop().time()
        servers = self.servers()
        # Only if none of those is there is one asked that may be far behind, or no member.
        readers = [s for s in servers if self.may_read(s) and self._avoided.get(s, 0.0) < now]
        if self.home in readers:
            return self.home, 0
        readers = readers or servers
        return readers[request.id % len(readers)], 0

    def _avoid(self, server: int) -> None:
        """It has no state to read from: diverged, and not yet mended."""
        self._avoided[server] = asyncio.get_running_loop().time() + AVOID_SECONDS

    async def _wait_for_leader(self, deadline: float, after: int = 0) -> tuple[int, int]:
        """(server, term) once a living server leads in a term later than ``after``.

        Raises ``NotLeader`` at the deadline, or after the replication time-out.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:  # what is sent now would only become unknown
            raise NotLeader(wording.NO_LEADER)
        deadline = min(deadline, loop.time() + self._timeout)
        while not (self.leader and self.term > after and self.alive(self.leader)):
            left = deadline - loop.time()
            if left <= 0:
                raise NotLeader(wording.NO_LEADER)
            try:
                await asyncio.wait_for(self._leader_changed.wait(), min(left, 0.25))
            except TimeoutError:
                continue
        return self.leader, self.term

    async def _refused(self, server: int, term: int, reply: Reply) -> None:
        """The server says that it does not lead: believe it, unless there is news meanwhile."""
        if self.leader == server and self.term == term:
            self.leader = 0
            if reply.index > term:  # it is in a later term itself: it will never lead this one
                self._vacant_term = term
        await asyncio.sleep(RETRY_SECONDS)
        if not self.leader and self.term == term > self._vacant_term:
            self._set_leader(term, server)  # no news: it may have been about to lead

    async def _pause(self, deadline: float) -> None:
        if asyncio.get_running_loop().time() > deadline:
            raise NotLeader(
                "No server of the cluster can answer: none is reached, or those that are have just "
                "started and do not know yet what is newest. Nothing was done; try again."
            )
        await asyncio.sleep(RETRY_SECONDS)

    async def _ask(self, server_id: int, request: Request, deadline: float, term: int) -> Reply:
        server = self._servers.get(server_id)
        if server is None:
            raise ServerLost
        size = len(request.query) + len(request.parameters)
        if self._bytes and self._bytes + size > limits.OUTSTANDING_BYTES_MAX:
            raise Overloaded(
                f"This gateway has requests of {self._bytes} bytes under way. Nothing was done; "
                "try again."
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._bytes += size
        request.term, request.attempt = term, next(self._attempts)
        self._waiting[request.id] = _Waiting(future, server_id, term, request.attempt)
        server.waiting.add(request.id)
        self._enqueue(server, request)
        timer = loop.call_at(deadline, _expire, future)
        try:
            return await future
        finally:
            timer.cancel()
            self._bytes -= size
            server.waiting.discard(request.id)
            self._waiting.pop(request.id, None)

    def _enqueue(self, server: _Server, request: Request) -> None:
        server.outbox.append(request)
        loop = asyncio.get_running_loop()
        if server.crowd < CROWD_MIN or len(server.outbox) >= CROWD_PART * server.crowd:
            if not server.flushing:
                server.flushing = True
                if server.gathering is not None:
                    server.gathering.cancel()
                    server.gathering = None
                loop.call_soon(self._flush, server)
        elif not server.flushing and server.gathering is None:
            server.gathering = loop.call_later(GATHER_SECONDS, self._flush, server)

    def _flush(self, server: _Server) -> None:
        server.flushing = False
        server.gathering = None
        batch, server.outbox = server.outbox, []
        for piece in _messages(batch):
            try:
                self._send(server.introduction, encode_requests(piece))
            except Exception:
                for request in piece:
                    self._lose(request.id)

    def _acknowledged(self) -> int:
        return next(iter(self._open), 0)

    def acknowledged(self) -> int:
        """All ids below have been answered to their clients."""
        return self._acknowledged()

    def _deadline(self, request: Request) -> float:
        seconds = min(request.timeout_ms / 1000 or limits.QUERY_SECONDS_MAX, 3600.0)
        return asyncio.get_running_loop().time() + seconds + self._timeout


def _messages(batch: list[Request]) -> Iterator[list[Request]]:
    """The batch in pieces that are not too large for one message; a larger request goes alone."""
    piece: list[Request] = []
    size = 0
    for request in batch:
        request_bytes = len(request.query) + len(request.parameters)
        full = len(piece) == limits.BATCH_REQUESTS_MAX or size + request_bytes > MESSAGE_BYTES_MAX
        if piece and full:
            yield piece
            piece, size = [], 0
        piece.append(request)
        size += request_bytes
    if piece:
        yield piece


def _expire(future: asyncio.Future[Reply]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
