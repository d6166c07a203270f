"""The root: one state of the graph.

    state.py           the pieces and how they are shared
      reads.py         scans, properties, entities, topology
        index_reads.py lookups in indexes
          store.py     Root: fork and apply
    validate.py, apply.py, schema_changes.py   what ``Root.apply`` does

``Root.apply`` is the only function that changes a root. ``Root.fork`` gives a second root with
the same contents in some microseconds; after it the two diverge by copy on write.

*Threads.* At most one thread changes a given root, and nobody reads it meanwhile; a root that is
not changed may be read and forked by any number of threads. Roots that share pieces may be
changed in different threads at once: a shared piece is never written to, except heaps and
indexes, which only grow, under their own locks.
"""

from __future__ import annotations

import threading

from graph.apply import apply
from graph.index_reads import IndexReads
from graph.write_set import Counters, WriteSet

__all__ = ["IdAllocator", "Root"]


class IdAllocator:
    """Hands out ids for new nodes and relationships, each once.

    Lives on the leader only. Ranges that an aborted transaction took are never used: holes.
    """

    __slots__ = ("_lock", "_next_node", "_next_relationship")

    def __init__(self, next_node: int, next_relationship: int) -> None:
        self._lock = threading.Lock()
        self._next_node = next_node
        self._next_relationship = next_relationship

    def nodes(self, count: int) -> int:
        """The first of ``count`` new consecutive node ids."""
        with self._lock:
            first = self._next_node
            self._next_node = first + count
        return first

    def relationships(self, count: int) -> int:
        """The first of ``count`` new consecutive relationship ids."""
        with self._lock:
            first = self._next_relationship
            self._next_relationship = first + count
        return first

    def skip_to(self, next_node: int, next_relationship: int) -> None:
        """Hand out no ids below these any more."""
        with self._lock:
            self._next_node = max(self._next_node, next_node)
            self._next_relationship = max(self._next_relationship, next_relationship)


class Root(IndexReads):
    """One state of the graph."""

    __slots__ = ()

    @staticmethod
    def empty() -> Root:
        """A graph with nothing in it."""
        return Root()

    def fork(self) -> Root:
        """Another root with the same contents. The caller may change either from now on."""
        twin = Root.__new__(Root)
        twin._become_fork_of(self)
        return twin

    def apply(self, write_set: WriteSet) -> Counters:
        """Change this root, or raise and change nothing.

        Raises ``ConflictError`` if an entity that the write set needs is gone,
        ``ConstraintError`` if a key is taken or a node to delete still has relationships,
        ``SchemaError`` for schema that exists already or is missing, ``GraphError`` for a write
        set that makes no sense (an id used twice, schema and data mixed).
        """
        return apply(self, write_set)
