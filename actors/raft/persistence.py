"""Writes under way: which Ready's completion makes what durable.

Persistence is asynchronous, so by the time a write completes the log may have been truncated and
grown anew. A completion must then not count for the new entries: each truncation lowers what the
writes under way stand for, and only a write issued after it can raise that again.
"""

from __future__ import annotations

from collections import deque

from actors.raft.ready import HardState

__all__ = ["Persistence"]


class _Write:
    __slots__ = ("hard_state", "issued_ms", "last_index", "sequence")

    def __init__(
        self, sequence: int, last_index: int, hard_state: HardState, issued_ms: int
    ) -> None:
        self.sequence = sequence
        self.last_index = last_index
        self.hard_state = hard_state
        self.issued_ms = issued_ms


class Persistence:
    """The queue of writes handed out and not yet confirmed."""

    __slots__ = ("_writes", "durable", "issued", "sequence")

    def __init__(self, hard_state: HardState) -> None:
        # Newest hard state known to be on disk, and newest one handed out for writing.
        self.durable = hard_state
        self.issued = hard_state
        self.sequence = 0
        self._writes: deque[_Write] = deque()

    @property
    def busy(self) -> bool:
        """Whether a write is under way."""
        return bool(self._writes)

    def issue(self, last_index: int, hard_state: HardState, now_ms: int) -> int:
        """A Ready goes out that leaves the stored log at ``last_index``; its sequence."""
        self.sequence += 1
        self.issued = hard_state
        self._writes.append(_Write(self.sequence, last_index, hard_state, now_ms))
        return self.sequence

    def complete(self, sequence: int) -> int:
        """Writes up to ``sequence`` are durable; returns the index that the disk holds by them.

        Late or repeated completions give 0.
        """
        assert sequence <= self.sequence, f"Persisted({sequence}): no such Ready was given out"
        last_index = 0
        while self._writes and self._writes[0].sequence <= sequence:
            write = self._writes.popleft()
            last_index = write.last_index
            self.durable = write.hard_state
        return last_index

    def truncated(self, index: int) -> None:
        """The log lost its entries from ``index`` on."""
        for write in self._writes:
            write.last_index = min(write.last_index, index - 1)

    def oldest_ms(self, now_ms: int) -> int:
        """When the oldest write under way was issued; ``now_ms`` if there is none."""
        return self._writes[0].issued_ms if self._writes else now_ms
