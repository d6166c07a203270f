"""Graph values as a client sees them: node, relationship, path.

Scalars are Python's own (``None``, ``bool``, ``int`` of 64 bits, ``float``, ``str``, ``bytes``,
``list``, ``dict`` with ``str`` keys). Temporal and spatial values are those of the ``neo4j``
package (``neo4j.time``, ``neo4j.spatial``), so that a value leaves the engine in the form the
driver's users know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Node", "Path", "Relationship", "Value"]

# None, bool, int, float, str, bytes, list, dict, temporal, point, Node, Relationship, Path
Value = Any


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node at the moment it was read. Two nodes are equal if their ids are."""

    id: int
    labels: tuple[str, ...]
    properties: dict[str, Value]

    @property
    def element_id(self) -> str:
        return str(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and other.id == self.id

    def __hash__(self) -> int:
        return hash(("node", self.id))


@dataclass(frozen=True, slots=True, eq=False)
class Relationship:
    """A relationship at the moment it was read; ``start`` and ``end`` are node ids."""

    id: int
    type: str
    start: int
    end: int
    properties: dict[str, Value]

    @property
    def element_id(self) -> str:
        return str(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Relationship) and other.id == self.id

    def __hash__(self) -> int:
        return hash(("relationship", self.id))


@dataclass(frozen=True, slots=True)
class Path:
    """Alternating nodes and relationships: ``len(nodes) == len(relationships) + 1``.

    Relationship ``i`` joins node ``i`` and node ``i + 1``, in either direction.
    """

    nodes: tuple[Node, ...]
    relationships: tuple[Relationship, ...]
