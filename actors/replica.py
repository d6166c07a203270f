"""The state machine of one server: graph roots, applied index, outcomes.

A plain class that knows nothing of who feeds it: log entries come in, one at a time and in order;
roots come out. One thread owns it.

Two roots. ``head`` is what writes are executed on; ``view`` is what readers see. On a follower
they have the same contents: an entry's write sets are applied to the head, and a view is forked
off when a reader asks. On the leader the head runs ahead: a batch of writes is executed on it,
proposed, and becomes a *speculation*: the root as it is after the batch, waiting for its entry.
When the entry comes back committed, that root is the new view, and nothing is applied twice. When
leadership is lost the speculations are dropped and the head goes back to the view; if some of
their entries are committed after all, they arrive through the log like anybody else's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from actors import commands
from actors.backup_file import load_backup
from actors.commands import (
    ClusterNamed,
    Command,
    DigestAgreed,
    DigestAsked,
    Named,
    RestoreDropped,
    RestoreEnded,
    RestorePart,
    TransactionId,
    Transactions,
)
from actors.outcomes import OutcomeTable
from actors.raft.messages import Entry, EntryKind
from actors.snapshots import SnapshotMeta
from actors.spool import Spool
from graph.errors import CorruptionError
from graph.snapshot import read_snapshot
from graph.store import IdAllocator, Root
from graph.write_set_codec import decode as decode_write_set

__all__ = ["Replica", "Speculation"]


@dataclass(slots=True)
class Speculation:
    """A batch executed on the head and proposed; ``on_commit`` is the caller's own."""

    view: Root
    version: int
    ids: tuple[TransactionId, ...]
    payload: bytes
    on_commit: Any = None
    proposed_at: float = field(default=0.0)
    names: dict[bytes, bool] = field(default_factory=dict)  # as commands.Named


