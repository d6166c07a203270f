"""Indexes and constraints: descriptions, entries, and the schema that holds them.

*Superset.* An index maps a key (``keys.py``) to the nodes that have, had, or in some root not
seen here will have, that key. The invariant: **an index holds at least every entry of every root
that refers to it.** A root adds to its own index whenever it writes a value; a fork refers to the
same object; nothing is ever taken out. So a reader verifies each candidate against its own root
(has the label, has the value), and an index costs nothing to fork.

*Sweeping.* Entries of aborted, overwritten or deleted values are garbage. When a root finds more
than twice as many entries as it can have live ones, it builds a new index from its own contents
and refers to that from then on. The new index is a superset of that root by construction, and of
its later forks, which add to it; every other root still refers to the old object, to which
nobody has done anything. So no reader is disturbed and the invariant holds with no coordination;
the old index is freed with the last root that refers to it.

*Ranges.* Keys that are numbers or strings are also kept in sorted runs of at most 16,384 keys,
made when a range is first asked for; a range bisects every run. Runs are small so that sorting
one holds the interpreter lock for a few milliseconds only.

Threads: writers take the index's lock (roots of several threads may share it); readers need
none, since a dictionary lookup and a list copy are atomic.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graph.errors import SchemaError
from graph.keys import Key
from graph.layers import SLICE_KEYS, Layers

__all__ = [
    "GARBAGE_SPARE",
    "ConstraintInfo",
    "ConstraintSpec",
    "Index",
    "IndexInfo",
    "IndexSpec",
    "Schema",
]

LABEL, RANGE, UNIQUE = "label", "range", "unique"

_RUN_KEYS = 16_384
GARBAGE_SPARE = 4_096


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index to create: kind ``label`` (no properties) or ``range``."""

    label: str
    properties: tuple[str, ...] = ()
    kind: str = RANGE
    name: str | None = None
    entity: str = "node"

    def resolved_name(self) -> str:
        return self.name or "_".join(("index", self.label, *self.properties))


@dataclass(frozen=True, slots=True)
class ConstraintSpec:
    """A uniqueness constraint to create."""

    label: str
    properties: tuple[str, ...]
    kind: str = UNIQUE
    name: str | None = None
    entity: str = "node"

    def resolved_name(self) -> str:
        return self.name or "_".join(("constraint", self.label, *self.properties))


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index that exists. ``constraint`` names the constraint that owns it, if one does."""

    name: str
    kind: str
    entity: str
    label: str
    properties: tuple[str, ...]
    constraint: str | None = None


@dataclass(frozen=True, slots=True)
class ConstraintInfo:
    """A constraint that exists; it owns an index of the same name."""

    name: str
    kind: str
    entity: str
    label: str
    properties: tuple[str, ...]


class Index:
    """Node ids by key: an int for one node, a list (with repeats, unordered) for several."""

    __slots__ = ("_fresh", "_lock", "_runs", "entries", "info", "size", "sweep_size")

    def __init__(self, info: IndexInfo) -> None:
        self.info = info
        self.entries: Layers[Key, int | list[int]] = Layers()
        self.size = 0
        self.sweep_size = GARBAGE_SPARE  # below this, asking again is no use
        self._lock = threading.Lock()
        self._runs: list[list[Any]] = []  # sorted distinct keys, numbers and strings apart
        self._fresh: list[Any] = []  # distinct keys in no run yet

    @property
    def unique(self) -> bool:
        return self.info.constraint is not None

    @property
    def single(self) -> bool:
        return len(self.info.properties) == 1

    # writes

    def add_one(self, key: Key, node: int) -> None:
        with self._lock:
            self._add(key, node)

    def add(self, keys: Sequence[Key | None], nodes: Sequence[int]) -> None:
        """Add an entry for each pair whose key is not None."""
        with self._lock:
            for start in range(0, len(keys), SLICE_KEYS):
                stop = start + SLICE_KEYS
                self._add_slice(keys[start:stop], nodes[start:stop])

    def _add_slice(self, keys: Sequence[Key | None], nodes: Sequence[int]) -> None:
        distinct = {key for key in keys if key is not None}
        if len(distinct) == len(keys) and self.entries.isdisjoint(distinct):
            self._fresh.extend(keys)
            self.entries.add_many(keys, nodes)
            self.size += len(keys)
            return
        for key, node in zip(keys, nodes, strict=True):
            if key is not None:
                self._add(key, node)

    def _add(self, key: Key, node: int) -> None:
        current = self.entries.get(key)
        if current is None:
            self._fresh.append(key)
            self.entries.add(key, node)
        elif isinstance(current, int):
            if current == node:
                return
            self.entries[key] = [current, node]
        else:
            if current[-1] == node:
                return
            current.append(node)
        self.size += 1

    def needs_sweep(self, live_max: int) -> bool:
        """Whether garbage outweighs the entries that the asking root can have at most."""
        self.sweep_size = 2 * live_max + GARBAGE_SPARE
        return self.size > self.sweep_size

    # reads

    def candidates(self, key: Key) -> list[int]:
        """Nodes that may have ``key``: at least all that do."""
        found = self.entries.get(key)
        if found is None:
            return []
        return [found] if isinstance(found, int) else found.copy()

    def range_candidates(
        self, low: Any, low_inclusive: bool, high: Any, high_inclusive: bool
    ) -> list[int]:
        """Nodes whose key may lie between ``low`` and ``high`` (None: no bound on that side).

        The bounds are both numbers or both strings; keys of other types are passed over.
        """
        texts = isinstance(low if low is not None else high, str)
        keys: list[Any] = []
        for run in self._sorted_runs():
            if isinstance(run[0], str) is not texts:
                continue
            first = 0
            if low is not None:
                first = bisect_left(run, low) if low_inclusive else bisect_right(run, low)
            last = len(run)
            if high is not None:
                last = bisect_right(run, high) if high_inclusive else bisect_left(run, high)
            keys += run[first:last]
        nodes: list[int] = []
        for key in keys:
            found = self.entries.get(key)
            if isinstance(found, int):
                nodes.append(found)
            elif found is not None:
                nodes += found
        return nodes

    def _sorted_runs(self) -> list[list[Any]]:
        """All distinct numbers and strings in sorted runs; runs that are full are kept."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
            if fresh:
                runs = self._runs
                numbers = [k for k in fresh if isinstance(k, (int, float))]
                texts = [k for k in fresh if isinstance(k, str)]
                self._runs = _with_keys(_with_keys(runs, numbers), texts)
            return self._runs


