"""The server loop: one inbox in, a Raft core in the middle, effects out.

Everything that happens to a server is an event in one inbox: messages of peers, ticks, proposals,
reads, completions of the disk and of the state machine. ``advance`` takes a batch of events, steps
the core, and hands what comes out to three ports: ``Log`` (the disk), ``Machine`` (the state
machine) and ``Network``. It is synchronous and touches no thread, clock or socket, so a simulator
can drive the very same code; in production the ports are threads and actor calls
(``server_actor.py``).

The contract of a Ready (``raft/ready.py``) is kept here and nowhere else: persisted things first go
to the log, and what must wait for them is kept in ``_held`` until the log says that they are
durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors import envelope
from actors.addresses import directories_of
from actors.administration_server import (
    FIRST_TOKEN,
    Administrator,
    AdminRequest,
    GatewayMet,
    PeerMet,
    PeerRefused,
)
from actors.notes import Note, PeerNote, decode_note, encode_note, is_note
from actors.raft import codec
from actors.raft.core import RaftCore
from actors.raft.messages import (
    Applied,
    Entry,
    EntryKind,
    PeerDown,
    PeerMessage,
    PeerReset,
    Persisted,
    Propose,
    ReadIndex,
    SnapshotChunk,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotRestored,
    SnapshotSaved,
    Tick,
    Unreachable,
)
from actors.raft.ready import (
    HardState,
    Ready,
    RefusalReason,
    Role,
    SnapshotMark,
    SnapshotWanted,
    SoftState,
)

__all__ = ["FromPeer", "Log", "Machine", "Network", "Proposal", "RaftServer", "ReadRequest"]

# Between two words to a removed server that goes on sending.
DISMISSAL_MS = 1_000


@dataclass(frozen=True, slots=True)
class FromPeer:
    """A message between servers as it arrived."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Proposal:
    """A batch of writes executed on the head in ``term``.

    Batches of one ``generation`` build on one another: when one is refused, so are all later ones,
    and the machine, which is told of the first one alone, begins a new generation.
    """

    token: int
    term: int
    generation: int
    payloads: tuple[tuple[EntryKind, bytes], ...]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Linearizable reads that wait for one index; ``token`` is the machine's."""

    token: int


Event = (
    FromPeer
    | Proposal
    | ReadRequest
    | Tick
    | Persisted
    | Applied
    | SnapshotSaved
    | SnapshotRestored
    | SnapshotRefused
    | SnapshotChunkRead
    | PeerReset
    | PeerDown
    | Unreachable
    | PeerNote
    | AdminRequest
    | PeerMet
    | PeerRefused
    | GatewayMet
)


class Log(Protocol):
    """The disk. Completions come back as events: ``Persisted``, ``SnapshotChunkRead``."""

    def write(
        self,
        sequence: int,
        hard_state: HardState | None,
        reset: SnapshotMark | None,
        entries: Sequence[Entry],
    ) -> None: ...

    def receive_chunk(self, chunk: SnapshotChunk) -> None:
        """Write a piece of the leader's snapshot; install it after the last one.

        The whole snapshot must not be durable before everything that was written earlier is:
        else a restart could find a snapshot of a later term than the server's own.
        """

    def read_chunk(self, wanted: SnapshotWanted) -> None: ...

    def compact(self, keep_from: int) -> None: ...


class Machine(Protocol):
    """The state machine. Completions come back as ``Applied``, ``SnapshotSaved``, ..."""

    def apply(self, entries: Sequence[Entry]) -> None: ...

    def role_changed(self, state: SoftState) -> None: ...

    def proposal_refused(self, token: int, reason: RefusalReason) -> None: ...

    def reads_ready(self, reads: Sequence[tuple[int, int]]) -> None: ...

    def reads_failed(self, tokens: Sequence[int]) -> None: ...

    def noted(self, peer: int, note: Note) -> None:
        """Another server says something that is none of Raft's business."""


class Network(Protocol):
    """Messages to other servers; lossy."""

    def send(self, peer: int, data: bytes) -> None: ...


