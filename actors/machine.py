"""The state machine: applies entries, executes writes, hands out roots.

``StateMachine`` is called by one thread only (``workers.py`` gives it one). It owns the replica,
and with it the two orders that must agree: the order in which writes are executed on the head, and
the order in which their entries are proposed.

Writes wait in ``_waiting``. Whenever there is room for another speculation, all that wait (up to a
bound) are executed as one batch, proposed as one entry, and answered when that entry comes back
committed. Under load batches grow by themselves: one entry, one sync, one message for many.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

import structlog

from actors import commands, limits
from actors.backup import Backups
from actors.commands import DigestAsked, TransactionId
from actors.divergence import DigestWatch, Divergence
from actors.errors import Diverged
from actors.notes import DigestFound, DiskNearlyFull, ImageWanted, Note, PeerNote
from actors.pressure import DISK_NEARLY_FULL, Backlog, DiskWatch, mebibytes
from actors.protocol import Op, Reply, Status
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import RefusalReason, Role, SoftState
from actors.replica import Replica, Speculation
from actors.restore import Restorer
from actors.server import Proposal, ReadRequest
from actors.service import Executed, Item, QueryService, bookmark_of, empty_success
from actors.writer import Writer
from graph.errors import CorruptionError, GraphError

__all__ = ["StateMachine"]

# What part of a crowd is enough to go on.
CROWD_PART = 0.7
# What another server said of itself is shown for so long.
AILING_SECONDS = 6.0

log = structlog.get_logger()


class StateMachine:
    """See the module.

    Args:
        replica: the state; nobody else may change it.
        service: runs queries and makes replies.
        post: puts an event into the server loop's inbox.
        applied: tells the loop up to which index the log is applied.
        run_reads: runs a function in a reader thread.
        new_cluster_id: draws a name for a new cluster, or a restore: 32 hexadecimal digits.
        replication_timeout_ms: no new writes while one waits longer than this for its majority.
        clock: seconds that only grow.
        server_id: this server's.
        voters: the members that vote.
        on_divergence: told when this server's graph is wrong, before ``Diverged`` is raised.
        send_image: sends a server in quarantine a piece of a snapshot.
        watch: compares digests; None for one with the usual settings.
        free_bytes: room on the disk.
    """

    def __init__(
        self,
        replica: Replica,
        service: QueryService,
        *,
        post: Callable[[Any], None],
        applied: Callable[[int], None],
        run_reads: Callable[[Callable[[], None]], None],
        new_cluster_id: Callable[[], str],
        on_cluster: Callable[[str], None],
        replication_timeout_ms: int,
        clock: Callable[[], float] = time.monotonic,
        server_id: int = 0,
        voters: Callable[[], Collection[int]] = tuple,
        on_divergence: Callable[[Divergence], None] = lambda divergence: None,
        send_image: Callable[[int, ImageWanted], None] = lambda peer, wanted: None,
        watch: DigestWatch | None = None,
        free_bytes: Callable[[], int] = lambda: 1 << 62,
    ) -> None:
        self.replica = replica
        self.service = service
        self._post = post
        self._applied = applied
        self._run_reads = run_reads
        self._new_cluster_id = new_cluster_id
        self._on_cluster = on_cluster
        self._clock = clock
        self._replication_timeout = replication_timeout_ms / 1000
        self._state = SoftState(Role.FOLLOWER, 0, 0)
        self.found_in_log = (0, 0)  # at the start: the last index, and its term
        self._generation = 0
        self._waiting: deque[Item] = deque()
        self._crowd = 0  # how many requests were executed together last
        self._gather_until = 0.0
        self._reads: dict[int, list[Item]] = {}  # linearizable, by token
        self._next_read = 1
        self._later: list[tuple[int, Item]] = []  # reads that wait for an index
        self._writer = Writer(replica, service, clock)
        self._backups = Backups(service)
        self._restorer = Restorer(
            replica,
            service,
            self._writer.conflicts,
            propose=lambda payload, ids, done: self._propose(payload, ids, done).version,
            room=self._has_room,
            run_reads=run_reads,
            new_name=new_cluster_id,
            clock=clock,
        )
        self._known_cluster = replica.cluster_id
        self._voters = voters
        self._on_divergence = on_divergence
        self._send_image = send_image
        self._server_id = server_id
        self.backlog = Backlog()
        self.disk = DiskWatch(free_bytes, clock)
        self._refusal = ""  # why no writes are taken
        self._ailing: dict[int, tuple[float, str]] = {}  # server id -> when, what it said
        self.watch = watch or DigestWatch(server_id, run=run_reads, clock=clock)

    @property
    def health(self) -> str:
        """How this server is, in words; empty if nothing is the matter."""
        if self.disk.nearly_full:
            return f"its disk is nearly full: {mebibytes(self.disk.free)} are free"
        if self.watch.undecided:
            return (
                f"the servers' graphs differ as of log index {self.watch.undecided}, and no "
                "majority agrees"
            )
        return ""

    def ailing(self) -> dict[int, str]:
        """What is the matter with servers, this one and others, by id; for any thread."""
        since = self._clock() - AILING_SECONDS
        found = {peer: text for peer, (when, text) in list(self._ailing.items()) if when > since}
        health = self.health
        return {**found, self._server_id: health} if health else found

    # ----------------------------------------------------------------- from the server loop

    def apply(self, entries: Sequence[Entry]) -> None:
        answers: list[tuple[Item, Reply]] = []
        for entry in entries:
            speculation = self._apply_one(entry)
            if speculation is not None:
                answers += self._answers(speculation, entry.index)
            elif entry.kind is EntryKind.NOOP and entry.term == self._state.term:
                self._maybe_lead(entry.term)
        self._applied(entries[-1].index)
        if answers:
            self.service.reply_all(answers)
        self._forget_conflicts()
        self._serve_later()
        self._note_cluster()

    def _apply_one(self, entry: Entry) -> Speculation | None:
        """Raises ``Diverged`` if this server's graph is found to be wrong."""
        try:
            speculation = self.replica.apply(entry)
        except CorruptionError:
            raise  # of a newer version: nothing is wrong with the graph
        except GraphError as error:
            # The leader has executed it, and so must everybody else be able to.
            text = f"log entry {entry.index} cannot be applied to this server's graph: {error}"
            self._give_up(Divergence(entry.index, entry.index, text))
        check = self.replica.check
        if isinstance(check, DigestAsked):
            self.watch.asked(entry.index, self.replica.view())
        elif check is not None:
            self.watch.agreed(check, entry.index)
            self._look_for_divergence()
        return speculation

    def role_changed(self, state: SoftState) -> None:
        before, self._state = self._state, state
        if self.replica.leading_term and (
            state.role is not Role.LEADER or state.term != self.replica.leading_term
        ):
            self._stop_leading()
        if state.role is not Role.LEADER and before.role is Role.LEADER:
            self._refuse_waiting()

    def proposal_refused(self, token: int, reason: RefusalReason) -> None:
        """Everything executed from that batch on was not appended, and never will be."""
        if not any(s.version == token for s in self.replica.pending):
            return  # dropped before: what is pending now was built without it
        refused = [s for s in self.replica.pending if s.version >= token]
        self._generation += 1
        self.replica.take_back(token)
        self._restorer.lose()
        status = Status.OVERLOADED if reason is RefusalReason.OVERLOADED else Status.NOT_LEADER
        answers = [
            (executed.item, Reply(executed.item.request.id, status, self._state.term))
            for speculation in refused
            for executed in speculation.on_commit
        ]
        self.service.reply_all(answers)

    def reads_ready(self, reads: Sequence[tuple[int, int]]) -> None:
        for token, index in reads:
            items = self._reads.pop(token, [])
            self._later += [(index, item) for item in items]
        self._serve_later()

    def reads_failed(self, tokens: Sequence[int]) -> None:
        answers = []
        for token in tokens:
            items = self._reads.pop(token, [])
            answers += [(item, self._not_leader(item)) for item in items]
        self.service.reply_all(answers)

    def restored(self) -> None:
        """The replica's state was replaced by a snapshot's."""
        self.watch.reset()
        self._note_cluster()
        self._serve_later()

    # ----------------------------------------------------------------- from clients

    def submit_writes(self, items: Sequence[Item]) -> None:
        """Autocommit writes and COMMITs, to be executed in this order."""
        if self._refusal:
            items = self._refuse_for_want_of_room(items)
        self._waiting.extend(items)
        if self._state.role is not Role.LEADER:
            self._refuse_waiting()  # a leader that is not ready yet keeps them, nobody else

    def submit_restore(self, items: Sequence[Item]) -> None:
        """Steps of a restore, to be done in this order."""
        if self._refusal:
            self._refuse_for_want_of_room(items)
            return
        self._restorer.submit(items)

    def submit_leader_reads(self, items: Sequence[Item]) -> None:
        """Linearizable: served after a majority has confirmed the leadership."""
        token = self._next_read
        self._next_read += 1
        self._reads[token] = list(items)
        self._post(ReadRequest(token))

    def submit_local_reads(self, items: Sequence[Item]) -> None:
        """Served here as soon as the bookmark has been applied."""
        if not self._is_current():
            self.service.reply_all([(item, self._not_leader(item)) for item in items])
            return
        self._later += [(item.request.bookmark, item) for item in items]
        self._serve_later()

    def _is_current(self) -> bool:
        """Whether what was in the log at the start is applied again, or was undone by a new leader.

        Before that this server would show an older state than it has shown in its last life.
        """
        index, term = self.found_in_log
        return self.replica.applied_index >= index or self.replica.applied_term > term

    def _refuse_for_want_of_room(self, items: Sequence[Item]) -> list[Item]:
        """Refuse what writes; the rest. Questions about outcomes are answered: they are small."""
        kept = [item for item in items if item.request.op is Op.SETTLE]
        refused = [item for item in items if item.request.op is not Op.SETTLE]
        self.backlog.take(refused)
        error = GraphError(self._refusal, code=DISK_NEARLY_FULL)
        for item in refused:
            if item.request.op is Op.COMMIT:
                self.service.sessions.remove_transaction(item.gateway, item.request.tx)
        self.service.reply_all([(item, self.service.failed(item, error)) for item in refused])
        return kept

    def turn(self) -> float:
        """After each batch of tasks: execute what waits, as far as there is room.

        Returns after how many seconds it wants to be called again; 0 for not before there is news.
        """
        self._restorer.turn()
        while self._waiting and self._may_execute():
            wait = self._gather(self._clock())
            if wait > 0:
                return wait
            count = min(len(self._waiting), limits.WRITE_BATCH_MAX)
            items = [self._waiting.popleft() for _ in range(count)]
            self.backlog.take(items)
            self._execute(items)
        return 0.0

    def _gather(self, now: float) -> float:
        """How long to wait for company: a straggler alone would cost as much as a full batch.

        Clients that were answered together come back together, so where a small part of the last
        crowd waits the rest is on its way.
        """
        waiting = len(self._waiting)
        if waiting < CROWD_PART * self._crowd:
            if not self._gather_until:
                self._gather_until = now + limits.GATHER_SECONDS_MAX
            if now < self._gather_until:
                return self._gather_until - now
        self._gather_until = 0.0
        self._crowd = waiting  # if it did not come back it is no crowd any more
        return 0.0

    def sweep(self, now: float) -> None:
        """Time passes: drop what waited too long."""
        if any(item.deadline < now for _, item in self._later):
            late = [item for _, item in self._later if item.deadline < now]
            self._later = [pair for pair in self._later if pair[1].deadline >= now]
            self.service.reply_all([(item, self._too_late(item)) for item in late])
        if self._waiting and not self.replica.leading_term:
            self._refuse_late(now)
        if self._replication_is_late():
            self._refuse_waiting(Status.OVERLOADED)
        self._name_cluster()
        self._restorer.sweep(now)
        self._compare()
        self._look_at_disk()
        self.service.sessions.sweep(now)

    # ----------------------------------------------------------------- comparing digests

    def noted(self, peer: int, note: Note) -> None:
        """Another server says something."""
        if isinstance(note, DigestFound) and peer in self._voters():
            self.watch.reported(peer, note)
        elif isinstance(note, ImageWanted):
            text = f"diverged, and is being sent another state: {note.offset} bytes so far"
            self._ailing[peer] = (self._clock(), text)
            self._send_image(peer, note)
        elif isinstance(note, DiskNearlyFull):
            text = f"its disk is nearly full: {mebibytes(note.free_bytes)} are free"
            self._ailing[peer] = (self._clock(), text)
            self.disk.heard(peer, note)

    def _look_at_disk(self) -> None:
        self.disk.look()
        if self.replica.leading_term:
            self._refusal = self.disk.refusal(self._server_id, self._voters())
            return
        self._refusal = ""
        word = self.disk.word()
        if word is not None and self._state.leader:
            self._post(PeerNote(self._state.leader, word))

    def _look_for_divergence(self) -> None:
        divergence = self.watch.divergence()
        if divergence is not None:
            self._give_up(divergence)

    def _give_up(self, divergence: Divergence) -> NoReturn:
        log.critical("this server has diverged and stops serving", found=divergence.found)
        self._on_divergence(divergence)
        raise Diverged(divergence.found)

    def _compare(self) -> None:
        """From time to time: this server's part in finding out whether one differs."""
        self._look_for_divergence()
        if not self.replica.leading_term:
            report = self.watch.report()
            if report is not None and self._state.leader:
                self._post(PeerNote(self._state.leader, report))
        elif not self._replication_is_late():
            voters = self._voters()
            verdict = self.watch.verdict(voters)
            if verdict is not None:
                self._propose(commands.encode_digest(verdict.index, verdict.digest), (), [])
            elif (
                len(voters) > 1 and not self._refusal and self.watch.due(self.replica.applied_index)
            ):
                self._propose(commands.DIGEST_ASKED, (), [])

    # ----------------------------------------------------------------- leading

    def _maybe_lead(self, term: int) -> None:
        if self._state.role is not Role.LEADER or self.replica.leading_term:
            return
        self.replica.lead(term)
        self._generation += 1
        self._writer.conflicts.clear()
        log.info("leading", term=term, applied=self.replica.applied_index)
        self._name_cluster()

    def _name_cluster(self) -> None:
        """The first leader of a cluster draws its name; again, should that not be appended."""
        replica = self.replica
        if replica.leading_term and not replica.cluster_id and not replica.pending:
            self._propose(commands.encode_cluster(self._new_cluster_id()), (), [])

    def _stop_leading(self) -> None:
        dropped = self.replica.follow()
        self._generation += 1
        self._restorer.lose()
        self.service.sessions.drop_writing_transactions()
        log.info("not leading any more", term=self._state.term, unknown_batches=len(dropped))
        self._refuse_waiting()
        # The outcome of what was dropped is not known here; the gateways ask the next leader.

    def _may_execute(self) -> bool:
        under_way = len(self.replica.pending)
        if not self.replica.leading_term or self._replication_is_late():
            return False
        if not under_way:
            return True
        # A batch costs the same messages and syncs however small it is: while one is under way the
        # next gathers.
        return under_way < limits.SPECULATIONS_MAX and (
            len(self._waiting) >= limits.OVERLAPPING_BATCH_MIN
        )

    def _has_room(self) -> bool:
        """Whether something besides the clients' writes may be proposed now."""
        leads = self.replica.leading_term and not self._replication_is_late()
        return bool(leads) and len(self.replica.pending) < limits.SPECULATIONS_MAX

    def _replication_is_late(self) -> bool:
        pending = self.replica.pending
        if not pending:
            return False
        return self._clock() - pending[0].proposed_at > self._replication_timeout

    def _refuse_waiting(self, status: Status = Status.NOT_LEADER) -> None:
        items, self._waiting = list(self._waiting), deque()
        self.backlog.take(items)
        term = self._state.term
        self.service.reply_all([(i, Reply(i.request.id, status, term)) for i in items])

    def _refuse_late(self, now: float) -> None:
        """A new leader that cannot commit its first entry must not keep writers for ever."""
        late = [item for item in self._waiting if item.deadline < now]
        if late:
            self.backlog.take(late)
            self._waiting = deque(item for item in self._waiting if item.deadline >= now)
            self.service.reply_all([(item, self._not_leader(item)) for item in late])

    def _not_leader(self, item: Item) -> Reply:
        return Reply(item.request.id, Status.NOT_LEADER, self._state.term)

    # ----------------------------------------------------------------- executing writes

    def _execute(self, items: list[Item]) -> None:
        """One batch: execute, propose, and encode the rows while the entry is on its way."""
        term = self.replica.leading_term
        late = [item for item in items if item.request.term != term]
        self.service.reply_all([(item, self._not_leader(item)) for item in late])
        batch, replies = self._writer.execute(i for i in items if i.request.term == term)
        self.service.reply_all(replies)
        if not batch.executed:
            return
        speculation = self._propose(batch.payload(), tuple(batch.ids), batch.executed, batch.names)
        self._writer.note_conflicts(speculation.version, batch)

    def _propose(
        self,
        payload: bytes,
        ids: tuple[TransactionId, ...],
        executed: list[Executed],
        names: dict[bytes, bool] | None = None,
    ) -> Speculation:
        replica = self.replica
        speculation = replica.speculate(payload, ids, executed, self._clock(), names)
        self._post(
            Proposal(
                speculation.version,
                replica.leading_term,
                self._generation,
                commands.split(payload),
            )
        )
        return speculation

    def _answers(self, speculation: Speculation, index: int) -> list[tuple[Item, Reply]]:
        return [(e.item, self.service.committed(e, index)) for e in speculation.on_commit]

    def _note_cluster(self) -> None:
        if self.replica.cluster_id != self._known_cluster:
            self._known_cluster = self.replica.cluster_id
            self._on_cluster(self._known_cluster)

    def _forget_conflicts(self) -> None:
        oldest = self.service.sessions.oldest_write_version()
        shown = self.replica.view_version
        self._writer.conflicts.forget(shown if oldest is None else min(oldest, shown))

    # ----------------------------------------------------------------- reading

    def _serve_later(self) -> None:
        """Hand a root to every read whose index has been applied."""
        if not self._later:
            return
        applied = self.replica.applied_index
        ready = [item for index, item in self._later if index <= applied]
        if not ready:
            return
        self._later = [pair for pair in self._later if pair[0] > applied]
        root = self.replica.view()
        plain: list[Item] = []
        for item in ready:
            if item.request.op is Op.BEGIN:
                self._begin(item)
            elif item.request.op is Op.OUTCOME:
                self.service.reply(item, self._outcome(item))
            elif item.request.op is Op.BACKUP:
                self._back_up(item, root)
            else:
                plain.append(item)
        if plain:
            self._run_reads(lambda: self._read(plain, root, applied))

    def _read(self, items: list[Item], root: Any, index: int) -> None:
        """In a reader thread."""
        replies = self.service.read_batch(items, root, index)
        self.service.reply_all(list(zip(items, replies, strict=True)))

    def _back_up(self, item: Item, root: Any) -> None:
        replica = self.replica
        index, term, cluster_id = replica.applied_index, replica.applied_term, replica.cluster_id
        begin = self._backups.begin
        self._run_reads(
            lambda: self.service.reply(item, begin(item, root, index, term, cluster_id))
        )

    def _begin(self, item: Item) -> None:
        replica = self.replica
        if item.request.read:
            reply = self.service.begin(item, replica.view(), None, 0, replica.applied_index)
        elif not replica.leading_term or item.request.term != replica.leading_term:
            reply = self._not_leader(item)
        else:
            root = replica.view().fork()
            reply = self.service.begin(
                item, root, replica.allocator, replica.view_version, replica.applied_index
            )
        self.service.reply(item, reply)

    def _outcome(self, item: Item) -> Reply:
        """Was it committed? ``item`` came through a linearizable read, so the answer is final."""
        request = item.request
        index = self.replica.outcomes.find(item.gateway, request.cursor)
        if index is None:
            return Reply(request.id, Status.ABSENT)
        if index is False:
            return Reply(request.id, Status.FORGOTTEN)
        head = tail = b""
        if request.query:
            try:
                self.service.prepare(item)
            except Exception as error:
                return self.service.failed(item, error)
            assert item.prepared is not None
            if item.prepared.fields:
                error_ = GraphError(
                    "The write was committed, but the server that had its result is gone. Do not "
                    "run it again; read what you need.",
                    code="Neo.DatabaseError.Transaction.TransactionCommitFailed",
                )
                return self.service.failed(item, error_)
            head = empty_success(item.dialect, {"fields": [], "t_first": 0})
            summary = {"type": "w", "t_last": 0, "db": "neo4j", "bookmark": bookmark_of(index)}
            tail = empty_success(item.dialect, summary)
        return Reply(request.id, Status.DONE, index, head=head, tail=tail)

    def _too_late(self, item: Item) -> Reply:
        error = GraphError(
            f"This server has applied the log up to {self.replica.applied_index}, not yet up to "
            f"{item.request.bookmark}, which the request's bookmark asks for. Try again.",
            code="Neo.TransientError.Transaction.BookmarkTimeout",
        )
        return self.service.failed(item, error)
