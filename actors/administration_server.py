"""Statements about the cluster, executed by the leader: changes of membership, transfer, SHOW.

The ``Administrator`` belongs to the server loop's thread and is told of everything there: requests,
introductions of servers and gateways, what the core proposed or refused, and, after each batch of
events, that time has passed (``turn``). It knows no thread, socket or clock.

What becomes of a statement. A *change* is proposed as one entry of the log and answered when that
entry is committed. While another change is on its way, or the new leader's first entry is, it waits
for its turn, ``PATIENCE_SECONDS`` at most. If the leadership is lost before the statement was
proposed, the answer is NOT_LEADER and the gateway asks the next leader; if after, there is no
answer, and the gateway sends it again to a leader of a later term with ``cursor`` 1: "an earlier
leader may have done it". That leader, once its own first entry is committed, has the change in its
membership or never will, so it says what is so, or does it.

``ADD SERVER`` and ``REPLACE SERVER`` wait until the new server has introduced itself, because its
data directory's name goes into the membership with its address (``addresses.py``). Whoever starts
servers finds in ``wanted`` which ones are asked for.

For the members that a cluster began with, whose names are in no entry, the leader adds address and
directory by itself once it has met them; and a member that introduces itself, with its own
directory, from another address than before has moved, which is noted in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from actors.addresses import Place
from actors.administration import (
    AddServer,
    DemoteServer,
    PromoteServer,
    RemoveServer,
    ReplaceServer,
    ShowServers,
    Statement,
    StatementError,
    TransferTo,
    parse_statement,
)
from actors.administration_table import Acquaintance, refusal_text, server_rows
from actors.protocol import Reply, Request, Status
from actors.raft.core import RaftCore
from actors.raft.membership import MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    ChangeMembership,
    MembershipChange,
    PeerDown,
    ReadIndex,
    RemoveMember,
    SetAddress,
    SetRole,
    TransferLeadership,
)
from actors.raft.ready import RefusalReason, Role
from bolt import status as codes
from bolt.packer import Packer

__all__ = ["FIRST_TOKEN", "AdminRequest", "Administrator", "GatewayMet", "PeerMet", "PeerRefused"]

log = structlog.get_logger()

# Tokens from here on are the administrator's; those below the state machine's.
FIRST_TOKEN = 1 << 62
# How long a statement waits for a change before it, and for a server to be started: less than the
# gateway waits for its answer.
PATIENCE_SECONDS = 15.0
START_PATIENCE_SECONDS = 45.0
# Statements under way at once on one leader.
STATEMENTS_MAX = 64
# Between two tries: of a statement that must wait, and of the leader's own notes.
RETRY_SECONDS = 0.05
NOTE_RETRY_SECONDS = 1.0

_PACKER = Packer()
_WAIT = (RefusalReason.CHANGE_IN_PROGRESS, RefusalReason.NOT_READY, RefusalReason.TRANSFERRING)


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A statement of a client; ``deadline`` in seconds of the server's clock."""

    gateway: int
    request: Request
    deadline: float


@dataclass(frozen=True, slots=True)
class PeerMet:
    """A server introduced itself, and was not refused; ``peers``: directories that it knows."""

    server_id: int
    incarnation: int
    place: Place = field(default_factory=Place)
    peers: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """A server introduced itself and must not take part; ``note`` says why."""

    server_id: int
    note: str


@dataclass(frozen=True, slots=True)
class GatewayMet:
    """The gateway in front of a server, and where its clients reach it."""

    server_id: int
    address: str


@dataclass(slots=True)
class _Pending:
    """A statement under way."""

    gateway: int
    request: Request
    statement: Statement
    patience: float  # until when it may wait before it is proposed
    deadline: float
    index: int = 0  # of its entry, once proposed
    term: int = 0
    proposed: bool = False  # handed to the core, which has not refused it
    retry_at: float = 0.0
    reason: RefusalReason | None = None  # why it waits


