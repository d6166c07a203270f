"""What a statement still knows of relationships that it has deleted.

openCypher lets a query ask for the type of a relationship after DELETE, and return the relationship
itself, while its properties are gone. The root forgets at once, so the statement remembers: four
arrays for each DELETE.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graph.values import Node, Relationship
from graph.vector import IntArray

__all__ = ["Graves"]


class Graves:
    """Deleted relationships of one statement, and a source of entities that knows them."""

    __slots__ = ("_buried", "_known", "_root")

    def __init__(self, root: Any) -> None:
        self._root = root
        self._buried: list[tuple[IntArray, ...]] = []
        self._known: dict[int, tuple[str, int, int]] = {}

    def bury(self, ids: IntArray) -> None:
        """Remember live relationships that are about to be deleted."""
        sources, targets = self._root.relationship_ends(ids)
        self._buried.append((ids, self._root.relationship_types(ids), sources, targets))

    def _find(self, id: int) -> tuple[str, int, int] | None:
        """(type, source, target). Nobody asks after most deletions, so it is looked up late."""
        for columns in self._buried:
            for buried, number, source, target in zip(*(c.tolist() for c in columns), strict=True):
                self._known[buried] = (self._root.type_name(number), source, target)
        self._buried.clear()
        return self._known.get(id)

    def type_of(self, id: int) -> str | None:
        found = self._find(id)
        return None if found is None else found[0]

    # ----------------------------------------------------------------- a source of entities

    def nodes(self, ids: IntArray, /) -> list[Node]:
        found: list[Node] = self._root.nodes(ids)
        return found

    def relationships(self, ids: IntArray, /) -> list[Relationship]:
        """As ``Root.relationships``; a deleted one has its type and ends, and no properties."""
        alive = self._root.relationships_alive(ids)
        living = iter(self._root.relationships(ids[np.flatnonzero(alive)]))
        return [
            next(living) if ok else self._dead(id)
            for id, ok in zip(ids.tolist(), alive.tolist(), strict=True)
        ]

    def _dead(self, id: int) -> Relationship:
        found = self._find(id)
        assert found is not None, "only this statement can have deleted what it still refers to"
        return Relationship(id, *found, {})
