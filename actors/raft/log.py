"""The log in memory: entries since the last compaction, and how far each stage has come.

    base_index   entries up to here are compacted; its term is kept
    snapshot     newest local snapshot; at or after base_index
    applied      the state machine has them
    delivered    handed out for applying
    commit       known to be committed
    persisted    known to be on this server's disk
    written      handed out for writing
    last         end of the log

    base <= snapshot <= applied <= delivered <= commit <= last,  persisted <= written <= last

Two structures spare every scan: cumulative sizes, so that a slice of so many bytes is a binary
search, and the runs of equal terms, so that looking for where two logs part is one as well.
Committed entries are delivered only once they are persisted here too: then a snapshot of the
state machine never runs ahead of the stored log.

The log also knows the membership in force: the newest one in it, be it committed or not, else the
one of the snapshot that it follows, else the one that the cluster began with. Since it is kept
here, where entries come and go, nothing can be appended, truncated, compacted or reset without it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from actors.raft.errors import CodecError
from actors.raft.membership import Membership
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import Restored, SnapshotMark

__all__ = ["ENTRY_OVERHEAD_BYTES", "UNKNOWN_TERM", "Configuration", "RaftLog"]

# What an entry costs beyond its data, in memory and on the wire, for all limits in bytes.
ENTRY_OVERHEAD_BYTES = 64

# Term of an index that the log does not have; equal to no term.
UNKNOWN_TERM = -1

_NOBODY = Membership((), 0)
_CONFIG = int(EntryKind.CONFIG)


class Configuration(NamedTuple):
    """A membership and the index from which on it is in force.

    That of a snapshot counts from the snapshot's end, which is no earlier than its entry. Index 0:
    the membership that the cluster began with, which is in nobody's log.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    membership: Membership