class Administrator:
    """See the module.

    Args:
        core: stepped here with changes, reads and transfers.
        reply: sends a reply to a gateway.
        place: this server's own address and directory.
        silent_ms: after so long without an answer a server is called down.
        ailing: what is the matter with servers, by id.
    """

    def __init__(
        self,
        core: RaftCore,
        reply: Callable[[int, Reply], None],
        *,
        place: Place = Place(),  # noqa: B008  # immutable
        silent_ms: int = 1000,
        ailing: Callable[[], Mapping[int, str]] = dict,
    ) -> None:
        self._core = core
        self._reply = reply
        self._silent_ms = silent_ms
        self._ailing = ailing
        self.met: dict[int, Acquaintance] = {core.server_id: Acquaintance(place, alive=True)}
        self.wanted: dict[int, str] = {}  # servers asked for that have not come yet: address
        self._pending: dict[int, _Pending] = {}  # by token
        self._notes: set[int] = set()  # tokens of the leader's own changes
        self._note_at = 0.0
        self._next_token = FIRST_TOKEN
        self._now = 0.0
        self._caught_up: set[int] = set()  # learners that have been, under this leadership

    # ----------------------------------------------------------------- news

    def take(
        self, event: AdminRequest | PeerMet | PeerRefused | GatewayMet | PeerDown, now: float
    ) -> None:
        """A request or news; ``now`` in seconds of the server's clock."""
        self._now = now
        if isinstance(event, AdminRequest):
            self._ask(event)
        elif isinstance(event, PeerDown):
            if event.peer in self.met:
                self.met[event.peer].alive = False
        else:
            known = self.met.setdefault(event.server_id, Acquaintance())
            if isinstance(event, PeerMet):
                known.place, known.alive, known.note = event.place, True, ""
                self._note_at = 0.0
            elif isinstance(event, GatewayMet):
                known.bolt_address = event.address
            else:  # the one that the id belongs to may be there all the same
                known.note = event.note

    # ----------------------------------------------------------------- requests

    def _ask(self, event: AdminRequest) -> None:
        """A statement of a client."""
        request = event.request
        if self._core.role is not Role.LEADER or request.term != self._core.term:
            self._not_leader(event.gateway, request)
            return
        try:
            statement = parse_statement(request.query.decode("utf-8", "replace"))
        except StatementError as error:
            self._fail(event.gateway, request, str(error), codes.STATEMENT_SYNTAX_ERROR)
            return
        if len(self._pending) >= STATEMENTS_MAX:
            self._answer(event.gateway, request, Status.OVERLOADED)
            return
        adds = isinstance(statement, AddServer | ReplaceServer)
        seconds = START_PATIENCE_SECONDS if adds else PATIENCE_SECONDS
        patience = min(event.deadline, self._now + seconds)
        pending = _Pending(event.gateway, request, statement, patience, event.deadline)
        self._try(pending)

    def _try(self, pending: _Pending) -> None:
        """Do it, or let it wait."""
        statement = pending.statement
        if isinstance(statement, ShowServers):
            self._core.step(ReadIndex(self._keep(pending)))
            return
        if pending.request.cursor:
            if not self._is_settled():
                self._wait(pending, RefusalReason.NOT_READY)
                return
            if self._is_so(statement):
                self._done(pending)
                return
        if isinstance(statement, TransferTo):
            self._transfer(pending, statement.server_id)
            return
        change = self._change(statement)
        if change is None:  # the server to be added has not come yet
            self._wait(pending, None)
            return
        pending.proposed = True
        self._core.step(ChangeMembership(self._keep(pending), change))

    def _transfer(self, pending: _Pending, target: int) -> None:
        if target == self._core.server_id:
            self._done(pending)
            return
        pending.proposed = True
        self._core.step(TransferLeadership(self._keep(pending), target))

    def _change(self, statement: Statement) -> MembershipChange | None:
        """What to ask the core for; None if the new server's directory is not known yet."""
        match statement:
            case AddServer(server_id, address, learner):
                role = MemberRole.LEARNER if learner else MemberRole.JOINING
                return self._addition(server_id, address, role, 0)
            case ReplaceServer(old_id, server_id, address):
                return self._addition(server_id, address, MemberRole.JOINING, old_id)
            case RemoveServer(server_id):
                return RemoveMember(server_id)
            case PromoteServer(server_id):
                return SetRole(server_id, MemberRole.VOTER)
            case DemoteServer(server_id):
                return SetRole(server_id, MemberRole.LEARNER)
            case _:
                raise AssertionError(statement)

    def _addition(
        self, server_id: int, address: str, role: MemberRole, replaces: int
    ) -> MembershipChange | None:
        membership = self._core.membership
        if server_id > membership.last_used_id:  # else the core says what is wrong
            known = self.met.get(server_id)
            if known is None or not known.alive or not known.place.directory:
                self.wanted[server_id] = address
                return None
            self.wanted.pop(server_id, None)
            directory = known.place.directory
        else:
            directory = ""
        return AddMember(server_id, role, Place(address, directory).text(), replaces)

    def _is_settled(self) -> bool:
        """Whether an entry of this leader's own term is committed, and the membership with it."""
        core = self._core
        committed = core.commit_index
        return (
            core.log.term_at(committed) == core.term and core.log.configuration.index <= committed
        )

    def _is_so(self, statement: Statement) -> bool:
        """Whether what an earlier leader may have been asked for is so."""
        membership = self._core.membership
        match statement:
            case AddServer(server_id) | ReplaceServer(_, server_id):
                return membership.get(server_id) is not None
            case RemoveServer(server_id):
                return membership.get(server_id) is None and server_id <= membership.last_used_id
            case PromoteServer(server_id):
                return server_id in membership.voters
            case DemoteServer(server_id):
                member = membership.get(server_id)
                return member is not None and member.role is MemberRole.LEARNER
            case TransferTo(server_id):
                return server_id in (0, self._core.server_id)
            case _:
                return False

    # ----------------------------------------------------------------- what the core says

    def proposed(self, token: int, index: int, term: int) -> None:
        """A change was appended."""
        pending = self._pending.get(token)
        if pending is not None:
            pending.index, pending.term = index, term

    def refused(self, token: int, reason: RefusalReason) -> None:
        """A change was not appended, or a transfer was not done."""
        if token in self._notes:
            self._notes.discard(token)
            self._note_at = self._now + NOTE_RETRY_SECONDS
            return
        pending = self._pending.pop(token, None)
        if pending is None:
            return
        pending.proposed = False
        if reason is RefusalReason.NOT_LEADER:
            self._not_leader(pending.gateway, pending.request)
        elif reason is RefusalReason.OVERLOADED:
            self._answer(pending.gateway, pending.request, Status.OVERLOADED)
        elif reason in _WAIT:
            self._wait(pending, reason)
        else:
            self._refuse(pending, reason)

    def reads_ready(self, tokens: list[int]) -> None:
        """The leadership was confirmed after these were asked."""
        for token in tokens:
            pending = self._pending.pop(token, None)
            if pending is not None:
                self._done(pending)

    def reads_failed(self, tokens: list[int]) -> None:
        for token in tokens:
            pending = self._pending.pop(token, None)
            if pending is not None:
                self._not_leader(pending.gateway, pending.request)

    # ----------------------------------------------------------------- time

    def turn(self, now: float) -> None:
        """After each batch of events: answer what is done, try again what waits, give up."""
        self._now = now
        for token, pending in list(self._pending.items()):
            self._look_after(token, pending)
        if self._core.role is Role.LEADER:
            self._note_places()
            self._note_learners()
        else:
            self.wanted.clear()
            self._notes.clear()
            self._caught_up.clear()

    def _look_after(self, token: int, pending: _Pending) -> None:
        leads = self._core.role is Role.LEADER and self._core.term == pending.request.term
        if isinstance(pending.statement, TransferTo) and pending.proposed:
            self._look_after_transfer(token, pending, leads)
        elif pending.index:
            if self._is_committed(pending):
                del self._pending[token]
                self._done(pending)
        elif not leads:
            if not pending.proposed:
                del self._pending[token]
                self._not_leader(pending.gateway, pending.request)
        elif not pending.proposed and not isinstance(pending.statement, ShowServers):
            if self._now >= pending.patience:
                del self._pending[token]
                self._refuse(pending, pending.reason)
            elif self._now >= pending.retry_at:
                del self._pending[token]
                self._try(pending)
        if self._now >= pending.deadline:  # its gateway does not wait for it any more
            self._pending.pop(token, None)

    def _look_after_transfer(self, token: int, pending: _Pending, leads: bool) -> None:
        leader = self._core.leader
        if leads or not leader:
            return  # not decided yet
        del self._pending[token]
        assert isinstance(pending.statement, TransferTo)
        wanted = pending.statement.server_id
        if wanted in (0, leader):
            self._done(pending)
        else:
            self._fail(
                pending.gateway,
                pending.request,
                f"Server {leader} was elected instead of server {wanted}. Try again.",
                codes.DATABASE_UNAVAILABLE,
            )

    def _is_committed(self, pending: _Pending) -> bool:
        log_ = self._core.log
        index = pending.index
        return index <= self._core.commit_index and (
            index < log_.first_index or log_.term_at(index) == pending.term
        )

    # ----------------------------------------------------------------- the leader's own notes

    def _note_places(self) -> None:
        """Put into the membership what is known of its members and not in it yet."""
        if self._now < self._note_at or self._notes or not self._is_settled():
            return
        self._note_at = self._now + NOTE_RETRY_SECONDS
        for member in self._core.membership.members:
            known = self.met.get(member.server_id)
            if known is None or not known.alive or not known.place.directory:
                continue
            noted = Place.of(member.address)
            place = Place(known.place.address or noted.address, known.place.directory)
            # Another directory than the noted one is a stranger's; the envelope refuses it.
            if noted == place or noted.directory not in ("", place.directory):
                continue
            token = self._new_token()
            self._notes = {token}
            text = place.text()
            log.info("noting a member's place", member=member.server_id, place=text)
            self._core.step(ChangeMembership(token, SetAddress(member.server_id, text)))
            return

    def membership_changed(self, membership: Membership) -> None:
        """Another membership is in force."""
        self._notes.clear()
        self._note_at = 0.0
        log.info("membership", members=_described(membership))

    def _note_learners(self) -> None:
        membership = self._core.membership
        if not membership.learners:
            self._caught_up.clear()
            return
        committed = self._core.commit_index
        progress = {p.peer: p.match_index for p in self._core.status().progress}
        for server_id in membership.learners:
            if progress.get(server_id, -1) >= committed:
                self._caught_up.add(server_id)

    @property
    def readers(self) -> tuple[int, ...]:
        """Members that may answer reads on their own: voters, and learners that had caught up."""
        membership = self._core.membership
        learners = [
            m.server_id
            for m in membership.members
            if m.role is MemberRole.LEARNER and m.server_id in self._caught_up
        ]
        return tuple(sorted((*membership.voters, *learners)))

    # ----------------------------------------------------------------- answers

    def _keep(self, pending: _Pending) -> int:
        token = self._new_token()
        self._pending[token] = pending
        return token

    def _new_token(self) -> int:
        self._next_token += 1
        return self._next_token

    def _wait(self, pending: _Pending, reason: RefusalReason | None) -> None:
        pending.reason = reason
        pending.retry_at = self._now + RETRY_SECONDS
        self._keep(pending)

    def _done(self, pending: _Pending) -> None:
        statement = pending.statement
        if isinstance(statement, ShowServers):
            now_ms = int(self._now * 1000)
            fields, rows = server_rows(
                self._core, self.met, self._silent_ms, now_ms, self._ailing()
            )
        else:
            fields, rows = ["result"], [[_result_text(statement, self._core.leader)]]
            log.info("administration", statement=str(statement), index=pending.index)
        body = _PACKER.pack([fields, rows])
        self._answer(pending.gateway, pending.request, Status.DONE, body=body)

    def _refuse(self, pending: _Pending, reason: RefusalReason | None) -> None:
        code, message = refusal_text(pending.statement, reason, self._core, self.met)
        self._fail(pending.gateway, pending.request, message, code)
        if isinstance(pending.statement, AddServer | ReplaceServer):
            self.wanted.pop(pending.statement.server_id, None)

    def _fail(self, gateway: int, request: Request, message: str, code: str) -> None:
        head, body = code.encode(), message.encode()
        self._answer(gateway, request, Status.FAILED, head=head, body=body)

    def _not_leader(self, gateway: int, request: Request) -> None:
        self._answer(gateway, request, Status.NOT_LEADER, self._core.term)

    def _answer(
        self,
        gateway: int,
        request: Request,
        status: Status,
        index: int = 0,
        head: bytes = b"",
        body: bytes = b"",
    ) -> None:
        reply = Reply(request.id, status, index, head=head, body=body, attempt=request.attempt)
        self._reply(gateway, reply)


def _result_text(statement: Statement, leader: int) -> str:
    match statement:
        case AddServer(server_id, _, True):
            return f"server {server_id} is a learner; SHOW SERVERS shows how far it is"
        case AddServer(server_id):
            return (
                f"server {server_id} is joining and will vote once it has caught up; SHOW SERVERS "
                "shows how far it is"
            )
        case ReplaceServer(old_id, server_id):
            return (
                f"server {server_id} is joining; once it has caught up it votes and server "
                f"{old_id} is removed; SHOW SERVERS shows how far it is"
            )
        case RemoveServer(server_id):
            return f"server {server_id} is removed; its id cannot be used again"
        case PromoteServer(server_id):
            return f"server {server_id} votes"
        case DemoteServer(server_id):
            return f"server {server_id} is a learner: it votes no more"
        case _:
            return f"server {leader} leads"


def _described(membership: Membership) -> Mapping[str, str]:
    return {str(m.server_id): f"{m.role.name} {m.address}" for m in membership.members}