class Replica:
    """See the module. Not thread-safe; the roots it hands out may be read by any thread."""

    def __init__(self) -> None:
        self.head = Root.empty()
        self.applied_index = 0
        self.applied_term = 0
        self.cluster_id = ""
        self.membership = b""  # of the last CONFIG entry that was applied, as it stood there
        self.outcomes = OutcomeTable()
        self.allocator: IdAllocator | None = None
        self.leading_term = 0  # the term in which this server may execute writes; 0: it may not
        self.version = 0  # counts speculations; tells explicit transactions what came after them
        self.view_version = 0
        self.pending: deque[Speculation] = deque()
        # What the entry applied last says about digests of the graph.
        self.check: DigestAsked | DigestAgreed | None = None
        self.spool = Spool()
        self._view: Root | None = None
        self._fragments: list[bytes] = []

    # ----------------------------------------------------------------- reading

    def view(self) -> Root:
        """The committed graph as of ``applied_index``; never changes afterwards."""
        if self._view is None:
            self._view = self.head.fork()
        return self._view

    # ----------------------------------------------------------------- the log

    def apply(self, entry: Entry) -> Speculation | None:
        """Apply one committed entry; the speculation that it completes, if it was ours."""
        assert entry.index == self.applied_index + 1
        self.applied_index = entry.index
        self.applied_term = entry.term
        self.check = None
        ours = bool(self.pending) and entry.term == self.leading_term
        if entry.kind is EntryKind.CONFIG:
            self.membership = entry.data
        elif entry.kind is EntryKind.NOOP:
            self._fragments.clear()  # what a lost leader left unfinished
            self.spool.clear()
        elif entry.kind is EntryKind.FRAGMENT:
            # Kept even if ours: leadership may be lost before the command is complete.
            self._fragments.append(entry.data)
        elif ours:
            return self._complete(entry)
        else:
            payload = b"".join([*self._fragments, entry.data])
            self._fragments.clear()
            self._apply_payload(payload, entry.index)
        return None

    def _complete(self, entry: Entry) -> Speculation:
        self._fragments.clear()
        speculation = self.pending.popleft()
        self._view = speculation.view
        self.view_version = speculation.version
        for transaction in speculation.ids:
            self.outcomes.record(transaction, entry.index)
        for name, done in speculation.names.items():
            self.outcomes.names.record(Named(name, done), entry.index)
        if not speculation.ids:  # it may be something else than transactions
            self._take_note(commands.decode(speculation.payload), entry.index, ours=True)
        return speculation

    def _apply_payload(self, payload: bytes, index: int) -> None:
        command = commands.decode(payload)
        if not isinstance(command, Transactions):
            self._take_note(command, index)
            return
        if command.write_sets:
            self._view = None
        for write_set in command.write_sets:
            self.head.apply(decode_write_set(write_set))
        for transaction in command.ids:
            self.outcomes.record(transaction, index)
        for named in command.names:
            self.outcomes.names.record(named, index)

    def _take_note(self, command: Command, index: int, *, ours: bool = False) -> None:
        """What is no transaction; ``ours``: its graph is in the view already."""
        if isinstance(command, RestorePart):
            self.spool.add(command)
        elif isinstance(command, RestoreEnded):
            if not ours:
                self.head = self._restored(command)
                self._view = None
            self.spool.clear()
            self.outcomes.record(command.transaction, index)
        elif isinstance(command, RestoreDropped):
            self.spool.clear()
        elif isinstance(command, ClusterNamed):
            self.cluster_id = self.cluster_id or command.cluster_id
        elif isinstance(command, (DigestAsked, DigestAgreed)):
            self.check = command

    def _restored(self, ended: RestoreEnded) -> Root:
        spool = self.spool
        if (ended.restore, ended.size) != (spool.name, spool.size):
            raise CorruptionError("a log entry is damaged: it ends a backup that is not here")
        return load_backup(spool.parts)

    # ----------------------------------------------------------------- leading

    def lead(self, term: int) -> None:
        """From now on writes are executed here, in ``term``; everything before it is applied."""
        assert not self.pending
        self.leading_term = term
        self._view = self.head.fork()
        self.view_version = self.version
        self.allocator = IdAllocator(self.head.next_node_id, self.head.next_relationship_id)

    def follow(self) -> list[Speculation]:
        """Stop executing writes; the speculations that are dropped (their outcome is unknown)."""
        dropped = list(self.pending)
        if self.leading_term and dropped:
            self.pending.clear()
            self.head = self.view().fork()
        self.leading_term = 0
        self.allocator = None
        return dropped

    def speculate(
        self,
        payload: bytes,
        ids: tuple[TransactionId, ...],
        on_commit: Any,
        now: float,
        names: dict[bytes, bool] | None = None,
    ) -> Speculation:
        """What was executed on the head since the last call is one batch, to be proposed now."""
        assert self.leading_term
        self.version += 1
        view = self.head.fork()
        speculation = Speculation(view, self.version, ids, payload, on_commit, now, names or {})
        self.pending.append(speculation)
        return speculation

    def take_back(self, version: int) -> None:
        """The batch of ``version`` and all after it were not appended: undo them."""
        while self.pending and self.pending[-1].version >= version:
            self.pending.pop()
        last = self.pending[-1].view if self.pending else self.view()
        self.head = last.fork()

    def exchange(self, root: Root) -> None:
        """On the leader: from here on writes are executed on another graph."""
        assert self.allocator is not None
        self.head = root
        # Ids that open transactions have are not given out again, should this be taken back.
        self.allocator.skip_to(root.next_node_id, root.next_relationship_id)

    def standing(self, name: bytes) -> bool | None:
        """What is settled about a client's transaction, pending or not: done, or never."""
        found = self.outcomes.names.find(name)
        if found is not None:
            return found[1]
        for speculation in self.pending:
            if name in speculation.names:
                return speculation.names[name]
        return None

    # ----------------------------------------------------------------- snapshots

    def capture(self) -> tuple[SnapshotMeta, Root] | None:
        """What a snapshot of this moment holds; ``None`` amid a large command, or a restore."""
        if self._fragments or self.spool.name:
            return None
        meta = SnapshotMeta(
            self.applied_index,
            self.applied_term,
            self.cluster_id,
            self.outcomes.encode().hex(),
            membership=self.membership.hex(),
        )
        return meta, self.view()

    def restore(self, meta: SnapshotMeta, root: Root) -> None:
        """Take a snapshot's state in place of one's own."""
        assert not self.leading_term
        self.head = root
        self._view = None
        self._fragments.clear()
        self.spool.clear()
        self.applied_index = meta.index
        self.applied_term = meta.term
        self.cluster_id = meta.cluster_id
        self.membership = bytes.fromhex(meta.membership)
        self.outcomes = OutcomeTable.decode(bytes.fromhex(meta.outcomes))


def load_root(stream: Any) -> Root:
    """The graph in a snapshot's stream."""
    return read_snapshot(stream)