class RaftServer:
    """See the module. ``advance`` is called by one thread.

    Args:
        administrator: executes statements about the cluster; without one there are none.
        dismiss: tells a server that it is no member any more.
    """

    def __init__(
        self,
        core: RaftCore,
        log: Log,
        machine: Machine,
        network: Network,
        sender: envelope.Sender,
        *,
        administrator: Administrator | None = None,
        dismiss: Callable[[int], None] | None = None,
    ) -> None:
        self.core = core
        self._log = log
        self._machine = machine
        self._network = network
        self._sender = sender
        self._held: deque[tuple[int, tuple[PeerMessage, ...]]] = deque()
        self._writes_under_way = 0
        self._refused_generation = -1
        self.refused_peers: dict[int, str] = {}  # server id -> why its messages are not taken
        self._administrator = administrator
        self._dismiss = dismiss
        self._dismissed_ms: dict[int, int] = {}
        self._now_ms = 0
        sender.set_members(directories_of(core.membership))
        self._committed = core.membership
        self._note_committed()

    @property
    def deadline_ms(self) -> int:
        """When the next Tick is wanted."""
        return self.core.deadline_ms

    def advance(self, events: Sequence[Event], now_ms: int) -> None:
        """Take a batch of events; everything that follows from them has been handed out."""
        self.core.advance_clock(now_ms)
        self._now_ms = now_ms
        for event in events:
            self._take(event)
        self._drain()
        if self._administrator is not None:
            self._administrator.turn(now_ms / 1000)
            self._drain()
        self._note_committed()

    def was_removed(self, server_id: int) -> bool:
        """Whether that server was a member and is none any more, by an entry that is committed.

        May be asked by any thread.
        """
        membership = self._committed
        return server_id <= membership.last_used_id and membership.get(server_id) is None

    def _note_committed(self) -> None:
        """Keep the newest membership that is committed, as far as is known."""
        self._committed = self.core.log.configuration_at(self.core.commit_index).membership

    # ----------------------------------------------------------------- events

    def _take(self, event: Event) -> None:
        if isinstance(event, FromPeer):
            for message in self._sender.open(event.data, self.refused_peers):
                if is_note(message):
                    self._take_note(self._sender.sender_of(event.data), message)
                else:
                    self._step_peer(message)
            if self._dismiss is not None:
                self._look_at_sender(self._dismiss, self._sender.sender_of(event.data))
        elif isinstance(event, Proposal):
            self._propose(event)
        elif isinstance(event, ReadRequest):
            self.core.step(ReadIndex(event.token))
        elif isinstance(event, Persisted):
            self._persisted(event)
        elif isinstance(event, SnapshotSaved):
            self.core.step(event)
            self._log.compact(event.keep_from)
        elif isinstance(event, PeerNote):
            self._network.send(event.peer, self._sender.seal([encode_note(event.note)]))
        elif isinstance(event, PeerMet):
            self._sender.met(event.server_id, event.incarnation, event.place.directory, event.peers)
            self.core.step(PeerReset(event.server_id))
            self._administer(event)
        elif isinstance(event, AdminRequest | GatewayMet | PeerRefused):
            self._administer(event)
        else:
            self.core.step(event)
            if isinstance(event, PeerDown):
                self._administer(event)

    def _administer(
        self, event: AdminRequest | PeerMet | PeerRefused | GatewayMet | PeerDown
    ) -> None:
        if self._administrator is not None:
            self._administrator.take(event, self._now_ms / 1000)

    def _look_at_sender(self, dismiss: Callable[[int], None], sender: int) -> None:
        """A removed server that was away when it was removed does not know it yet."""
        if self.core.membership.get(sender) is not None or not self.was_removed(sender):
            return
        if self._now_ms - self._dismissed_ms.get(sender, -DISMISSAL_MS) >= DISMISSAL_MS:
            self._dismissed_ms[sender] = self._now_ms
            dismiss(sender)

    def _step_peer(self, data: bytes) -> None:
        try:
            message = codec.decode(data)
        except codec.CodecError:
            self.core.dropped += 1
            return
        self.core.step(message)

    def _take_note(self, sender: int, data: bytes) -> None:
        try:
            note = decode_note(data)
        except ValueError:
            self.core.dropped += 1
            return
        self._machine.noted(sender, note)

    def _propose(self, proposal: Proposal) -> None:
        if proposal.generation == self._refused_generation:
            return  # the refusal that was told takes back everything behind it
        if self.core.role is not Role.LEADER or self.core.term != proposal.term:
            self._refused_generation = proposal.generation
            self._machine.proposal_refused(proposal.token, RefusalReason.NOT_LEADER)
            return
        before = self.core.last_index
        self.core.step(Propose(proposal.token, proposal.payloads))
        if self.core.last_index == before:  # refused; so must be all that was built on it
            self._refused_generation = proposal.generation

    def _persisted(self, event: Persisted) -> None:
        self._writes_under_way -= 1
        self.core.step(event)
        self._release(event.sequence)

    # ----------------------------------------------------------------- effects

    def _drain(self) -> None:
        while (ready := self.core.ready()) is not None:
            self._carry_out(ready)

    def _carry_out(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._machine.role_changed(ready.soft_state)
        if ready.membership is not None:
            self._sender.set_members(directories_of(ready.membership))
            if self._administrator is not None:
                self._administrator.membership_changed(ready.membership)
        self._persist(ready)
        self._send(ready.messages)
        if ready.committed:
            self._machine.apply(ready.committed)
        if ready.reads or ready.reads_failed:
            self._tell_of_reads(ready)
        for refused in ready.refused:
            if refused.token < FIRST_TOKEN:
                self._machine.proposal_refused(refused.token, refused.reason)
            elif self._administrator is not None:
                self._administrator.refused(refused.token, refused.reason)
        for proposed in ready.proposed:
            if proposed.token >= FIRST_TOKEN and self._administrator is not None:
                self._administrator.proposed(proposed.token, proposed.first_index, proposed.term)
        for wanted in ready.snapshot_requests:
            self._log.read_chunk(wanted)

    def _tell_of_reads(self, ready: Ready) -> None:
        """The administrator's tokens are above the machine's."""
        reads = [read for read in ready.reads if read.token < FIRST_TOKEN]
        if reads:
            self._machine.reads_ready(reads)
        failed = [token for token in ready.reads_failed if token < FIRST_TOKEN]
        if failed:
            self._machine.reads_failed(failed)
        if self._administrator is None:
            return
        if len(reads) < len(ready.reads):
            self._administrator.reads_ready(
                [read.token for read in ready.reads if read.token >= FIRST_TOKEN]
            )
        if len(failed) < len(ready.reads_failed):
            self._administrator.reads_failed(
                [token for token in ready.reads_failed if token >= FIRST_TOKEN]
            )

    def _persist(self, ready: Ready) -> None:
        if not ready.sequence:
            return
        self._held.append((ready.sequence, ready.messages_after_persist))
        if (
            ready.hard_state is None
            and ready.log_reset is None
            and not ready.entries
            and not ready.snapshot_chunks
            and not self._writes_under_way
        ):
            self.core.step(Persisted(ready.sequence))
            self._release(ready.sequence)
            return
        self._writes_under_way += 1
        self._log.write(ready.sequence, ready.hard_state, ready.log_reset, ready.entries)
        # After the term that they came in: see ``Log.receive_chunk``.
        for chunk in ready.snapshot_chunks:
            self._log.receive_chunk(chunk)

    def _release(self, sequence: int) -> None:
        """Send what waited for the Readys up to ``sequence`` to be durable."""
        messages: list[PeerMessage] = []
        while self._held and self._held[0][0] <= sequence:
            messages += self._held.popleft()[1]
        self._send(messages)

    def _send(self, messages: Sequence[PeerMessage]) -> None:
        """All messages to one peer travel together."""
        if not messages:
            return
        by_peer: dict[int, list[bytes]] = {}
        for message in messages:
            by_peer.setdefault(message.receiver, []).append(codec.encode(message))
        for peer, encoded in by_peer.items():
            self._network.send(peer, self._sender.seal(encoded))