class RaftLog:
    """In-memory view of the log. Not a store: the server writes what ``take_unwritten`` gives."""

    __slots__ = (
        "_base_offset",
        "_bootstrap",
        "_configurations",
        "_ends",
        "_entries",
        "_run_starts",
        "_run_terms",
        "applied_index",
        "base_index",
        "base_term",
        "commit_index",
        "configuration",
        "delivered_index",
        "last_index",
        "last_term",
        "membership",
        "persisted_index",
        "snapshot",
        "written_index",
    )

    def __init__(self, restored: Restored, bootstrap: Membership = _NOBODY) -> None:
        """Begin with what the disk held; ``bootstrap`` is in force while that has no membership.

        Raises:
            ValueError: the entries do not follow the snapshot, their terms fall, or one that should
                be a membership is none.
        """
        mark = restored.snapshot
        self._bootstrap = bootstrap
        self._entries: list[Entry] = []
        self._ends: list[int] = []
        self._base_offset = 0
        self._begin_at(mark, restored.membership)
        index, term = mark
        for entry in restored.entries:
            index += 1
            if entry.index != index or entry.term < term or entry.term < 1:
                raise ValueError(
                    f"stored entry {entry.index} of term {entry.term} cannot follow entry "
                    f"{index - 1} of term {term}: the stored log is damaged"
                )
            term = entry.term
        try:
            self.append(restored.entries)
        except CodecError as error:
            raise ValueError(f"{error}: the stored log is damaged") from error
        self.written_index = self.persisted_index = self.last_index

    def _begin_at(self, mark: SnapshotMark, membership: Membership | None) -> None:
        if membership is None:
            self._configure([Configuration(0, self._bootstrap)])
        else:
            self._configure([Configuration(mark.index, membership)])
        self.snapshot = mark
        self.base_index, self.base_term = mark
        self.last_index, self.last_term = mark
        self._run_starts, self._run_terms = [mark.index], [mark.term]
        self.commit_index = self.delivered_index = self.applied_index = mark.index
        self.written_index = self.persisted_index = mark.index

    # Reading

    @property
    def first_index(self) -> int:
        """Index of the first entry that is still here, or would be."""
        return self.base_index + 1

    def term_at(self, index: int) -> int:
        """Term of the entry at ``index``, or UNKNOWN_TERM where compacted or not there yet."""
        position = index - self.base_index
        if position == 0:
            return self.base_term
        if 0 < position <= len(self._entries):
            return self._entries[position - 1].term
        return UNKNOWN_TERM

    def entry(self, index: int) -> Entry:
        """The entry at ``index``, which must be here."""
        assert self.base_index < index <= self.last_index, index
        return self._entries[index - self.base_index - 1]

    def slice(self, first: int, last: int, bytes_max: int, entries_max: int) -> tuple[Entry, ...]:
        """Entries from ``first``, not beyond ``last``, within both limits but at least one."""
        assert self.base_index < first <= last <= self.last_index, (first, last)
        position = first - self.base_index - 1
        limit = self._offset(first - 1) + bytes_max
        fits = bisect_right(self._ends, limit, lo=position) - position
        count = max(1, min(fits, entries_max, last - first + 1))
        return tuple(self._entries[position : position + count])

    def bytes_between(self, after: int, last: int) -> int:
        """Bytes of the entries after ``after`` up to and including ``last``."""
        return self._offset(last) - self._offset(after)

    @property
    def byte_count(self) -> int:
        """Bytes of all entries here."""
        return self._offset(self.last_index) - self._base_offset

    def _offset(self, index: int) -> int:
        position = index - self.base_index
        return self._ends[position - 1] if position > 0 else self._base_offset

    def find_conflict_by_term(self, index: int, term: int) -> SnapshotMark:
        """The last place at or before ``index`` whose term is at most ``term``.

        Where that lies before the compacted part's end, its index is given with term 0.
        """
        index = min(index, self.last_index)
        if index < self.base_index:
            return SnapshotMark(index, 0)
        run = bisect_right(self._run_terms, term) - 1
        if run < 0:
            return SnapshotMark(max(self.base_index - 1, 0), 0)
        if run + 1 < len(self._run_starts):
            index = min(index, self._run_starts[run + 1] - 1)
        return SnapshotMark(index, self.term_at(index))

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as new as this one (paper, 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    # The membership

    def _configure(self, configurations: list[Configuration]) -> None:
        """Know of these. The last is in force: kept apart, because every message asks for it."""
        self._configurations = configurations
        self.configuration = configurations[-1]
        self.membership = self.configuration.membership

    def configuration_at(self, index: int) -> Configuration:
        """What was in force at ``index``, which is not before ``base_index``."""
        for configuration in reversed(self._configurations):
            if configuration.index <= index:
                return configuration
        raise AssertionError(f"the membership at {index} is compacted")

    # Changing

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end; they must follow it.

        Raises:
            CodecError: a CONFIG entry holds no membership; nothing was added. (What peers send
                has been checked: ``validation.py``.)
        """
        if not entries:
            return
        assert entries[0].index == self.last_index + 1, entries[0].index
        news = [
            Configuration(entry.index, Membership.decode(entry.data))
            for entry in entries
            if entry.kind == _CONFIG
        ]
        if news:
            self._configure(self._configurations + news)
        total = self._offset(self.last_index)
        ends, last_term = self._ends, self.last_term
        for entry in entries:
            total += len(entry.data) + ENTRY_OVERHEAD_BYTES
            ends.append(total)
            if entry.term != last_term:
                assert entry.term > last_term, entry.term
                last_term = entry.term
                self._run_starts.append(entry.index)
                self._run_terms.append(last_term)
        self._entries.extend(entries)
        self.last_index, self.last_term = entries[-1].index, last_term

    def truncate(self, index: int) -> None:
        """Drop the entries from ``index`` on, none of which may be committed."""
        assert self.commit_index < index <= self.last_index, (index, self.commit_index)
        position = index - self.base_index - 1
        del self._entries[position:]
        del self._ends[position:]
        while self._run_starts[-1] >= index:
            self._run_starts.pop()
            self._run_terms.pop()
        self._truncate_configurations(index)
        self.last_index, self.last_term = index - 1, self._run_terms[-1]
        self.written_index = min(self.written_index, index - 1)
        self.persisted_index = min(self.persisted_index, index - 1)

    def _truncate_configurations(self, index: int) -> None:
        if self.configuration.index >= index:
            self._configure([kept for kept in self._configurations if kept.index < index])

    def commit_to(self, index: int) -> None:
        """Raise the commit index; a lower one changes nothing."""
        if index > self.commit_index:
            assert index <= self.last_index, (index, self.last_index)
            self.commit_index = index

    def persisted_to(self, index: int) -> None:
        """Note that everything up to ``index`` is durable."""
        if index > self.persisted_index:
            assert index <= self.written_index, (index, self.written_index)
            self.persisted_index = index

    def applied_to(self, index: int) -> None:
        """Note that the state machine has everything up to ``index``."""
        assert index <= self.delivered_index, (index, self.delivered_index)
        self.applied_index = max(self.applied_index, index)

    def take_unwritten(self) -> tuple[Entry, ...]:
        """Entries not handed out for writing yet; they count as handed out from now on."""
        if self.written_index == self.last_index:
            return ()
        entries = tuple(self._entries[self.written_index - self.base_index :])
        self.written_index = self.last_index
        return entries

    def take_committed(self, bytes_max: int, unapplied_bytes_max: int) -> tuple[Entry, ...]:
        """Entries to apply next, within the limits, but at least one if nothing is pending."""
        end = min(self.commit_index, self.persisted_index)
        first = self.delivered_index + 1
        if first > end:
            return ()
        pending = self.bytes_between(self.applied_index, self.delivered_index)
        if pending and pending >= unapplied_bytes_max:
            return ()
        entries = self.slice(first, end, bytes_max, end - first + 1)
        self.delivered_index = entries[-1].index
        return entries

    def snapshot_saved(self, mark: SnapshotMark, keep_from: int) -> None:
        """A local snapshot is durable: note it and drop entries before ``keep_from``."""
        assert mark.index <= self.applied_index, (mark, self.applied_index)
        if mark.index <= self.snapshot.index:
            return
        assert self.term_at(mark.index) == mark.term, mark
        self.snapshot = mark
        self._compact(min(keep_from, mark.index + 1) - 1)

    def _compact(self, index: int) -> None:
        if index <= self.base_index:
            return
        term, offset = self.term_at(index), self._offset(index)
        count = index - self.base_index
        del self._entries[:count]
        del self._ends[:count]
        run = bisect_right(self._run_starts, index) - 1
        del self._run_starts[:run]
        del self._run_terms[:run]
        self._run_starts[0] = index
        while len(self._configurations) > 1 and self._configurations[1].index <= index:
            del self._configurations[0]
        self.base_index, self.base_term, self._base_offset = index, term, offset

    def reset(self, mark: SnapshotMark, membership: Membership | None = None) -> None:
        """Empty the log: it goes on after a snapshot, and its membership, just installed.

        A snapshot that brings none cannot take back one that was committed before its end.
        """
        assert mark.index > self.commit_index, (mark, self.commit_index)
        known = self.configuration_at(self.commit_index)
        if membership is None and known.index:
            membership = known.membership
        self._entries, self._ends, self._base_offset = [], [], 0
        self._begin_at(mark, membership)
