"""Linearizable reads without a log entry: ReadIndex (dissertation, 6.4).

Reads that arrive together form a batch. A batch takes the commit index and a context of its own
when it starts, and heartbeats that leave after that moment carry the context. Once a majority
has answered with that context or a later one, the server was leader when the batch started, and
every read in it may be served at the batch's index.

Contexts only grow, for as long as the core lives; one is never given to a second batch. Since
an answer to a later context proves an earlier one too, a lost heartbeat costs no bookkeeping.
"""

from __future__ import annotations

from collections import deque

from actors.raft.ready import ReadReady

__all__ = ["ReadQueue"]


class ReadQueue:
    """Reads of one leadership that are waiting to be confirmed."""

    __slots__ = ("_batches", "_fresh", "pending")

    def __init__(self) -> None:
        self._fresh: list[int] = []
        # (context, index, tokens), oldest first.
        self._batches: deque[tuple[int, int, list[int]]] = deque()
        self.pending = 0

    @property
    def has_fresh(self) -> bool:
        """Whether reads wait for a batch."""
        return bool(self._fresh)

    @property
    def rounds(self) -> int:
        """Batches under way."""
        return len(self._batches)

    def add(self, token: int) -> None:
        """Put a read into the next batch."""
        self._fresh.append(token)
        self.pending += 1

    def start_batch(self, context: int, commit_index: int) -> None:
        """Make a batch of all fresh reads; ``context`` is above all earlier ones."""
        assert not self._batches or context > self._batches[-1][0], context
        self._batches.append((context, commit_index, self._fresh))
        self._fresh = []

    def confirm(self, context: int) -> list[ReadReady]:
        """A majority has answered ``context``: the reads that may be served."""
        served: list[ReadReady] = []
        while self._batches and self._batches[0][0] <= context:
            _, index, tokens = self._batches.popleft()
            served.extend(ReadReady(token, index) for token in tokens)
        self.pending -= len(served)
        return served

    def fail_all(self) -> list[int]:
        """Leadership is lost: the tokens of all reads that were waiting."""
        tokens = [token for _, _, batch in self._batches for token in batch] + self._fresh
        self._batches.clear()
        self._fresh = []
        self.pending = 0
        return tokens
