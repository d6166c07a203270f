"""Which existing entities recent writes touched, to find conflicts at COMMIT.

Few ids are kept as sets, which are the fastest to compare; many as sorted arrays, because a set of
a million ids is made in one go during which no other thread of the process runs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from actors import limits
from graph.distinct import disjoint
from graph.vector import IntArray

__all__ = ["ConflictLog", "overlap"]

SET_IDS_MAX = 4_096

Ids = set[int] | IntArray


@dataclass(frozen=True, slots=True)
class _Batch:
    version: int
    nodes: Ids
    relationships: Ids

    @property
    def size(self) -> int:
        return len(self.nodes) + len(self.relationships)


class ConflictLog:
    """See the module. Owned by the state machine's thread. Ids come ascending, each once."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque()
        self._ids = 0
        self._lost_before = 0  # batches up to this version have been forgotten for want of room

    def record(self, version: int, nodes: IntArray, relationships: IntArray) -> None:
        """Batch ``version`` touched these."""
        batch = _Batch(version, _kept(nodes), _kept(relationships))
        if not batch.size:
            return
        self._batches.append(batch)
        self._ids += batch.size
        while self._ids > limits.TOUCHED_IDS_MAX:
            oldest = self._batches.popleft()
            self._ids -= oldest.size
            self._lost_before = oldest.version

    def everything(self, version: int) -> None:
        """Batch ``version`` exchanged the whole graph."""
        self.clear()
        self._lost_before = version

    def forget(self, version: int) -> None:
        """Nobody will ask for batches up to ``version`` again."""
        while self._batches and self._batches[0].version <= version:
            self._ids -= self._batches.popleft().size

    def conflict(self, since: int, nodes: IntArray, relationships: IntArray) -> bool:
        """Whether a batch after ``since`` touched one of these (or may have)."""
        if since < self._lost_before:
            return True
        mine = _kept(nodes), _kept(relationships)
        if not len(nodes) and not len(relationships):
            return False
        return any(
            _overlap(mine[0], batch.nodes) or _overlap(mine[1], batch.relationships)
            for batch in self._batches
            if batch.version > since
        )

    def clear(self) -> None:
        """A new leader begins: nothing that it began is older."""
        self._batches.clear()
        self._ids = 0
        self._lost_before = 0


def overlap(one: IntArray, other: IntArray) -> bool:
    """Whether two lists of ids, each ascending and distinct, have one in common."""
    return _overlap(_kept(one), _kept(other))


def _kept(ids: IntArray) -> Ids:
    return set(ids.tolist()) if len(ids) <= SET_IDS_MAX else ids


def _overlap(one: Ids, other: Ids) -> bool:
    if not len(one) or not len(other):
        return False
    if isinstance(one, set):
        if isinstance(other, set):
            return not one.isdisjoint(other)
        return not disjoint(_sorted(one), other)
    return not disjoint(_sorted(other) if isinstance(other, set) else other, one)


def _sorted(ids: set[int]) -> IntArray:
    return np.sort(np.fromiter(ids, dtype=np.int64, count=len(ids)))
