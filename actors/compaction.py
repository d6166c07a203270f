"""When a snapshot is due, and which entries stay in the log behind it.

A snapshot is due after ``threshold`` entries, or after ``limits.LOG_BYTES_MAX`` of them, whichever
comes first. Servers that started together do not take theirs together: the first one comes earlier
by a part of the threshold that depends on the server, so that a majority is undisturbed while one
server writes.

Behind a snapshot a part of the log is kept, so that a follower that is a little behind gets the
entries that it lacks and not the whole graph: a tenth of the threshold, at most
``limits.LOG_KEPT_BYTES_MAX``. While a snapshot is being sent to a follower, the entries behind
*that* one are kept as well, at most ``limits.LOG_BYTES_MAX``: it will need them next, and without
them it would be sent one snapshot after another for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from actors import limits
from actors.raft.messages import Entry

__all__ = ["Compaction"]

# The log is kept for followers that lag by this part of the threshold.
KEPT_PART = 10
# How far apart in their first snapshots servers are, in parts of the threshold, and how many ways.
PHASES = 4
PHASE_PARTS = 8


class Compaction:
    """See the module. Owned by the state machine's thread.

    Args:
        threshold: entries between two snapshots; negative: never.
        snapshot_index: last entry of the newest snapshot.
        server_id: tells servers apart.
    """

    def __init__(self, threshold: int, snapshot_index: int, server_id: int = 0) -> None:
        self._threshold = threshold
        self._snapshot_index = snapshot_index
        self._index = snapshot_index  # last entry seen
        self._due = threshold - threshold * (server_id % PHASES) // PHASE_PARTS
        self._bytes = 0  # since the last snapshot was begun
        # Entries that may still be in the log, in runs: last index, bytes.
        self._runs: deque[tuple[int, int]] = deque()

    def applied(self, entries: Sequence[Entry]) -> None:
        """These came next."""
        if self._threshold < 0 or not entries:
            return
        size = sum(len(entry.data) for entry in entries)
        self._index = entries[-1].index
        self._bytes += size
        self._runs.append((self._index, size))

    @property
    def due(self) -> bool:
        """Whether a snapshot should be taken now."""
        if self._threshold < 0:
            return False
        entries = self._index - self._snapshot_index
        return entries >= self._due or self._bytes >= limits.LOG_BYTES_MAX

    def lacks(self, index: int) -> bool:
        """Whether no snapshot stands for the log up to there."""
        return self._snapshot_index < index

    def begin(self) -> None:
        """A snapshot is being written."""
        self._bytes = 0
        self._due = self._threshold

    def at(self, index: int) -> None:
        """There is a snapshot of ``index`` now: it was saved, or came from the leader."""
        self._snapshot_index = max(self._snapshot_index, index)
        if index > self._index:
            self._index = index
            self._bytes = 0
            self._runs.clear()

    def keep_from(self, index: int, sending: int | None) -> int:
        """The first entry to keep behind the snapshot of ``index``.

        ``sending`` is the index of an older snapshot that a follower is being sent, if any.
        """
        if self._threshold < 0:
            return 1
        kept = max(self._threshold // KEPT_PART, 1)
        first = max(index + 1 - kept, self._first_within(limits.LOG_KEPT_BYTES_MAX))
        if sending is not None:
            first = min(first, max(sending + 1, self._first_within(limits.LOG_BYTES_MAX)))
        first = max(1, min(first, index + 1))
        while self._runs and self._runs[0][0] < first:
            self._runs.popleft()
        return first

    def _first_within(self, size_max: int) -> int:
        """From which entry on, as far as is known here, the log is no larger than that."""
        size = 0
        for last, run_bytes in reversed(self._runs):
            size += run_bytes
            if size > size_max:
                return last + 1
        return 0
