"""Adjacency: who is next to whom, for one relationship type and one direction.

Nodes are cut into groups of 4,096. A group is a few *runs* and a *tail*. A run is an immutable
CSR piece: for each node of the group a stretch of ``neighbours`` and ``relationships``, ascending
by relationship id. The tail is a small unsorted table of the newest entries. A full tail becomes
a run, and a run that is at least half as large as the one before it is merged with it, so there
are O(log n) runs and each entry is rewritten O(log n) times (a log-structured merge; O'Neil et
al. 1996): a hub with a million relationships is not rewritten for each new one.

A deleted relationship stays in its run and is masked by the relationships' liveness; the group
counts its dead entries and is compacted when they outnumber half of it. A group without dead
entries needs no mask.

*Flat form.* As in ``chunked.py``: when expansions over many groups have cost as much as a
rebuild, all groups are laid end to end into one CSR for all nodes, and the groups become views
of it. A group written afterwards is dirty and is read on its own until the next rebuild.

Whatever the history, entries come out in one order: by row, then by relationship id.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.chunked import CHUNK_BITS, CHUNK_IDS, CHUNK_MASK, Epoch, pieces
from graph.vector import BoolArray, IntArray

__all__ = ["Adjacency", "Alive", "Edges", "spans"]

Alive = Callable[[IntArray], BoolArray]  # which relationship ids exist in the asking root
Edges = tuple[IntArray, IntArray, IntArray]  # rows, relationship ids, neighbour ids

_TAIL_FIRST = 16
_TAIL_MAX = 1_024
_DEAD_SPARE = 256
# Entries that a flat rebuild moves in the time that one group costs an expansion.
_ENTRIES_PER_PIECE = 2_048
_EMPTY: IntArray = np.empty(0, dtype=np.int64)


def spans(starts: IntArray, counts: IntArray) -> IntArray:
    """Indices ``starts[i] .. starts[i] + counts[i] - 1`` for all ``i``, end to end."""
    ends = np.cumsum(counts)
    total = ends.item(-1) if len(ends) else 0
    return np.repeat(starts - (ends - counts), counts) + np.arange(total)


class _Run:
    """CSR over the 4,096 nodes of a group; ``offsets`` index into the whole arrays."""

    __slots__ = ("neighbours", "offsets", "relationships")

    def __init__(self, offsets: IntArray, neighbours: IntArray, relationships: IntArray) -> None:
        self.offsets = offsets
        self.neighbours = neighbours
        self.relationships = relationships

    def __len__(self) -> int:
        return self.offsets.item(CHUNK_IDS) - self.offsets.item(0)

    def entries(self) -> Edges:
        """Local node, relationship and neighbour of every entry, in order."""
        low, high = self.offsets.item(0), self.offsets.item(CHUNK_IDS)
        local = np.repeat(np.arange(CHUNK_IDS), np.diff(self.offsets))
        return local, self.relationships[low:high], self.neighbours[low:high]

    @staticmethod
    def of(local: IntArray, relationships: IntArray, neighbours: IntArray) -> _Run:
        """A run of entries that are ordered by node and relationship."""
        offsets = np.zeros(CHUNK_IDS + 1, dtype=np.int64)
        np.cumsum(np.bincount(local, minlength=CHUNK_IDS), out=offsets[1:])
        return _Run(offsets, neighbours, relationships)


def _ordered(entries: Edges) -> Edges:
    """Sort entries by node, then relationship."""
    local, relationships, neighbours = entries
    if bool((relationships[1:] > relationships[:-1]).all()):
        order = np.argsort(local.astype(np.uint16), kind="stable")  # 16 bits: radix sort
    else:
        order = np.lexsort((relationships, local))
    return local[order], relationships[order], neighbours[order]


def _merged(parts: list[Edges]) -> Edges:
    """Merge entries that are ordered in each part, oldest part first."""
    parts = [part for part in parts if len(part[0])]
    entries = _concatenated(parts)
    if len(parts) < 2:
        return entries
    local, relationships, neighbours = entries
    if all(int(a[1].max()) < int(b[1].min()) for a, b in pairwise(parts)):
        order = np.argsort(local.astype(np.uint16), kind="stable")
    else:
        order = np.lexsort((relationships, local))
    return local[order], relationships[order], neighbours[order]


class _Group:
    """The entries of 4,096 nodes. ``dead`` counts entries whose relationship is deleted."""

    __slots__ = ("dead", "epoch", "runs", "size", "tail", "tail_count")

    def __init__(self, epoch: Epoch | None) -> None:
        self.epoch = epoch
        self.runs: tuple[_Run, ...] = ()
        self.tail: IntArray | None = None  # rows: local node, relationship, neighbour
        self.tail_count = 0
        self.size = 0
        self.dead = 0

    def copy(self, epoch: Epoch) -> _Group:
        twin = _Group(epoch)
        twin.runs = self.runs
        twin.tail = None if self.tail is None else self.tail.copy()
        twin.tail_count = self.tail_count
        twin.size = self.size
        twin.dead = self.dead
        return twin

    def append_one(self, local: int, relationship: int, neighbour: int, alive: Alive) -> None:
        count = self.tail_count
        tail = self.tail
        if tail is None or count == tail.shape[1]:
            if count == _TAIL_MAX:
                self._seal(_EMPTY, _EMPTY, _EMPTY, alive)
                count = 0
            tail = self._grow(count + 1)
        tail[0, count] = local
        tail[1, count] = relationship
        tail[2, count] = neighbour
        self.tail_count = count + 1
        self.size += 1

    def append(
        self, local: IntArray, relationships: IntArray, neighbours: IntArray, alive: Alive
    ) -> None:
        added = len(local)
        count = self.tail_count
        self.size += added
        if count + added > _TAIL_MAX:
            self._seal(local, relationships, neighbours, alive)
            return
        tail = self._grow(count + added)
        tail[0, count : count + added] = local
        tail[1, count : count + added] = relationships
        tail[2, count : count + added] = neighbours
        self.tail_count = count + added

    def _grow(self, needed: int) -> IntArray:
        tail = self.tail
        if tail is not None and tail.shape[1] >= needed:
            return tail
        capacity = _TAIL_FIRST
        while capacity < needed:
            capacity *= 2
        grown = np.empty((3, capacity), dtype=np.int64)
        if tail is not None and self.tail_count:
            grown[:, : self.tail_count] = tail[:, : self.tail_count]
        self.tail = grown
        return grown

    def _tail_entries(self) -> Edges:
        if self.tail is None or not self.tail_count:
            return _EMPTY, _EMPTY, _EMPTY
        return tuple(self.tail[:, : self.tail_count].copy())

    def _seal(
        self, local: IntArray, relationships: IntArray, neighbours: IntArray, alive: Alive
    ) -> None:
        """Make a run of the tail and of further entries, then restore the geometric sizes."""
        tail = self._tail_entries()
        added = (local, relationships, neighbours)
        parts = [_ordered(_concatenated([tail, added]))]
        size = len(parts[0][0])
        self.tail, self.tail_count = None, 0
        runs = list(self.runs)
        while runs and size * 2 >= len(runs[-1]):
            parts.insert(0, runs.pop().entries())
            size += len(parts[0][0])
        entries = _merged(parts)
        if self.dead:
            entries = self._without_dead(entries, alive)
        if len(entries[0]):
            runs.append(_Run.of(*entries))
        self.runs = tuple(runs)

    def _without_dead(self, entries: Edges, alive: Alive) -> Edges:
        mask = alive(entries[1])
        local, relationships, neighbours = entries
        kept = local[mask], relationships[mask], neighbours[mask]
        gone = len(local) - len(kept[0])
        self.dead -= gone
        self.size -= gone
        return kept

    def entries(self, alive: Alive) -> Edges:
        """All live entries, ordered by node and relationship."""
        parts = [run.entries() for run in self.runs]
        if self.tail_count:
            parts.append(_ordered(self._tail_entries()))
        entries = _merged(parts)
        if self.dead:
            mask = alive(entries[1])
            entries = entries[0][mask], entries[1][mask], entries[2][mask]
        return entries

    def bury(self, count: int, alive: Alive) -> None:
        """Note ``count`` deleted entries; compact the group when many are dead."""
        self.dead += count
        if 2 * self.dead > self.size + _DEAD_SPARE or self.dead == self.size:
            entries = self.entries(alive)
            self.tail, self.tail_count, self.dead = None, 0, 0
            self.size = len(entries[0])
            self.runs = (_Run.of(*entries),) if self.size else ()

    def neighbourhood(self, local: int, alive: Alive) -> tuple[IntArray, IntArray]:
        """Relationships and neighbours of one node, ascending by relationship."""
        relationships, neighbours = _EMPTY, _EMPTY
        parts = 0
        for run in self.runs:
            low, high = run.offsets.item(local), run.offsets.item(local + 1)
            if low < high:
                parts += 1
                if parts == 1:
                    relationships = run.relationships[low:high]
                    neighbours = run.neighbours[low:high]
                else:
                    relationships = np.concatenate((relationships, run.relationships[low:high]))
                    neighbours = np.concatenate((neighbours, run.neighbours[low:high]))
        count = self.tail_count
        if count and self.tail is not None:
            hits = (self.tail[0, :count] == local).nonzero()[0]
            if hits.size:
                parts += 1 if hits.size == 1 else 2
                relationships = np.concatenate((relationships, self.tail[1].take(hits)))
                neighbours = np.concatenate((neighbours, self.tail[2].take(hits)))
        if self.dead and relationships.size:
            mask = alive(relationships)
            relationships, neighbours = relationships[mask], neighbours[mask]
        if parts > 1:
            order = relationships.argsort()
            relationships, neighbours = relationships[order], neighbours[order]
        return relationships, neighbours

    def degrees(self, local: IntArray, alive: Alive) -> IntArray:
        """Entries of many nodes, counted."""
        if self.dead:
            return np.bincount(self.expand(local, alive)[0], minlength=len(local))
        counts = np.zeros(len(local), dtype=np.int64)
        for run in self.runs:
            counts += run.offsets[local + 1] - run.offsets[local]
        if self.tail_count and self.tail is not None:
            tail = np.bincount(self.tail[0, : self.tail_count], minlength=CHUNK_IDS)
            counts += tail[local]
        return counts

    def expand(self, local: IntArray, alive: Alive) -> Edges:
        """Entries of many nodes; rows are positions in ``local``. Order: row, relationship."""
        found: list[Edges] = []
        for run in self.runs:
            starts = run.offsets[local]
            counts = run.offsets[local + 1] - starts
            index = spans(starts, counts)
            if index.size:
                rows = np.repeat(np.arange(len(local)), counts)
                found.append((rows, run.relationships[index], run.neighbours[index]))
        if self.tail_count and self.tail is not None:
            found.append(_join_tail(self.tail[:, : self.tail_count], local))
        rows, relationships, neighbours = _concatenated(found)
        if self.dead and rows.size:
            mask = alive(relationships)
            rows, relationships, neighbours = rows[mask], relationships[mask], neighbours[mask]
        return rows, relationships, neighbours


def _join_tail(tail: IntArray, local: IntArray) -> Edges:
    """Match every row of ``local`` (repeats allowed) with the tail entries of that node."""
    order = np.lexsort((tail[1], tail[0]))
    nodes = tail[0][order]
    starts = nodes.searchsorted(local, "left")
    counts = nodes.searchsorted(local, "right") - starts
    index = order[spans(starts, counts)]
    return np.repeat(np.arange(len(local)), counts), tail[1][index], tail[2][index]


def _concatenated(found: list[Edges]) -> Edges:
    if not found:
        return _EMPTY, _EMPTY, _EMPTY
    if len(found) == 1:
        return found[0]
    rows, relationships, neighbours = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(relationships), np.concatenate(neighbours)


class _Flat:
    """One CSR for all nodes. ``bounds[node + 1]`` is where a node's entries start.

    One further cell at either end makes a clipped ``take`` give nothing for unknown nodes.
    """

    __slots__ = ("bounds", "dirty", "dirty_any", "neighbours", "relationships")

    def __init__(self, bounds: IntArray, relationships: IntArray, neighbours: IntArray) -> None:
        self.bounds = bounds
        self.relationships = relationships
        self.neighbours = neighbours
        groups = (len(bounds) - 3) >> CHUNK_BITS
        self.dirty: npt.NDArray[np.bool_] = np.zeros(groups + 2, dtype=np.bool_)
        self.dirty_any = False

    def copy(self) -> _Flat:
        twin = _Flat.__new__(_Flat)
        twin.bounds, twin.relationships = self.bounds, self.relationships
        twin.neighbours = self.neighbours
        twin.dirty, twin.dirty_any = self.dirty.copy(), self.dirty_any
        return twin

    def mark(self, number: int) -> None:
        last = len(self.dirty) - 1
        self.dirty[number + 1 if number < last else last] = True
        self.dirty_any = True

    def expand(self, ids: IntArray) -> Edges:
        starts = self.bounds.take(ids + 1, mode="clip")
        counts = self.bounds.take(ids + 2, mode="clip") - starts
        index = spans(starts, counts)
        rows = np.repeat(np.arange(len(ids)), counts)
        return rows, self.relationships.take(index), self.neighbours.take(index)


class Adjacency:
    """The entries of one relationship type in one direction, copied on write by group."""

    __slots__ = ("_debt", "_flat", "epoch", "groups")

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.groups: dict[int, _Group] = {}
        self._flat: _Flat | None = None
        self._debt = 0

    def copy(self, epoch: Epoch) -> Adjacency:
        twin = Adjacency(epoch)
        twin.groups = self.groups.copy()
        flat = self._flat
        twin._flat = None if flat is None else flat.copy()
        twin._debt = self._debt
        return twin

    def _own(self, number: int) -> _Group:
        group = self.groups.get(number)
        if group is None:
            group = self.groups[number] = _Group(self.epoch)
        elif group.epoch is not self.epoch:
            group = self.groups[number] = group.copy(self.epoch)
        if self._flat is not None:
            self._flat.mark(number)
        return group

    # writes (by the root that owns this epoch; the relationship table is up to date already)

    def add_one(self, node: int, relationship: int, neighbour: int, alive: Alive) -> None:
        group = self._own(node >> CHUNK_BITS)
        group.append_one(node & CHUNK_MASK, relationship, neighbour, alive)

    def add(
        self, nodes: IntArray, relationships: IntArray, neighbours: IntArray, alive: Alive
    ) -> None:
        """Add entries; ``relationships`` ascending."""
        for number, rows, offsets, _ in pieces(nodes):
            if isinstance(offsets, slice):
                offsets = np.arange(offsets.start, offsets.stop)
            self._own(number).append(offsets, relationships[rows], neighbours[rows], alive)

    def remove(self, nodes: IntArray, alive: Alive) -> None:
        """Count one deleted entry for each element of ``nodes`` (repeats allowed)."""
        for number, _, _, count in pieces(nodes):
            group = self._own(number)
            group.bury(count, alive)
            if not group.size:
                del self.groups[number]

    # reads

    def neighbourhood(self, node: int, alive: Alive) -> tuple[IntArray, IntArray]:
        """Relationships and neighbours of one node, ascending by relationship."""
        group = self.groups.get(node >> CHUNK_BITS)
        if group is None:
            return _EMPTY, _EMPTY
        return group.neighbourhood(node & CHUNK_MASK, alive)

    def degree(self, node: int, alive: Alive) -> int:
        """Entries of one node."""
        group = self.groups.get(node >> CHUNK_BITS)
        if group is None:
            return 0
        local = node & CHUNK_MASK
        if group.dead:
            return len(group.neighbourhood(local, alive)[0])
        total = 0
        for run in group.runs:
            total += run.offsets.item(local + 1) - run.offsets.item(local)
        if group.tail_count and group.tail is not None:
            total += int(np.count_nonzero(group.tail[0, : group.tail_count] == local))
        return total

    def degrees(self, ids: IntArray, alive: Alive) -> IntArray:
        """Entries of many nodes."""
        flat = self._flat
        if flat is not None and not flat.dirty_any:
            return flat.bounds.take(ids + 2, mode="clip") - flat.bounds.take(ids + 1, mode="clip")
        # Each node once: a hub that many rows end at is not to be counted for each of them.
        nodes, places = np.unique(ids, return_inverse=True)
        counts = np.zeros(len(nodes), dtype=np.int64)
        for number, rows, offsets, _ in pieces(nodes):
            group = self.groups.get(number)
            if group is not None:
                if isinstance(offsets, slice):
                    offsets = np.arange(offsets.start, offsets.stop)
                counts[rows] = group.degrees(offsets, alive)
        return counts[places]

    def expand(self, ids: IntArray, alive: Alive) -> Edges:
        """Entries of many nodes; rows are positions in ``ids``. Order: row, relationship."""
        flat = self._flat
        if flat is None:
            return self._expand_groups(ids, alive)
        if not flat.dirty_any:
            return flat.expand(ids)
        dirty = flat.dirty.take((ids >> CHUNK_BITS) + 1, mode="clip")
        slow = np.flatnonzero(dirty)
        if not slow.size:
            return flat.expand(ids)
        quick = np.flatnonzero(~dirty)
        rows, relationships, neighbours = self._expand_groups(ids[slow], alive)
        if not quick.size:
            return rows, relationships, neighbours
        more = flat.expand(ids[quick])
        both = np.concatenate((quick[more[0]], slow[rows]))
        order = _row_order(both, len(ids))  # a row is in one of the two, so this is total
        return (
            both[order],
            np.concatenate((more[1], relationships))[order],
            np.concatenate((more[2], neighbours))[order],
        )

    def _expand_groups(self, ids: IntArray, alive: Alive) -> Edges:
        if not len(ids) or not self.groups:
            return _EMPTY, _EMPTY, _EMPTY
        found: list[Edges] = []
        parts = pieces(ids)
        simple = True
        for number, rows, offsets, _ in parts:
            group = self.groups.get(number)
            if group is None:
                continue
            if isinstance(offsets, slice):
                offsets = np.arange(offsets.start, offsets.stop)
            simple = simple and len(group.runs) + (group.tail_count > 0) == 1
            local_rows, relationships, neighbours = group.expand(offsets, alive)
            if isinstance(rows, slice):
                found.append((local_rows + rows.start, relationships, neighbours))
            else:
                found.append((rows[local_rows], relationships, neighbours))
        self._debt += len(parts)
        if self._debt > len(self.groups) + self._size() // _ENTRIES_PER_PIECE + 16:
            self._flatten(alive)
        edges = _concatenated(found)
        if simple and isinstance(parts[0].rows, slice):
            return edges
        order = np.lexsort((edges[1], edges[0]))
        return edges[0][order], edges[1][order], edges[2][order]

    def _size(self) -> int:
        return sum([group.size for group in self.groups.values()])

    def _flatten(self, alive: Alive) -> None:
        self._debt = 0
        numbers = sorted(self.groups)
        group_count = numbers[-1] + 1
        if group_count > 8 * len(numbers) + 64:
            return
        parts = {number: self.groups[number].entries(alive) for number in numbers}
        total = sum([len(part[0]) for part in parts.values()])
        bounds = np.zeros(group_count * CHUNK_IDS + 3, dtype=np.int64)
        relationships = np.empty(total, dtype=np.int64)
        neighbours = np.empty(total, dtype=np.int64)
        position = 0
        for number in range(group_count):
            start = number * CHUNK_IDS + 1
            part = parts.pop(number, None)
            if part is None:
                bounds[start : start + CHUNK_IDS + 1] = position
                continue
            end = position + len(part[0])
            relationships[position:end] = part[1]
            neighbours[position:end] = part[2]
            offsets = bounds[start : start + CHUNK_IDS + 1]
            offsets[0] = position
            np.cumsum(np.bincount(part[0], minlength=CHUNK_IDS), out=offsets[1:])
            offsets[1:] += position
            group = _Group(None)
            group.runs = (_Run(offsets, neighbours, relationships),)
            group.size = end - position
            self.groups[number] = group
            position = end
        bounds[-1] = position
        self._flat = _Flat(bounds, relationships, neighbours)

    def memory_bytes(self) -> int:
        """Bytes of runs and tails, shared ones included."""
        total = 0
        for group in self.groups.values():
            total += len(group.runs) * (CHUNK_IDS + 1) * 8 + group.size * 16
            total += 0 if group.tail is None else group.tail.nbytes
        return total


def _row_order(rows: IntArray, count: int) -> npt.NDArray[Any]:
    keys: npt.NDArray[Any] = rows.astype(np.uint16) if count <= 65_536 else rows
    return np.argsort(keys, kind="stable")