def _with_keys(runs: list[list[Any]], keys: list[Any]) -> list[list[Any]]:
    """``runs`` with further keys of one type: short runs of that type are filled up first."""
    if not keys:
        return runs
    texts = isinstance(keys[0], str)
    result: list[list[Any]] = []
    for run in runs:
        if len(run) < _RUN_KEYS and isinstance(run[0], str) is texts:
            keys = run + keys
        else:
            result.append(run)
    starts = range(0, len(keys), _RUN_KEYS)
    return result + [sorted(keys[start : start + _RUN_KEYS]) for start in starts]


class Schema:
    """The indexes and constraints of a root. Immutable; a change makes a new schema."""

    __slots__ = (
        "__weakref__",
        "by_key",
        "by_label",
        "constraints",
        "filled",
        "indexes",
        "unique",
    )

    def __init__(
        self,
        indexes: dict[str, Index] | None = None,
        constraints: dict[str, ConstraintInfo] | None = None,
    ) -> None:
        self.indexes = indexes or {}
        self.constraints = constraints or {}
        # Label indexes are descriptions only: labels are always indexed by their bitmaps.
        self.filled = [index for index in self.indexes.values() if index.info.properties]
        self.by_label: dict[str, list[Index]] = {}
        self.by_key: dict[str, list[Index]] = {}
        for index in self.filled:
            self.by_label.setdefault(index.info.label, []).append(index)
            for key in index.info.properties:
                self.by_key.setdefault(key, []).append(index)
        self.unique = [index for index in self.filled if index.unique]

    def find(self, label: str, properties: tuple[str, ...], kind: str = RANGE) -> Index | None:
        """The index on exactly these properties, in this order."""
        for index in self.indexes.values():
            info = index.info
            if info.label == label and info.properties == properties:
                return index
        return None

    def replaced(self, index: Index) -> Schema:
        """With another ``Index`` object of the same name."""
        return Schema({**self.indexes, index.info.name: index}, self.constraints)

    def with_index(self, index: Index, constraint: ConstraintInfo | None = None) -> Schema:
        constraints = self.constraints
        if constraint is not None:
            constraints = {**constraints, constraint.name: constraint}
        return Schema({**self.indexes, index.info.name: index}, constraints)

    def without_index(self, name: str) -> Schema:
        """Raises ``SchemaError`` if there is no such index or a constraint owns it."""
        index = self.indexes.get(name)
        if index is None:
            raise SchemaError(
                f"there is no index named {name!r}",
                code="Neo.ClientError.Schema.IndexNotFound",
            )
        if index.info.constraint is not None:
            raise SchemaError(
                f"index {name!r} belongs to a constraint; drop constraint {name!r} instead",
                code="Neo.ClientError.Schema.ForbiddenOnConstraintIndex",
            )
        return Schema(_without(self.indexes, name), self.constraints)

    def without_constraint(self, name: str) -> Schema:
        """Raises ``SchemaError`` if there is no such constraint."""
        if name not in self.constraints:
            raise SchemaError(
                f"there is no constraint named {name!r}",
                code="Neo.ClientError.Schema.ConstraintNotFound",
            )
        return Schema(_without(self.indexes, name), _without(self.constraints, name))


def _without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}
